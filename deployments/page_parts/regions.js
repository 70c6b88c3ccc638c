// From the answer's COCO run lengths to a map of objects of the preview's size.

// The lengths of the stretches of 0 and 1 by turns, 0 first. Source: rleFrString of cocoapi.
function runLengths(text) {
  const lengths = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    lengths.push(lengths.length > 2 ? value + lengths[lengths.length - 2] : value);
  }
  return lengths;
}

// Int32Array (height * width): the object's place in the list plus 1, 0 where none is. Each pixel takes the photo's pixel at its middle.
function regionMap(objects, [photoHeight, photoWidth], width, height) {
  const columnOf = new Int32Array(photoWidth).fill(-1);
  for (let x = 0; x < width; x++) columnOf[Math.floor((x + 0.5) * photoWidth / width)] = x;
  const rowsAbove = new Int32Array(photoHeight + 1);  // how many of the map's rows lie above this one of the photo
  for (let y = 0; y < height; y++) rowsAbove[Math.floor((y + 0.5) * photoHeight / height) + 1]++;
  for (let y = 0; y < photoHeight; y++) rowsAbove[y + 1] += rowsAbove[y];

  const map = new Int32Array(width * height);
  objects.forEach((object, place) => {
    let start = 0;
    runLengths(object.segmentation.counts).forEach((length, turn) => {
      if (turn % 2) paint(start, start + length, place + 1);
      start += length;
    });
  });
  return map;

  function paint(start, end, number) {  // COCO counts down the columns
    while (start < end) {
      const photoX = Math.floor(start / photoHeight), top = start - photoX * photoHeight;
      const bottom = Math.min(photoHeight, top + end - start), x = columnOf[photoX];
      start += bottom - top;
      if (x < 0) continue;
      for (let y = rowsAbove[top]; y < rowsAbove[bottom]; y++) map[y * width + x] = number;
    }
  }
}

// For each object the pixel farthest from its edge and that distance: where a name fits. Chamfer distances, 3 a step and 4 a diagonal one.
function deepestPlaces(map, width, height, count) {
  const depth = new Uint16Array(map.length);
  const places = Array.from({ length: count }, () => ({ x: 0, y: 0, depth: 0 }));
  const near = (at, x, y, dx, dy) => {
    const inside = x + dx >= 0 && x + dx < width && y + dy >= 0 && y + dy < height;
    const other = at + dy * width + dx;
    return (inside && map[other] === map[at] ? depth[other] : 0) + (dx && dy ? 4 : 3);
  };
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at++) {
    if (map[at]) depth[at] = Math.min(near(at, x, y, -1, 0), near(at, x, y, -1, -1), near(at, x, y, 0, -1), near(at, x, y, 1, -1));
  }
  for (let y = height - 1, at = map.length - 1; y >= 0; y--) for (let x = width - 1; x >= 0; x--, at--) {
    if (!map[at]) continue;
    depth[at] = Math.min(depth[at], near(at, x, y, 1, 0), near(at, x, y, 1, 1), near(at, x, y, 0, 1), near(at, x, y, -1, 1));
    const place = places[map[at] - 1];
    if (depth[at] > place.depth * 3) Object.assign(place, { x, y, depth: depth[at] / 3 });
  }
  return places;
}
