
// The page of `geomatch transfer --review`: one photograph at a time, with marks that can be moved.
// Positions are (x, y) in pixels of the original image, pixel centres at integers; page.py defines the data.

const data = JSON.parse(document.getElementById("data").textContent);
const part = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const percent = (share) => `${Math.round(100 * share)} %`;
const SVG = "http://www.w3.org/2000/svg";
const NOUNS = { keypoints: "point", boxes: "box", masks: "mask" };
const STORE = "geomatch-review-";
const MOST_ZOOM = 24; // pixels of the screen for one of the image
const CORNERS = [["left", "top"], ["right", "top"], ["right", "bottom"], ["left", "bottom"]];
const EDGES = [["top"], ["right"], ["bottom"], ["left"]];
const SIDES = ["left", "top", "right", "bottom"];

/** What may be marked on an image: every keypoint, box or mask of the objects that were transferred, found or not. */
const template = data.objects.flatMap(({ object, label }) => {
  const title = data.objects.length > 1 ? `${label} ${object}` : label;
  if (data.kind !== "keypoints") {
    return [{ id: `${object}`, object, label, title, colour: data.colours.objects[object - 1] }];
  }
  return data.categories.find((each) => each.name === label).keypoints.map((name, k) => ({
    id: `${object} ${name}`, object, label, name, title: data.objects.length > 1 ? `${title}: ${name}` : name,
    colour: data.colours.points[label][k],
  }));
});
const identity = (item) => ("name" in item ? `${item.object} ${item.name}` : `${item.object}`);

/** An image: what was found on it, and what a person has changed, which the browser stores. */
class Photograph {
  /** accepted: by a person. items: the fields that are changed, by the identity of their mark. */
  edit = { accepted: false, items: {} };

  constructor(entry, place) {
    Object.assign(this, entry, { place });
    this.found = new Map(entry.items.map((item) => [identity(item), item]));
    try {
      this.edit = JSON.parse(localStorage.getItem(STORE + this.key)) ?? this.edit;
    } catch {
      // Nothing is stored, or it cannot be read.
    }
  }

  /** All marks, those that are not on the image with visibility 0. */
  get marks() {
    return template.map((mark) => ({ visibility: 0, ...mark, ...this.found.get(mark.id), ...this.edit.items[mark.id] }));
  }

  /** The image as it is saved. What a person has placed or accepted is certain. */
  get corrected() {
    const { accepted } = this.edit;
    const items = this.marks
      .filter((mark) => mark.visibility > 0)
      .map((mark) => ({ ...mark, confidence: accepted || mark.placed ? 1 : mark.confidence }));
    return { ...this, accepted, items };
  }

  /** This edit with other fields of one mark. */
  with(id, fields) {
    return { ...this.edit, items: { ...this.edit.items, [id]: { ...this.edit.items[id], ...fields } } };
  }

  store() {
    try {
      localStorage.setItem(STORE + this.key, JSON.stringify(this.edit));
      return true;
    } catch {
      return false;
    }
  }
}

const photographs = data.images.map((entry, place) => new Photograph(entry, place));

/** A picture and its marks, all placed relative to the picture's size. `press` is told what the pointer goes down on. */
class Sheet {
  constructor(root, press) {
    Object.assign(this, { root, press });
  }

  show({ width, height, picture, image }, failed = () => {}) {
    Object.assign(this, { width, height, elements: new Map() });
    this.picture = Object.assign(new Image(), { src: picture, alt: image, draggable: false, onerror: failed });
    this.drawing = document.createElementNS(SVG, "svg");
    this.drawing.setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`);
    this.drawing.setAttribute("preserveAspectRatio", "none");
    this.root.style.setProperty("--shape", width / height);
    this.root.replaceChildren(this.picture, this.drawing);
    this.lines = data.kind === "keypoints" ? this.addLines() : [];
    for (const mark of template) this.elements.set(mark.id, this.add(mark));
  }

  addLines() {
    return byObject(template).flatMap(([{ object, label }]) => {
      const { keypoints, skeleton } = data.categories.find((each) => each.name === label);
      return skeleton.map((ends) => {
        const line = this.drawing.appendChild(document.createElementNS(SVG, "line"));
        return { line, ends: ends.map((end) => `${object} ${keypoints[end - 1]}`) };
      });
    });
  }

  add(mark) {
    const inDrawing = data.kind === "masks";
    const kind = { keypoints: this.press ? "button" : "span", boxes: "div", masks: "path" }[data.kind];
    const made = inDrawing ? document.createElementNS(SVG, kind) : document.createElement(kind);
    made.classList.add("mark", NOUNS[data.kind]);
    made.style.setProperty("--colour", mark.colour);
    if (kind === "button") made.type = "button";
    if (this.press) {
      if (kind !== "button") Object.entries({ tabindex: 0, role: "button" }).map((each) => made.setAttribute(...each));
      made.addEventListener("pointerdown", (event) => this.press(event, mark.id, SIDES));
      made.addEventListener("focus", () => choose(mark.id));
      if (data.kind === "boxes") this.addHandles(made, mark);
    }
    (inDrawing ? this.drawing : this.root).append(made);
    return made;
  }

  addHandles(box, mark) {
    for (const sides of [...EDGES, ...CORNERS]) {
      const handle = Object.assign(document.createElement("span"), { className: `handle ${sides.join(" ")}`, sides });
      if (CORNERS.includes(sides)) {
        Object.assign(handle, { tabIndex: 0, role: "button", ariaLabel: `${sides.join(" ")} of ${mark.title}` });
        handle.addEventListener("focus", () => choose(mark.id));
      }
      handle.addEventListener("pointerdown", (event) => this.press(event, mark.id, sides));
      box.append(handle);
    }
  }

  update(marks, chosen) {
    const found = new Map(marks.map((mark) => [mark.id, mark]));
    for (const mark of marks) {
      const element = this.elements.get(mark.id);
      const here = mark.visibility > 0;
      element.classList.toggle("away", !here);
      element.classList.toggle("guessed", mark.visibility === 1);
      element.classList.toggle("chosen", mark.id === chosen);
      element.setAttribute("aria-label", `${mark.title}, ${described(mark)}`);
      element.dataset.title = mark.title;
      if (here) this.set(element, mark);
    }
    for (const { line, ends } of this.lines) {
      const [start, end] = ends.map((id) => found.get(id));
      const drawn = start?.visibility > 0 && end?.visibility > 0;
      line.classList.toggle("away", !drawn);
      if (drawn) Object.entries({ x1: start.x, y1: start.y, x2: end.x, y2: end.y }).map((each) => line.setAttribute(...each));
    }
  }

  /** Place an element where its mark is. */
  set(element, mark) {
    if (mark.polygons) {
      element.setAttribute("d", mark.polygons.map((each) => `M${pairs(each).map(([x, y]) => [x - HALF, y - HALF])}Z`).join(""));
      return;
    }
    const [left, top, right, bottom] = mark.box ?? [mark.x, mark.y];
    element.style.left = `${(100 * (left + HALF)) / this.width}%`;
    element.style.top = `${(100 * (top + HALF)) / this.height}%`;
    if (!mark.box) return;
    element.style.width = `${(100 * (right - left)) / this.width}%`;
    element.style.height = `${(100 * (bottom - top)) / this.height}%`;
    element.style.zIndex = Math.round(1e4 - (1e4 * (right - left) * (bottom - top)) / (this.width * this.height));
  }

  /** The position on the image at a place of the window, also outside of it. */
  at({ clientX, clientY }) {
    const { left, top, width, height } = this.root.getBoundingClientRect();
    return [((clientX - left) / width) * this.width - HALF, ((clientY - top) / height) * this.height - HALF];
  }

  /** The nearest position on the image, to a hundredth of a pixel as files have it. */
  inside([x, y]) {
    return [x, y].map((axis, k) => rounded(clamp(axis, -HALF, (k ? this.height : this.width) - HALF)));
  }
}

function described(mark) {
  if (!mark.visibility) return wasFound(mark) ? "hidden" : "not found";
  return mark.placed ? "placed by you" : percent(mark.confidence);
}

const wasFound = (mark) => "x" in mark || "box" in mark;

const reference = new Sheet(part("reference"));
const sheet = new Sheet(part("sheet"), press);
const stage = part("stage");
const undone = [];
const view = { scale: 1, fitted: true, x: 0, y: 0 };
let shown = photographs[0];
let chosen = null;
let referenceMarks = [];
let kept = true;

// What a person does

function choose(id) {
  if (chosen === id) return;
  chosen = id;
  refresh();
}

/** Change the image that is shown. before: what undoing it brings back. */
function change(edit, before = shown.edit) {
  undone.push([shown, before]);
  shown.edit = edit;
  keep(shown);
  refresh();
}

function undo() {
  if (!undone.length) return say("There is nothing to undo.");
  const [photograph, edit] = undone.pop();
  photograph.edit = edit;
  keep(photograph);
  if (photograph !== shown) open(photograph.place);
  refresh();
  say(`Undone on ${photograph.image}.`);
}

function keep(photograph) {
  if (!photograph.store() && kept) say("This browser does not keep corrections: save before you close the page.");
  kept = photograph.store();
  updateEntry(photograph);
}

function accept() {
  if (!shown.edit.accepted) change({ ...shown.edit, accepted: true });
  const order = [...photographs.slice(shown.place + 1), ...photographs.slice(0, shown.place)];
  const next = order.find((each) => !each.edit.accepted);
  if (next) open(next.place);
  else say("All images are accepted. Save them above.");
}

function step(by) {
  open(clamp(shown.place + by, 0, photographs.length - 1));
}

function toggleHidden() {
  const mark = chosenMark();
  if (!mark) return say(`Choose a ${NOUNS[data.kind]} first.`);
  if (mark.visibility) return change(shown.with(mark.id, { visibility: 0 }));
  if (wasFound(mark)) return change(shown.with(mark.id, { visibility: shown.found.get(mark.id)?.visibility ?? 2 }));
  const { width, height } = shown;
  if (data.kind === "keypoints") return place(mark.id, { x: (width - 1) / 2, y: (height - 1) / 2 });
  if (data.kind === "boxes") return place(mark.id, { box: [width / 4, height / 4, 0.75 * width, 0.75 * height] });
  return say("No mask was found here.");
}

function toggleGuess() {
  const mark = chosenMark();
  if (!mark?.visibility) return say(`Choose a ${NOUNS[data.kind]} first.`);
  return change(shown.with(mark.id, { visibility: 3 - mark.visibility }));
}

function reset() {
  change({ accepted: false, items: {} });
  say(`${shown.image} is as it was found.`);
}

/** Put the mark somewhere; it is then seen. */
function place(id, position) {
  change(shown.with(id, { ...position, visibility: 2, placed: true }));
}

function nudge(x, y) {
  const mark = chosenMark();
  if (!mark?.visibility || mark.polygons) return;
  place(mark.id, moved(mark, [x, y], document.activeElement.sides ?? SIDES));
}

/** The position of a mark moved by some pixels; of a box only some sides, which stay on the image, a pixel apart. */
function moved(mark, [x, y], sides) {
  if (!mark.box) {
    const [left, top] = sheet.inside([mark.x + x, mark.y + y]);
    return { x: left, y: top };
  }
  const [width, height] = [mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]];
  if (sides === SIDES) {
    const left = clamp(mark.box[0] + x, -HALF, shown.width - HALF - width);
    const top = clamp(mark.box[1] + y, -HALF, shown.height - HALF - height);
    return { box: [left, top, left + width, top + height].map((side) => rounded(side)) };
  }
  const shifted = mark.box.map((side, k) => side + (sides.includes(SIDES[k]) ? [x, y][k % 2] : 0));
  const corners = [sheet.inside(shifted.slice(0, 2)), sheet.inside(shifted.slice(2))];
  const low = [0, 1].map((k) => Math.min(corners[0][k], corners[1][k], (k ? shown.height : shown.width) - HALF - 1));
  return { box: [...low, ...[0, 1].map((k) => Math.max(corners[0][k], corners[1][k], low[k] + 1))] };
}

function chosenMark() {
  return shown.marks.find((mark) => mark.id === chosen);
}

// The pointer

/** Follow the pointer from here on: `move` is told how far it went in pixels of the image, `drop` at the end. */
function follow(event, move, drop) {
  const start = sheet.at(event);
  const target = event.currentTarget;
  let far = false;
  const moving = (each) => {
    far ||= Math.hypot(each.clientX - event.clientX, each.clientY - event.clientY) > 2;
    if (far) move(sheet.at(each).map((axis, k) => axis - start[k]), each);
  };
  const dropped = () => {
    target.removeEventListener("pointermove", moving);
    for (const kind of ["pointerup", "pointercancel"]) target.removeEventListener(kind, dropped);
    drop(far);
  };
  target.setPointerCapture(event.pointerId);
  target.addEventListener("pointermove", moving);
  for (const kind of ["pointerup", "pointercancel"]) target.addEventListener(kind, dropped);
}

/** The pointer goes down on a mark, or on a handle that moves some sides of it. */
function press(event, id, sides) {
  if (event.button) return;
  event.stopPropagation();
  choose(id);
  const [mark, before] = [chosenMark(), shown.edit];
  if (mark.polygons) return;
  const move = (by) => {
    shown.edit = shown.with(id, { ...moved(mark, by, sides), visibility: 2, placed: true });
    refresh();
  };
  sheet.root.classList.add("dragging");
  follow(event, move, (far) => {
    sheet.root.classList.remove("dragging");
    if (far) change(shown.edit, before);
  });
}

/** The pointer goes down beside all marks: it places the chosen one if that is not here, or moves the picture. */
stage.addEventListener("pointerdown", (event) => {
  if (event.button || event.target.closest(".zoom")) return;
  const mark = chosenMark();
  const [start, before] = [sheet.at(event), shown.edit];
  const missing = mark && !mark.visibility;
  if (missing && data.kind === "keypoints") {
    const [x, y] = sheet.inside(start);
    return place(mark.id, { x, y });
  }
  if (missing && data.kind === "boxes") {
    const drawn = { box: [...start, ...start] };
    const move = (by) => {
      shown.edit = shown.with(mark.id, { ...moved(drawn, by, ["right", "bottom"]), visibility: 2, placed: true });
      refresh();
    };
    return follow(event, move, (far) => far && change(shown.edit, before));
  }
  const from = { ...view, left: event.clientX, top: event.clientY };
  const pan = (_, { clientX, clientY }) => setView(view.scale, from.x + clientX - from.left, from.y + clientY - from.top);
  return follow(event, pan, (far) => far || choose(null));
});

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), event.clientX, event.clientY);
}, { passive: false });

// The view

function fitScale() {
  return Math.min(stage.clientWidth / shown.width, stage.clientHeight / shown.height);
}

function fit() {
  setView(fitScale(), 0, 0);
}

/** Zoom by a factor; what is at a place of the window stays there. */
function zoom(factor, clientX, clientY) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  const scale = clamp(view.scale * factor, fitScale(), Math.max(MOST_ZOOM, fitScale()));
  const [x, y] = [(clientX ?? left + width / 2) - left - width / 2, (clientY ?? top + height / 2) - top - height / 2];
  const ratio = scale / view.scale;
  setView(scale, x - (x - view.x) * ratio, y - (y - view.y) * ratio);
}

/** x, y: from the middle of the stage to that of the picture, which covers the stage as far as it is large enough. */
function setView(scale, x, y) {
  const [width, height] = [shown.width * scale, shown.height * scale];
  const [free, freeDown] = [width - stage.clientWidth, height - stage.clientHeight].map((each) => Math.max(0, each / 2));
  Object.assign(view, { scale, x: clamp(x, -free, free), y: clamp(y, -freeDown, freeDown) });
  view.fitted = scale <= fitScale() * 1.001;
  Object.assign(sheet.root.style, {
    width: `${width}px`, height: `${height}px`,
    left: `${(stage.clientWidth - width) / 2 + view.x}px`, top: `${(stage.clientHeight - height) / 2 + view.y}px`,
  });
  stage.classList.toggle("zoomed", !view.fitted);
}

new ResizeObserver(() => (view.fitted ? fit() : zoom(1))).observe(stage);

// What is shown

function open(place) {
  shown = photographs[place];
  chosen = null;
  sheet.show(shown, () => (part("hint").textContent = `${shown.image} cannot be shown: is its photograph beside this page?`));
  part("name").textContent = part("name").title = shown.image;
  part("place").textContent = `${place + 1} of ${photographs.length}`;
  part("confidence").textContent = shown.items.length ? percent(shown.confidence) + " sure" : "nothing found";
  setBar(part("sure"), shown.confidence);
  stage.setAttribute("aria-label", `${shown.image}, ${part("confidence").textContent}`);
  openReference();
  fit();
  refresh();
  markEntry(entries[place]);
  entries[place].scrollIntoView({ block: "nearest", inline: "nearest" });
  if (photographs[place + 1]) new Image().src = photographs[place + 1].picture;
}

/** Of all images in the list Tab stops at the open one alone. */
function markEntry(entry) {
  const before = part("list").querySelector("[aria-current]");
  before?.removeAttribute("aria-current");
  if (before) before.tabIndex = -1;
  entry.setAttribute("aria-current", "true");
  entry.tabIndex = 0;
}

/** Show the annotated image that belongs to the one that is open. */
function openReference() {
  const beside = data.references[shown.reference];
  if (part("reference-name").textContent === beside.image && referenceMarks.length) return;
  part("reference-name").textContent = part("reference-name").title = beside.image;
  const found = new Map(beside.items.map((item) => [identity(item), item]));
  referenceMarks = template.map((mark) => ({ visibility: 0, ...mark, ...found.get(mark.id), confidence: 1 }));
  reference.show(beside);
}

function setBar(bar, share) {
  bar.style.width = `${100 * share}%`;
  bar.className = share < 0.35 ? "low" : share < 0.65 ? "middle" : "high";
}

function refresh() {
  const { marks } = shown;
  sheet.update(marks, chosen);
  reference.update(referenceMarks, chosen);
  for (const mark of marks) updateRow(mark);
  const mark = chosenMark();
  const missing = mark && !mark.visibility;
  part("hint").textContent = !missing || data.kind === "masks" ? "" :
    data.kind === "boxes" ? `Drag a box round “${mark.title}”` : `Click where “${mark.title}” is`;
  stage.classList.toggle("placing", Boolean(part("hint").textContent));
  part("hide-label").textContent = missing ? "Show" : "Hide";
  part("hide").disabled = !mark;
  part("guess-label").textContent = mark?.visibility === 2 ? "Guess" : "Seen";
  part("guess").disabled = !mark || missing;
  part("undo").disabled = !undone.length;
  part("previous").disabled = shown.place === 0;
  part("next").disabled = shown.place === photographs.length - 1;
  part("verdict").textContent = shown.edit.accepted ? "✓ accepted" : "";
  const accepted = photographs.filter((each) => each.edit.accepted).length;
  part("count").textContent = `${accepted} of ${photographs.length} accepted`;
  part("share").style.width = `${(100 * accepted) / photographs.length}%`;
}

function say(text) {
  part("status").textContent = text;
  part("status").classList.remove("fresh");
  void part("status").offsetWidth; // begins the animation again
  part("status").classList.add("fresh");
}

function addEntry(photograph) {
  const entry = Object.assign(document.createElement("button"), {
    type: "button", title: photograph.image, tabIndex: -1,
  });
  const text = (className, content) => Object.assign(document.createElement("span"), { className, textContent: content });
  const picture = Object.assign(new Image(), { alt: "", loading: "lazy", decoding: "async", src: photograph.picture });
  const bar = text("bar", "");
  setBar(bar.appendChild(document.createElement("span")), photograph.confidence);
  entry.append(picture, text("file", photograph.image.split(/[/\\]/).pop()), bar, text("tick", ""));
  entry.addEventListener("click", () => open(photograph.place));
  part("list").append(entry);
  return entry;
}

function updateEntry({ place, edit, image, confidence }) {
  entries[place].classList.toggle("accepted", edit.accepted);
  const state = edit.accepted ? "accepted" : `${percent(confidence)} sure`;
  entries[place].setAttribute("aria-label", `${image}, ${state}`);
}

function addRow(mark) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.innerHTML = "<span class=swatch></span><span class=title></span><span class=state></span>";
  button.children[0].style.color = mark.colour;
  button.children[1].textContent = mark.title;
  button.addEventListener("click", () => choose(mark.id));
  const row = document.createElement("li");
  row.append(button);
  part("items").append(row);
  return [mark.id, button];
}

function updateRow(mark) {
  const button = rows.get(mark.id);
  button.className = mark.visibility ? (mark.visibility === 1 ? "guessed" : "") : "away";
  button.setAttribute("aria-pressed", mark.id === chosen);
  button.children[2].textContent = described(mark);
}

// Saving

async function save(write, named) {
  const images = photographs.map((each) => each.corrected).filter((each) => each.accepted || !part("accepted-only").checked);
  if (!images.length) return say("No image is accepted yet.");
  try {
    const place = await write(images);
    say(`Saved ${images.length} image${images.length > 1 ? "s" : ""} as ${named}: ${place}`);
  } catch (error) {
    if (error.name !== "AbortError") say(`Not saved: ${error.message}`); // AbortError: the person chose nothing
  }
}

const saveCoco = (images) => saveFile("corrected.json", cocoText(images, data));

function saveLabelme(images) {
  const names = fileNames(images.map((each) => each.stem), ".json");
  return saveFolder("corrected", images.map((each, k) => [names[k], labelmeText(each, data)]));
}

// The start

const many = (count, noun) => `${count} ${noun}${count === 1 ? "" : noun.endsWith("x") ? "es" : "s"}`;
part("title").textContent = `${many(photographs.length, "image")} to review`;
part("lead").textContent = {
  keypoints: "Drag wrong points, hide those that are not there, accept. Least sure first.",
  boxes: "Move or resize wrong boxes, hide those that are not there, accept. Least sure first.",
  masks: "Hide wrong masks, accept. Least sure first.",
}[data.kind];
part("items-title").textContent = { keypoints: "Points", boxes: "Boxes", masks: "Masks" }[data.kind];
const entries = photographs.map(addEntry);
const rows = new Map(template.map(addRow));
photographs.forEach(updateEntry);

const actions = {
  previous: () => step(-1), next: () => step(1), accept, hide: toggleHidden, guess: toggleGuess, undo, reset,
  closer: () => zoom(1.5), farther: () => zoom(1 / 1.5), fit,
  "save-coco": () => save(saveCoco, "COCO"), "save-labelme": () => save(saveLabelme, "labelme"),
};
for (const [name, act] of Object.entries(actions)) {
  part(name).addEventListener("click", (event) => {
    act();
    if (event.detail) stage.focus(); // after the mouse, keys are for the image again
  });
}

const keys = {
  a: accept, n: actions.next, p: actions.previous, h: toggleHidden, delete: toggleHidden, backspace: toggleHidden,
  v: toggleGuess, z: undo, r: reset, "+": actions.closer, "=": actions.closer, "-": actions.farther, 0: fit,
  escape: () => (choose(null), stage.focus()),
};
const arrows = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };

addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  const modified = event.ctrlKey || event.metaKey || event.altKey;
  const control = event.target.closest("button:not(.mark), summary, input");
  if (modified && !(key === "z" && !event.altKey)) return;
  if (key in arrows && chosen) nudge(...arrows[key].map((by) => by * (event.shiftKey ? 10 : 1)));
  else if (key in arrows) step(arrows[key][0]);
  else if (key === "enter" && !control) accept();
  else if (key in keys) keys[key]();
  else return;
  event.preventDefault();
});

addEventListener("beforeunload", (event) => kept || event.preventDefault());
open(Math.max(0, photographs.findIndex((each) => !each.edit.accepted)));
