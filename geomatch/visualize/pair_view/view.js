// The page of `geomatch view`: a point in one picture and its match in the other.
// Positions are (x, y) in pixels of the original images, pixel centres at integers. compact.py defines the data.

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The numbers in a deflated, base64-encoded text. */
async function decode(text, Numbers) {
  const deflated = new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))]);
  const inflated = deflated.stream().pipeThrough(new DecompressionStream("deflate"));
  return new Numbers(await new Response(inflated).arrayBuffer());
}

/** Samples of a heat map along the longer side; the browser interpolates between them. */
const HEAT_SAMPLES = 160;

/** Maps on the cells of a grid over an image, read bilinearly; outside the outermost centres the border repeats. */
class Lattice {
  cells = new Int32Array(4);
  weights = new Float64Array(4);

  constructor(grid) {
    Object.assign(this, grid);
    this.count = this.width * this.height;
  }

  /** A lattice of width x height points that tiles an image. */
  static over(image, width, height) {
    const pitch = [image.width / width, image.height / height];
    return new Lattice({ width, height, pitch, origin: [pitch[0] / 2 - 0.5, pitch[1] / 2 - 0.5] });
  }

  /** Sets the four cells around a pixel and their bilinear weights. */
  surround(x, y) {
    const column = clamp((x - this.origin[0]) / this.pitch[0], 0, this.width - 1);
    const row = clamp((y - this.origin[1]) / this.pitch[1], 0, this.height - 1);
    const left = Math.floor(column);
    const top = Math.floor(row);
    const across = column - left;
    const down = row - top;
    const below = top < this.height - 1 ? this.width : 0;
    this.cells[0] = top * this.width + left;
    this.cells[1] = this.cells[0] + (left < this.width - 1 ? 1 : 0);
    this.cells[2] = this.cells[0] + below;
    this.cells[3] = this.cells[1] + below;
    this.weights[0] = (1 - across) * (1 - down);
    this.weights[1] = across * (1 - down);
    this.weights[2] = (1 - across) * down;
    this.weights[3] = across * down;
  }

  /** The value of a map at the pixel of the last `surround`; the map begins at `start` of `values`. */
  mean(values, start = 0) {
    let sum = 0;
    for (let k = 0; k < 4; k++) sum += this.weights[k] * values[start + this.cells[k]];
    return sum;
  }

  read(values, x, y) {
    this.surround(x, y);
    return this.mean(values);
  }

  /** The cell nearest to a pixel. */
  nearest(x, y) {
    const column = clamp(Math.round((x - this.origin[0]) / this.pitch[0]), 0, this.width - 1);
    return clamp(Math.round((y - this.origin[1]) / this.pitch[1]), 0, this.height - 1) * this.width + column;
  }

  /** Calls `visit` with each cell's number and the position of its centre. */
  forEach(visit) {
    for (let row = 0, cell = 0; row < this.height; row++)
      for (let column = 0; column < this.width; column++, cell++)
        visit(cell, this.origin[0] + this.pitch[0] * column, this.origin[1] + this.pitch[1] * row);
  }
}

/** One of the two pictures: its match in the other, its descriptors, and its overlays. */
class View {
  static async load(record) {
    const view = new View(record);
    view.confidence = await decode(record.match.confidence, Uint8Array);
    view.valid = await decode(record.match.valid, Uint8Array);
    view.descriptors = await decode(record.descriptors.values, Int8Array);
    await view.loadFlow(record.match);
    await view.loadPicture(record.picture);
    view.maskHatching();
    return view;
  }

  constructor({ role, name, width, height, match, descriptors }) {
    Object.assign(this, { role, name, width, height, scales: descriptors.scales });
    this.lattice = new Lattice(match.grid);
    this.grid = new Lattice(descriptors.grid);
    const scale = Math.min(1, HEAT_SAMPLES / Math.max(width, height));
    this.heat = Lattice.over(this, Math.ceil(width * scale), Math.ceil(height * scale));
    this.build();
  }

  async loadFlow({ flow, low, step }) {
    const steps = await decode(flow, Uint16Array);
    for (let at = 1; at < steps.length; at++) steps[at] += steps[at - 1];
    this.flow = Float32Array.from(steps, (value, at) => {
      const axis = at < this.lattice.count ? 0 : 1;
      return low[axis] + step[axis] * value;
    });
  }

  async loadPicture(source) {
    this.image = new Image();
    this.image.src = source;
    await this.image.decode();
    Object.assign(this.base, { width: this.image.naturalWidth, height: this.image.naturalHeight });
    this.base.getContext("2d").drawImage(this.image, 0, 0);
  }

  build() {
    this.root = element("view").content.cloneNode(true).firstElementChild;
    const part = (name) => this.root.querySelector(`.${name}`);
    part("role").textContent = this.role;
    part("name").textContent = this.name;
    part("name").title = this.name;
    part("size").textContent = `${this.width} × ${this.height}`;
    this.root.id = this.role;
    this.root.style.setProperty("--shape", this.width / this.height);
    for (const name of ["picture", "base", "colours", "hatch", "marker", "chip"]) this[name] = part(name);
    this.picture.ariaLabel = `The ${this.role} ${this.name}, ${this.width} by ${this.height} pixels`;
    element("stage").append(this.root);
  }

  /** The match of a pixel in the other image, its confidence, and whether it is valid. */
  match([x, y]) {
    this.lattice.surround(x, y);
    return {
      point: [x + this.lattice.mean(this.flow), y + this.lattice.mean(this.flow, this.lattice.count)],
      confidence: this.lattice.mean(this.confidence) / 255,
      valid: this.valid[this.lattice.nearest(x, y)] === 1,
    };
  }

  /** The similarity of each cell of the other image to a pixel, whose descriptor is read bilinearly. */
  similarities([x, y], other) {
    const channels = this.scales.length;
    const query = new Float32Array(channels);
    this.grid.surround(x, y);
    for (let channel = 0; channel < channels; channel++) {
      for (let k = 0; k < 4; k++)
        query[channel] += this.grid.weights[k] * this.descriptors[this.grid.cells[k] * channels + channel];
      query[channel] *= this.scales[channel] ** 2;
    }
    return Float32Array.from({ length: other.grid.count }, (_, cell) => {
      let sum = 0;
      for (let channel = 0, at = cell * channels; channel < channels; channel++, at++)
        sum += query[channel] * other.descriptors[at];
      return sum;
    });
  }

  /** Covers the picture with a colour, [red, green, blue, opacity] in 0..255, for each point of a lattice over it. */
  paint(lattice, colour) {
    const pixels = new ImageData(lattice.width, lattice.height);
    const painted = pixels.data;
    lattice.forEach((cell, x, y) => painted.set(colour(cell, x, y), 4 * cell));
    Object.assign(this.colours, { width: lattice.width, height: lattice.height });
    this.colours.getContext("2d").putImageData(pixels, 0, 0);
  }

  clear() {
    this.colours.width = 1;
  }

  maskHatching() {
    this.paint(this.lattice, (cell) => [0, 0, 0, this.valid[cell] ? 0 : 255]);
    this.hatch.style.maskImage = `url(${this.colours.toDataURL()})`;
    this.clear();
  }

  /** The other picture warped to this one, transparent where the match is not valid. */
  warped(other) {
    const { width, height } = this.base;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const colours = other.base.getContext("2d").getImageData(0, 0, other.base.width, other.base.height).data;
    const texture = Lattice.over(other, other.base.width, other.base.height);
    const pixels = new ImageData(width, height);
    const painted = pixels.data;
    Lattice.over(this, width, height).forEach((cell, x, y) => {
      const { point, valid } = this.match([x, y]);
      texture.surround(point[0], point[1]);
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let k = 0; k < 4; k++) sum += texture.weights[k] * colours[4 * texture.cells[k] + channel];
        painted[4 * cell + channel] = sum;
      }
      painted[4 * cell + 3] = valid ? 255 : 0;
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  /** (1 - share) times the picture plus share times its warp, opacities likewise. */
  blend(share, other) {
    if (share > 0) this.warp ??= this.warped(other);
    const context = this.base.getContext("2d");
    context.clearRect(0, 0, this.base.width, this.base.height);
    context.globalAlpha = 1 - share;
    context.drawImage(this.image, 0, 0);
    if (share > 0) {
      context.globalCompositeOperation = "lighter";
      context.globalAlpha = share;
      context.drawImage(this.warp, 0, 0);
      context.globalCompositeOperation = "source-over";
    }
    context.globalAlpha = 1;
  }

  /** The pixel under a pointer. */
  pixel(event) {
    const frame = this.picture.getBoundingClientRect();
    return this.inside([
      ((event.clientX - frame.left) / frame.width) * this.width - 0.5,
      ((event.clientY - frame.top) / frame.height) * this.height - 0.5,
    ]);
  }

  inside([x, y]) {
    return [clamp(Math.round(x), 0, this.width - 1), clamp(Math.round(y), 0, this.height - 1)];
  }

  mark([x, y], { valid }, words) {
    const across = (x + 0.5) / this.width;
    this.marker.style.left = `${100 * across}%`;
    this.marker.style.top = `${(100 * (y + 0.5)) / this.height}%`;
    this.marker.classList.toggle("invalid", !valid);
    this.marker.classList.toggle("flipped", across > 0.75);
    this.chip.textContent = words;
    this.marker.hidden = false;
  }

  /** The valid pixel with the highest confidence. */
  mostConfident() {
    let best = 0;
    const rank = (cell) => (this.valid[cell] ? 256 : 0) + this.confidence[cell];
    for (let cell = 1; cell < this.lattice.count; cell++) if (rank(cell) > rank(best)) best = cell;
    let found;
    this.lattice.forEach((cell, x, y) => cell === best && (found = this.inside([x, y])));
    return found;
  }

  /** The length of the longest valid displacement, in pixels. */
  longest() {
    let most = 0;
    for (let cell = 0; cell < this.lattice.count; cell++)
      if (this.valid[cell]) most = Math.max(most, Math.hypot(this.flow[cell], this.flow[cell + this.lattice.count]));
    return most || 1;
  }
}

// ---- colours

/** From the lowest to the highest similarity. */
const HEAT = [[20, 11, 52, 0], [101, 21, 110, 90], [212, 72, 66, 170], [252, 165, 10, 215], [252, 255, 164, 235]];

/** The colour at a fraction of a ramp of evenly spaced colours. */
function ramp(stops, fraction) {
  const place = clamp(fraction, 0, 1) * (stops.length - 1);
  const step = Math.min(Math.floor(place), stops.length - 2);
  return stops[step].map((from, channel) => from + (place - step) * (stops[step + 1][channel] - from));
}

const opaque = (colour) => [colour[0], colour[1], colour[2], 255];

/** A displacement in Middlebury colours: white without motion, dark beyond the longest. */
function flowColour(x, y, longest) {
  const length = Math.hypot(x, y) / longest;
  const turn = ((Math.atan2(-y, -x) / Math.PI + 1) / 2) * (data.wheel.length - 1);
  const step = Math.floor(turn);
  const [from, to] = [data.wheel[step], data.wheel[(step + 1) % data.wheel.length]];
  return opaque(from.map((value, channel) => {
    const full = value + (turn - step) * (to[channel] - value);
    return length <= 1 ? 255 - length * (255 - full) : 0.75 * full;
  }));
}

// ---- the page

const views = [];
for (const record of data.images) views.push(await View.load(record));
for (const textContent of data.facts)
  element("facts").append(Object.assign(document.createElement("li"), { textContent }));

const state = { view: views[0], point: views[0].mostConfident(), held: false };
const controls = document.querySelector(".controls");
const longest = Math.max(...views.map((view) => view.longest()));
const colouring = () => controls.elements.colours.value;
const opposite = (view) => views[1 - views.indexOf(view)];
const signed = (value) => value.toFixed(2).replace("-", "\u2212");
const percent = (share) => `${Math.round(100 * share)}%`;

const COVERS = {
  confidence: (view) => (cell) => opaque(ramp(data.ramp, view.confidence[cell] / 255)),
  flow: (view) => (cell) => flowColour(view.flow[cell], view.flow[cell + view.lattice.count], longest),
};

function showPoint() {
  const { view, point, held } = state;
  const other = opposite(view);
  const found = view.match(point);
  view.mark(point, found, "");
  other.mark(found.point, found, percent(found.confidence));
  element("stage").classList.toggle("held", held);
  const place = ([x, y], digits) => `(${x.toFixed(digits)}, ${y.toFixed(digits)})`;
  element("readout").textContent = `${view.role} ${place(point, 0)} → ${other.role} ${place(found.point, 1)}`;
  element("confidence").textContent = `${percent(found.confidence)} sure`;
  element("fill").style.width = `${100 * found.confidence}%`;
  element("verdict").textContent = found.valid ? "valid" : "not valid";
  element("verdict").classList.toggle("invalid", !found.valid);
  if (colouring() === "similarity") showSimilarity(view, point, other);
}

function showSimilarity(view, point, other) {
  const similar = view.similarities(point, other);
  const [least, most] = [Math.min(...similar), Math.max(...similar)];
  view.clear();
  other.paint(other.heat, (_, x, y) => ramp(HEAT, (other.grid.read(similar, x, y) - least) / (most - least || 1)));
  showKey(signed(least), (share) => opaque(ramp(HEAT, share)), signed(most));
}

function showColours() {
  const cover = COVERS[colouring()];
  for (const view of views) {
    view.picture.classList.toggle("covered", Boolean(cover));
    cover ? view.paint(view.lattice, cover(view)) : view.clear();
  }
  element("key").style.visibility = colouring() === "none" ? "hidden" : "visible";
  if (colouring() === "confidence") showKey("0", (share) => opaque(ramp(data.ramp, share)), "1");
  if (colouring() === "flow") showWheel();
  showPoint();
}

function showKey(low, colour, high) {
  drawScale(112, 1, (column) => colour(column / 111), "");
  element("low").textContent = low;
  element("high").textContent = high;
}

function showWheel() {
  drawScale(72, 72, (column, row) => flowColour(column - 35.5, row - 35.5, 36), "wheel");
  element("low").textContent = "";
  element("high").textContent = `rim: ${Math.round(longest)} pixels`;
}

function drawScale(width, height, colour, style) {
  const scale = Object.assign(element("scale"), { width, height, className: style });
  const pixels = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) pixels.data.set(colour(at % width, Math.floor(at / width)), 4 * at);
  scale.getContext("2d").putImageData(pixels, 0, 0);
}

/** Moves the point, once a frame at most. */
function moveTo(view, point) {
  if (!state.waiting) requestAnimationFrame(() => { state.waiting = false; showPoint(); });
  Object.assign(state, { view, point, waiting: true });
}

/** Moves the point to its match, unless it is in that picture already. */
function goTo(view) {
  if (view !== state.view) moveTo(view, view.inside(state.view.match(state.point).point));
}

function showMorph() {
  views[0].blend(Number(element("morph").value), views[1]);
}

/** Moves the slider to the farther end. */
function morph() {
  const slider = element("morph");
  const [from, to, start] = [Number(slider.value), slider.value < 0.5 ? 1 : 0, performance.now()];
  const length = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 900;
  cancelAnimationFrame(state.morphing);
  const frame = (now) => {
    const share = length ? clamp((now - start) / length, 0, 1) : 1;
    slider.value = from + (to - from) * share * share * (3 - 2 * share);
    showMorph();
    if (share < 1) state.morphing = requestAnimationFrame(frame);
  };
  frame(start);
}

const hold = (held) => { state.held = held; showPoint(); };

const night = matchMedia("(prefers-color-scheme: dark)");
const otherTheme = () => {
  const theme = document.documentElement.dataset.theme ?? (night.matches ? "dark" : "light");
  return theme === "dark" ? "light" : "dark";
};
const offerTheme = () => { element("theme").textContent = otherTheme() === "dark" ? "Dark" : "Light"; };

function turnTheme() {
  document.documentElement.dataset.theme = otherTheme();
  offerTheme();
}

for (const view of views) {
  view.picture.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") state.held = !state.held;
    moveTo(view, view.pixel(event));
  });
  view.picture.addEventListener("pointermove", (event) => state.held || moveTo(view, view.pixel(event)));
  view.picture.addEventListener("focus", () => goTo(view));
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const COLOURS = { s: "similarity", c: "confidence", f: "flow", n: "none" };

function press(key, shift) {
  const { view, point: [x, y] } = state;
  if (key in ARROWS) {
    const step = shift ? Math.max(1, Math.round(Math.max(view.width, view.height) / 40)) : 1;
    moveTo(view, view.inside([x + step * ARROWS[key][0], y + step * ARROWS[key][1]]));
  } else if (key in COLOURS) {
    controls.elements.colours.value = COLOURS[key];
    showColours();
  } else if (key === "x") {
    goTo(opposite(view));
    opposite(view).picture.focus();
  } else if (key === "v") element("hatched").click();
  else if (key === "m") morph();
  else if (key === "t") turnTheme();
  else if (key === " ") hold(!state.held);
  else return false;
  return true;
}

addEventListener("keydown", (event) => {
  const { target, key, shiftKey } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const named = key.length === 1 ? key.toLowerCase() : key;
  // Controls keep the keys that they use themselves.
  if (target.matches("input, button, summary") && (named in ARROWS || named === " ")) return;
  if (press(named, shiftKey)) event.preventDefault();
});

controls.addEventListener("input", ({ target }) => {
  if (target.id === "morph") {
    cancelAnimationFrame(state.morphing);
    showMorph();
  } else if (target.id === "hatched") element("stage").classList.toggle("hatched", target.checked);
  else showColours();
});
element("theme").addEventListener("click", turnTheme);
night.addEventListener("change", offerTheme);

offerTheme();
document.querySelector("main").hidden = false;
showColours();
