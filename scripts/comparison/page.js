"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const state = { scene: 0, view: 0, left: "photo", right: null, map: "error", x: 0, y: 0, size: 48 };
const scene = () => data.scenes[state.scene];
const view = () => scene().views[state.view];
const pictured = () => data.methods.filter((method) => view() && method.name in view().images);
const uri = (webp) => "data:image/webp;base64," + webp;
const decoded = new Map();

// Pixels of a picture, decoded once.
async function pixels(webp) {
  if (!decoded.has(webp)) {
    const image = new Image();
    image.src = uri(webp);
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    decoded.set(webp, { canvas, width: canvas.width, height: canvas.height,
      values: context.getImageData(0, 0, canvas.width, canvas.height).data });
  }
  return decoded.get(webp);
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function dot(method) {
  const made = element("span", { class: "dot" });
  made.style.background = method.color;
  return made;
}

function press(buttons, pressed) {
  buttons.forEach((button, index) => button.setAttribute("aria-pressed", pressed(button, index)));
}

// Slider

function showSlider() {
  const names = { photo: "photo" };
  for (const method of pictured()) names[method.name] = method.name;
  for (const side of ["left", "right"]) {
    if (!(state[side] in names)) state[side] = side === "left" ? "photo" : scene().best;
    const select = get(side + "-choice");
    select.replaceChildren(...Object.keys(names).map((name) => element("option", { value: name }, names[name])));
    select.value = state[side];
    const picture = state[side] === "photo" ? view().photo : view().images[state[side]];
    get(side).src = uri(picture);
    get(side).alt = `${state[side]}, ${view().name}`;
    const psnr = view().psnr[state[side]];
    get(side + "-tag").textContent = names[state[side]] + (psnr === undefined ? "" : `, ${psnr.toFixed(2)} dB`);
  }
}

function slide() {
  const share = Number(get("share").value);
  document.querySelector(".slider .over").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  document.querySelector(".slider .bar").style.left = share + "%";
}

// Close-up

// The middle of the square in which the methods' errors lie farthest apart.
async function mostDifferent(size) {
  const photo = await pixels(view().photo);
  const images = await Promise.all(pictured().map((method) => pixels(view().images[method.name])));
  let best = { value: -1, x: photo.width / 2, y: photo.height / 2 };
  const step = size / 2;
  for (let top = 0; top + size <= photo.height; top += step) {
    for (let left = 0; left + size <= photo.width; left += step) {
      const errors = images.map((image) => {
        let sum = 0;
        for (let y = top; y < top + size; y += 2) {
          for (let x = left; x < left + size; x += 2) {
            const at = 4 * (Math.floor(y) * photo.width + Math.floor(x));
            for (let c = 0; c < 3; c++) sum += Math.abs(image.values[at + c] - photo.values[at + c]);
          }
        }
        return sum;
      });
      const value = Math.max(...errors) - Math.min(...errors);
      if (value > best.value) best = { value, x: left + size / 2, y: top + size / 2 };
    }
  }
  return best;
}

async function showCrops() {
  const shown = view();
  const photo = await pixels(shown.photo);
  const size = state.size = Math.max(16, Math.min(state.size, photo.width, photo.height));
  state.x = Math.max(size / 2, Math.min(photo.width - size / 2, state.x));
  state.y = Math.max(size / 2, Math.min(photo.height - size / 2, state.y));
  const [left, top] = [Math.round(state.x - size / 2), Math.round(state.y - size / 2)];
  Object.assign(get("frame").style, {
    left: (100 * left) / photo.width + "%", top: (100 * top) / photo.height + "%",
    width: (100 * size) / photo.width + "%", height: (100 * size) / photo.height + "%",
  });
  const cells = [["photo", shown.photo, null], ...pictured().map((one) => [one.name, shown.images[one.name], one])];
  const figures = await Promise.all(cells.map(async ([name, webp, method]) => {
    const canvas = element("canvas", { width: size, height: size, role: "img", "aria-label": `${name}, close up` });
    canvas.getContext("2d").drawImage((await pixels(webp)).canvas, left, top, size, size, 0, 0, size, size);
    return element("figure", {}, canvas, element("figcaption", {}, ...(method ? [dot(method)] : []), name));
  }));
  if (shown === view()) get("crops").replaceChildren(...figures);
}

// Maps

function inferno(share) {
  const at = Math.max(0, Math.min(1, share)) * (data.inferno.length - 1);
  return data.inferno[Math.round(at)];
}

const MAPS = {
  error: (image, photo) => inferno((Math.abs(image[0] - photo[0]) + Math.abs(image[1] - photo[1]) +
    Math.abs(image[2] - photo[2])) / 765 / data.errorRange),
  residual: (image, photo) => [0, 1, 2].map((c) => 127.5 + data.residualGain * (photo[c] - image[c])),
};

async function showMaps() {
  const shown = view(), paint = MAPS[state.map];
  const photo = await pixels(shown.photo);
  const figures = await Promise.all(pictured().map(async (method) => {
    const image = await pixels(shown.images[method.name]);
    const { width, height } = photo;
    const canvas = element("canvas", { width, height, role: "img", "aria-label": `${state.map} of ${method.name}` });
    const context = canvas.getContext("2d"), painted = context.createImageData(width, height);
    for (let at = 0; at < painted.data.length; at += 4) {
      const color = paint(image.values.subarray(at, at + 3), photo.values.subarray(at, at + 3));
      painted.data.set([color[0], color[1], color[2], 255], at);
    }
    context.putImageData(painted, 0, 0);
    const caption = element("figcaption", {}, dot(method), `${method.name}, ${shown.psnr[method.name].toFixed(2)} dB`);
    return element("figure", {}, canvas, caption);
  }));
  if (shown !== view() || paint !== MAPS[state.map]) return;
  get("maps").replaceChildren(...figures);
  const legend = get("map-legend");
  if (state.map === "residual") {
    legend.textContent = `Photo minus image, ${data.residualGain} times amplified around grey: what each method lacks.`;
  } else {
    const ramp = element("span", { class: "ramp" });
    const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => `rgb(${inferno(share).join(",")})`);
    ramp.style.background = `linear-gradient(90deg, ${stops.join(",")})`;
    const end = `${Math.round(data.errorRange * 255)} of 255 and more`;
    legend.replaceChildren("Absolute error, mean over the channels: 0", ramp, end);
  }
}

// Charts

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(Number(at.toFixed(9)));
  return found;
}

// Lines through the points of each series; ``axes`` say how to place and name what is on them.
function chart(target, series, axes) {
  const width = Math.max(300, Math.min(520, get(target).clientWidth));
  const [height, left, right, top, bottom] = [320, 34, 22, 12, 44];
  const x = (value) => left + (width - left - right) * axes.x.share(value);
  const y = (value) => height - bottom - (height - top - bottom) * axes.y.share(value);
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": axes.name });
  for (const [value, label] of axes.y.ticks) {
    drawn.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    drawn.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, label));
  }
  for (const [value, label] of axes.x.ticks) {
    drawn.append(svg("text", { x: x(value), y: height - bottom + 18, "text-anchor": "middle" }, label));
  }
  const middle = (width + left - right) / 2;
  drawn.append(svg("text", { x: middle, y: height - 6, "text-anchor": "middle" }, axes.x.name));
  for (const { method, points } of series) {
    const places = points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    drawn.append(svg("polyline", { points: places.join(" "), stroke: method.color }));
    for (const [at, value, label] of points) {
      const point = svg("circle", { cx: x(at), cy: y(value), r: 3.5, fill: method.color });
      point.append(svg("title", {}, `${method.name}: ${label}`));
      drawn.append(point);
    }
  }
  const legend = element("div", { class: "legend" },
    ...series.map(({ method }) => element("span", {}, dot(method), method.name)));
  get(target).replaceChildren(drawn, legend);
}

function linear(low, high) {
  return (value) => (value - low) / (high - low || 1);
}

const LEVELS = [0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96];

function showCharts() {
  const listed = (kind) => data.methods.filter((method) => kind[method.name]);
  const curves = listed(scene().curves).map((method) => ({ method, points: scene().curves[method.name]
    .map(([at, psnr]) => [at, psnr, `${psnr.toFixed(2)} dB at ${at.toFixed(0)} ${data.unit}`]) }));
  const all = curves.flatMap(({ points }) => points);
  if (all.length) {
    const [low, high] = [Math.floor(Math.min(...all.map((p) => p[1]))), Math.ceil(Math.max(...all.map((p) => p[1])))];
    const end = Math.max(...all.map((p) => p[0]));
    chart("curve", curves, { name: "PSNR while training",
      x: { name: `${data.unit} of training`, share: linear(0, end), ticks: ticks(0, end, 6).map((at) => [at, at]) },
      y: { share: linear(low, high), ticks: ticks(low, high, 6).map((at) => [at, at]) } });
  }
  const octaves = listed(scene().octaves).map((method) => ({ method, points: scene().octaves[method.name]
    .map((psnr, index) => [index, 255 * 10 ** (-psnr / 20)])
    .map(([index, error]) => [index, error, `${error.toFixed(2)} of 255, ${data.bands[index].long} cycles per pixel`]) }));
  const errors = octaves.flatMap(({ points }) => points.map((point) => point[1]));
  if (errors.length) {
    const [low, high] = [Math.log2(Math.min(...errors)) - 0.1, Math.log2(Math.max(...errors)) + 0.1];
    const levels = LEVELS.filter((level) => Math.log2(level) > low && Math.log2(level) < high);
    chart("octaves", octaves, { name: "Error by octave of frequency",
      x: { name: "cycles per pixel", share: linear(0, data.bands.length - 1),
        ticks: data.bands.map((band, index) => [index, band.short]) },
      y: { share: (value) => linear(low, high)(Math.log2(value)), ticks: levels.map((level) => [level, level]) } });
  }
}

// All of it

// No picture is so large that it does not fit into the window.
async function fit(shown) {
  const { width, height } = await pixels(shown.photo);
  for (const [name, share] of [["slider", 78], ["locator", 60]]) {
    document.querySelector("." + name).style.maxWidth = `calc(${share}vh * ${width / height})`;
  }
}

async function showView() {
  if (!view()) return;
  await fit(view());
  press([...get("views").children], (_, index) => index === state.view);
  showSlider();
  get("locator-photo").src = uri(view().photo);
  get("locator-photo").alt = `photo ${view().name}`;
  const found = await mostDifferent(state.size);
  Object.assign(state, { x: found.x, y: found.y });
  await Promise.all([showCrops(), showMaps()]);
}

async function showScene() {
  state.view = 0;
  state.right = scene().best;
  press([...document.querySelectorAll(".scenes button")], (_, index) => index === state.scene);
  document.querySelectorAll("[data-scene-table]").forEach((table, index) => { table.hidden = index !== state.scene; });
  get("views").replaceChildren(...scene().views.map((one, index) => {
    const picture = element("img", { src: uri(one.photo), alt: "" });
    const button = element("button", { type: "button", "aria-label": `view ${one.name}` }, picture);
    button.addEventListener("click", () => { state.view = index; showView(); });
    return button;
  }));
  showCharts();
  await showView();
}

function moveFrame(event) {
  const bounds = get("locator-photo").getBoundingClientRect(), photo = get("locator-photo");
  state.x = ((event.clientX - bounds.left) / bounds.width) * photo.naturalWidth;
  state.y = ((event.clientY - bounds.top) / bounds.height) * photo.naturalHeight;
  showCrops();
}

const MOVES = {
  ArrowLeft: () => { state.x -= 4; }, ArrowRight: () => { state.x += 4; },
  ArrowUp: () => { state.y -= 4; }, ArrowDown: () => { state.y += 4; },
  "+": () => { state.size -= 8; }, "-": () => { state.size += 8; },
};

get("share").addEventListener("input", slide);
for (const side of ["left", "right"]) {
  get(side + "-choice").addEventListener("change", (event) => { state[side] = event.target.value; showSlider(); });
}
get("locator").addEventListener("pointerdown", (event) => {
  get("locator").setPointerCapture(event.pointerId);
  moveFrame(event);
});
get("locator").addEventListener("pointermove", (event) => { if (event.buttons) moveFrame(event); });
get("locator").addEventListener("keydown", (event) => {
  if (!(event.key in MOVES)) return;
  event.preventDefault();
  MOVES[event.key]();
  showCrops();
});
document.querySelectorAll(".scenes button").forEach((button, index) => {
  button.addEventListener("click", () => { state.scene = index; showScene(); });
});
document.querySelectorAll("[data-map]").forEach((button, _, all) => {
  button.addEventListener("click", () => {
    state.map = button.dataset.map;
    press([...all], (one) => one === button);
    showMaps();
  });
});
if (data.scenes.length) showScene().then(() => { document.body.dataset.ready = "yes"; });
