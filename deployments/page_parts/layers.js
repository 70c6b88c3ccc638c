// What is drawn over the photo: tints, outlines, names, and the one object that is pointed at.

const LINE = 1.5, SPOT_LINE = 2.5, SIGN = 20;  // CSS pixels
const rgba = ([red, green, blue], alpha = 255) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const isDark = ([red, green, blue]) => 0.299 * red + 0.587 * green + 0.114 * blue < 140;

class Layers {
  constructor(stage) {
    this.stage = stage;
  }

  // `map` numbers the pixels of the objects from 1; `colorOf` says an object's colour.
  understand(objects, size, width, height, colorOf) {
    Object.assign(this, { objects, size, width, height, colorOf });
    this.map = regionMap(objects, size, width, height);
    this.places = deepestPlaces(this.map, width, height, objects.length);
  }

  draw(isShown, withNames) {
    if (!this.map || !this.stage.clientWidth) return;
    const { map } = this, colors = new Uint32Array(this.objects.length + 1), step = this.thickness(LINE);
    this.objects.forEach((object, place) => { if (isShown(object)) colors[place + 1] = rgba(this.colorOf(object.class)); });
    this.paint(".tint", (at) => colors[map[at]]);
    this.paint(".lines", (at, x, y) => colors[map[at]] && this.touches(at, x, y, step, (other) => other !== map[at]) ? colors[map[at]] : 0);
    this.drawSigns(isShown, withNames);
  }

  // The object with this number as if light fell on it; 0 takes the light away.
  drawSpot(number) {
    if (!number) return this.paint(".spot", () => 0, [0, 0, 0, 0]);
    const step = this.thickness(SPOT_LINE), { map, width, height } = this, [x, y, wide, tall] = this.objects[number - 1].box;
    const scaleX = width / this.size[1], scaleY = height / this.size[0];
    const frame = [Math.max(0, Math.floor(x * scaleX) - step), Math.max(0, Math.floor(y * scaleY) - step),
      Math.min(width, Math.ceil((x + wide) * scaleX) + step), Math.min(height, Math.ceil((y + tall) * scaleY) + step)];
    const white = rgba([255, 255, 255]), light = rgba([255, 255, 255], 60), dark = rgba([0, 0, 0], 190);
    const isIt = (other) => other === number, isOther = (other) => other !== number;
    this.paint(".spot", (at, x, y) => {
      if (isIt(map[at])) return this.touches(at, x, y, step, isOther) ? white : light;
      return this.touches(at, x, y, step, isIt) ? dark : 0;
    }, frame);
  }

  drawSigns(isShown, withNames) {
    const canvas = this.stage.querySelector(".signs"), density = window.devicePixelRatio, { clientWidth: width, clientHeight: height } = this.stage;
    [canvas.width, canvas.height] = [width * density, height * density];
    if (!withNames) return;
    const brush = canvas.getContext("2d"), scale = width / this.width, taken = [];
    brush.scale(density, density);
    brush.font = `600 13px ${getComputedStyle(this.stage).fontFamily}`;
    brush.textBaseline = "middle";
    this.objects.forEach((object, place) => {
      const { x, y, depth } = this.places[place];
      if (!isShown(object) || 2 * depth * scale < SIGN) return;
      const wide = brush.measureText(object.class).width + 12;
      const left = Math.max(2, Math.min((x + 0.5) * scale - wide / 2, width - wide - 2));
      const top = Math.max(2, Math.min((y + 0.5) * scale - SIGN / 2, height - SIGN - 2));
      if (taken.some((other) => left < other.left + other.wide + 2 && other.left < left + wide + 2 && Math.abs(top - other.top) < SIGN + 2)) return;
      taken.push({ left, top, wide });
      const color = this.colorOf(object.class);
      brush.fillStyle = `rgb(${color})`;
      brush.beginPath();
      brush.roundRect(left, top, wide, SIGN, 5);
      brush.fill();
      brush.fillStyle = isDark(color) ? "#fff" : "#000";
      brush.fillText(object.class, left + 6, top + SIGN / 2 + 1);
    });
  }

  thickness(pixels) {
    return Math.max(1, Math.round(pixels * this.width / this.stage.clientWidth));
  }

  // Whether one of the four pixels that are `step` away holds it.
  touches(at, x, y, step, holds) {
    const { map, width, height } = this;
    return (x >= step && holds(map[at - step])) || (x + step < width && holds(map[at + step]))
      || (y >= step && holds(map[at - step * width])) || (y + step < height && holds(map[at + step * width]));
  }

  paint(selector, colorAt, [left, top, right, bottom] = [0, 0, this.width, this.height]) {
    const canvas = this.stage.querySelector(selector);
    [canvas.width, canvas.height] = [this.width, this.height];  // which empties it
    if (right <= left || bottom <= top) return;
    const picture = new ImageData(right - left, bottom - top), pixels = new Uint32Array(picture.data.buffer);
    for (let y = top, to = 0; y < bottom; y++) for (let x = left, at = y * this.width + left; x < right; x++, at++) pixels[to++] = colorAt(at, x, y);
    canvas.getContext("2d").putImageData(picture, left, top);
  }
}
