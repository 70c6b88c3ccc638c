// The photo with the answer over it, the legend, and the objects. One `Viewer` lives in each mounted component; `show` gives it what to show.

const MOST_ROWS = 300;
const percent = (share) => share > 0 && share < 0.001 ? "<0.1\u2009%" : `${(100 * share).toFixed(1)}\u2009%`;
const wholePercent = (share) => `${Math.round(100 * share)}\u2009%`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function swatch(color) {
  const made = element("span", { className: "swatch" });
  made.style.setProperty("--color", `rgb(${color})`);
  return made;
}

class Viewer {
  hidden = new Set();  // names of classes; they stay hidden when another photo comes
  objects = [];
  pinned = 0;  // an object's place plus 1, 0 for none, as on the map of the layers
  hovered = 0;
  titles = [];  // of the objects; the n-th of its class among those that are sure enough
  isShown = (object) => object.score >= this.leastScore && !this.hidden.has(object.class);
  color = (name) => this.colors.get(name) ?? [128, 128, 128];  // grey: a class of a model that was replaced meanwhile

  constructor(root, leastScore) {
    this.root = root.querySelector(".viewer");
    this.find = (selector) => this.root.querySelector(selector);
    this.stage = this.find(".stage");
    this.layers = new Layers(this.stage);
    this.leastScore = leastScore;
    this.root.dataset.view = "overlay";
    this.find(".tint").style.opacity = this.find(".opacity").value / 100;
    this.find(".least").value = 100 * leastScore;
    this.find("output").textContent = wholePercent(leastScore);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  listen() {
    for (const radio of this.root.querySelectorAll(".views input")) radio.onchange = () => this.choose(radio.value);
    this.find(".opacity").oninput = ({ target }) => { this.find(".tint").style.opacity = target.value / 100; };
    this.find(".names").onchange = () => this.draw();
    this.find(".divider").oninput = ({ target }) => this.stage.style.setProperty("--split", `${target.value}%`);
    this.find(".least").oninput = ({ target }) => {
      this.leastScore = target.value / 100;
      this.find("output").textContent = wholePercent(this.leastScore);
      this.list();
      this.draw();
    };
    this.find(".least").onchange = () => this.tell("least_score", this.leastScore);
    this.find(".all").onclick = () => this.toggleAll();
    this.stage.onpointermove = (event) => this.hover(this.numberAt(event), event);
    this.stage.onpointerleave = () => this.hover(0);
    this.stage.onclick = (event) => this.pin(this.numberAt(event));
    this.root.onkeydown = ({ key }) => { if (key === "Escape") this.pin(this.pinned); };
  }

  async show(data) {
    this.data = data;
    this.root.toggleAttribute("data-empty", !data.answer);
    this.root.toggleAttribute("data-none", Boolean(data.none));
    this.setWords(data.words);
    this.find(".none").textContent = data.none ?? "";
    if (data.heat) this.find(".heat").src = data.heat;
    else this.find(".heat").removeAttribute("src");
    if (data.id !== this.shown) {
      await Object.assign(new Image(), { src: data.photo }).decode();  // so that photo and answer change at once
      if (data !== this.data) return;  // another photo came meanwhile
      this.understand(data);
    }
    this.choose(this.root.dataset.view);
  }

  understand({ id, photo, answer, labels, width, height }) {
    this.shown = id;
    this.stage.style.setProperty("--ratio", width / height);
    if (this.find(".photo").src !== photo) this.find(".photo").src = photo;
    this.objects = answer?.objects ?? [];
    this.colors = new Map(labels.map(({ name, color }) => [name, color]));
    this.layers.understand(this.objects, answer?.size ?? [height, width], width, height, this.color);
    this.pinned = this.hovered = 0;
    this.list();
    this.draw();
    this.drawSpot();
  }

  choose(view) {
    this.root.dataset.view = view;
    const { answer, heat, id, words } = this.data;
    if (view !== "confidence" || !answer || heat) return this.setWords(words);
    this.setWords("Fetching the confidence");
    if (this.asked !== id) this.ask("confidence", true);
    this.asked = id;
  }

  setWords(words) {
    this.root.toggleAttribute("data-words", Boolean(words));
    this.find(".words").textContent = words ?? "";
  }

  // ---- the tables

  list() {
    if (!this.data.answer) return;
    const [height, width] = this.data.answer.size, area = height * width;
    const sure = this.objects.filter(({ score }) => score >= this.leastScore), left = this.objects.length - sure.length;
    const groups = Map.groupBy(sure, (object) => object.class), shareOf = (objects) => objects.reduce((sum, object) => sum + object.area, 0) / area;
    this.titles = this.objects.map((object) => `${object.class} ${(groups.get(object.class)?.indexOf(object) ?? -1) + 1}`);
    this.find(".count").textContent = sure.length === 1 ? "1 object" : `${sure.length} objects`;
    const found = [...groups].map(([name, objects]) => ({ name, count: objects.length, share: shareOf(objects) })).sort((one, other) => other.share - one.share);
    this.names = found.map(({ name }) => name);
    const rest = this.data.labels.find(({ index }) => index === this.data.background);
    const rows = found.map((each) => this.legendRow(each));
    if (rest) rows.push(element("tr", { className: "rest" }, element("td", {}, element("span", { textContent: rest.name })), element("td"),
      element("td", { textContent: percent(1 - shareOf(sure)) })));
    this.find(".legend tbody").replaceChildren(...rows);
    this.find(".objects tbody").replaceChildren(...sure.slice(0, MOST_ROWS).map((object) => this.objectRow(object, area)));
    this.find(".each").hidden = this.find(".all").hidden = !sure.length;
    const more = [sure.length > MOST_ROWS && `${sure.length - MOST_ROWS} smaller ones are only on the picture.`, left && `Hidden, because less sure: ${left}.`];
    this.find(".more").textContent = more.filter(Boolean).join(" ");
    this.find(".photo").alt = `${this.data.name}; found: ${found.map(({ name, count }) => `${count} ${name}`).join(", ") || "nothing"}`;
    this.labelToggle();
  }

  legendRow({ name, count, share }) {
    const box = element("input", { type: "checkbox", checked: !this.hidden.has(name), name });
    box.onchange = () => {
      this.hidden[box.checked ? "delete" : "add"](name);
      this.changeShown();
    };
    const label = element("label", {}, box, swatch(this.color(name)), element("span", { textContent: name }));
    return element("tr", {}, element("td", {}, label), element("td", { textContent: count }), element("td", { textContent: percent(share) }));
  }

  objectRow(object, area) {
    const number = this.objects.indexOf(object) + 1, meter = element("span", { className: "meter" });
    meter.style.setProperty("--part", wholePercent(object.score).replace("\u2009", ""));
    const button = element("button", { type: "button", title: `${percent(object.area / area)} of the photo` },
      swatch(this.color(object.class)), element("span", { className: "name", textContent: this.titles[number - 1] }),
      meter, element("span", { className: "score", textContent: wholePercent(object.score) }));
    button.dataset.number = number;
    button.setAttribute("aria-pressed", String(number === this.pinned));
    button.onclick = () => this.pin(number);
    button.onpointerenter = button.onfocus = () => this.hover(number);
    button.onpointerleave = button.onblur = () => this.hover(0);
    return element("tr", {}, element("td", {}, button));
  }

  toggleAll() {
    const hide = this.names.some((name) => !this.hidden.has(name));
    for (const name of this.names) this.hidden[hide ? "add" : "delete"](name);
    for (const box of this.root.querySelectorAll(".legend input")) box.checked = !hide;
    this.changeShown();
  }

  changeShown() {
    this.labelToggle();
    this.draw();
  }

  labelToggle() {
    this.find(".all").textContent = this.names.some((name) => !this.hidden.has(name)) ? "Hide all" : "Show all";
  }

  draw() {
    this.layers.draw(this.isShown, this.find(".names").checked);
  }

  // ---- one object

  numberAt({ clientX, clientY }) {
    const { map, width, height } = this.layers, frame = this.stage.getBoundingClientRect();
    if (!map || ["photo", "compare"].includes(this.root.dataset.view)) return 0;
    const x = Math.floor((clientX - frame.left) / frame.width * width), y = Math.floor((clientY - frame.top) / frame.height * height);
    const number = x >= 0 && y >= 0 && x < width && y < height ? map[y * width + x] : 0;
    return number && this.isShown(this.objects[number - 1]) ? number : 0;
  }

  hover(number, pointer) {
    const before = this.hovered;
    this.hovered = number;
    if (number !== before) this.drawSpot();
    this.placeTip(pointer);
  }

  // Keeps the light on the object; the second time, or on nothing, takes it away.
  pin(number) {
    this.pinned = number === this.pinned ? 0 : number;
    for (const button of this.root.querySelectorAll(".objects button")) {
      const isPinned = Number(button.dataset.number) === this.pinned;
      button.setAttribute("aria-pressed", String(isPinned));
      if (isPinned) this.scrollTo(button);
    }
    this.drawSpot();
    this.placeTip();
  }

  scrollTo(button) {
    const list = this.find(".scroll"), row = button.getBoundingClientRect(), frame = list.getBoundingClientRect();
    if (row.top < frame.top || row.bottom > frame.bottom) list.scrollTop += row.top - frame.top - frame.height / 2;
  }

  get pointedAt() {
    const number = this.hovered || this.pinned;
    return number && this.isShown(this.objects[number - 1]) ? number : 0;
  }

  drawSpot() {
    this.layers.drawSpot(this.pointedAt);
  }

  placeTip(pointer) {
    const number = this.pointedAt, tip = this.find(".tip");
    tip.classList.toggle("shown", Boolean(number));
    if (!number) return tip.replaceChildren();
    const object = this.objects[number - 1], [height, width] = this.data.answer.size;
    tip.replaceChildren(element("b", { textContent: this.titles[number - 1] }),
      `confidence ${wholePercent(object.score)}, ${percent(object.area / (height * width))} of the photo`);
    const frame = this.stage.getBoundingClientRect(), place = this.layers.places[number - 1];
    const x = pointer ? pointer.clientX - frame.left : (place.x + 0.5) / this.layers.width * frame.width;
    const y = pointer ? pointer.clientY - frame.top : (place.y + 0.5) / this.layers.height * frame.height;
    const left = Math.max(6, Math.min(x + 14, frame.width - tip.offsetWidth - 6));
    const top = y - tip.offsetHeight - 14 > 6 ? y - tip.offsetHeight - 14 : y + 18;
    tip.style.transform = `translate(${left}px, ${top}px)`;
  }
}

export default function ({ parentElement, data, setStateValue, setTriggerValue }) {
  const viewer = parentElement.viewer ??= new Viewer(parentElement, data.least_score);
  Object.assign(viewer, { ask: setTriggerValue, tell: setStateValue });
  viewer.show(data);
}
