"use strict";
// The data: tokens and words of the input and, behind an encoder, of the target; and per
// attention layer the weights of each head, rows of queries, in whole parts of 1 / unit.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const MEAN = -1;
const BACKWARDS = "Here each token looks at itself and those before it, never ahead: the model " +
  "predicts every token from the ones before it.";
const STACKS = {
  input: { q: "input", k: "input", name: data.target ? "encoder" : "self",
    reading: data.causal ? BACKWARDS : "Here all tokens of the text look at each other." },
  decoder: { q: "target", k: "target", name: "decoder", reading: BACKWARDS },
  cross: { q: "target", k: "input", name: "cross",
    reading: "Here the tokens of the target look at those of the input: the decoder picks what " +
      "to read for the token that it writes next." },
};
const layers = Object.groupBy
  ? Object.groupBy(data.maps, (map) => map.stack)
  : data.maps.reduce((all, map) => ((all[map.stack] ??= []).push(map), all), {});
const state = { stack: data.maps[0].stack, layer: 0, head: 0, view: "lines", by: "q",
  words: false, at: null, held: false };

// ---- what is shown ----

const map = () => layers[state.stack][state.layer];
const side = (which) => data[STACKS[state.stack][which]];
const other = (which) => (which === "q" ? "k" : "q");

/** What a row or column stands for: tokens, or whole words. */
function units(which) {
  const text = side(which);
  const whole = () => text.words.map((label, i) => (
    { label, special: text.tokens.some((token) => token.word === i && token.special) }));
  return state.words ? whole() : text.tokens;
}

const tables = new Map();

/** Weights of one head, or the mean of all, as { rows, columns, values }. */
function table(map, head) {
  const key = [data.maps.indexOf(map), head, state.words].join();
  if (!tables.has(key)) tables.set(key, merged(map, plain(map, head)));
  return tables.get(key);
}

function plain(map, head) {
  const heads = head === MEAN ? map.heads : [map.heads[head]];
  const values = new Float32Array(heads[0].length);
  for (const one of heads) one.forEach((part, i) => (values[i] += part / data.unit / heads.length));
  return values;
}

/** A word looks with the mean of its pieces' weights and is looked at with their sum. */
function merged(map, values) {
  const [q, k] = ["q", "k"].map((which) => data[STACKS[map.stack][which]]);
  const table = { rows: q.tokens.length, columns: k.tokens.length, values };
  if (!state.words) return table;
  const pieces = new Array(q.words.length).fill(0);
  for (const token of q.tokens) pieces[token.word]++;
  const out = { rows: q.words.length, columns: k.words.length };
  out.values = new Float32Array(out.rows * out.columns);
  q.tokens.forEach((row, i) => k.tokens.forEach((column, j) => {
    out.values[row.word * out.columns + column.word] +=
      values[i * table.columns + j] / pieces[row.word];
  }));
  return out;
}

const shown = () => table(map(), state.head);

/** The weights of one row (a token that looks) or column (one that is looked at). */
function shares({ which, i }) {
  const { rows, columns, values } = shown();
  return which === "q"
    ? Array.from(values.subarray(i * columns, (i + 1) * columns))
    : Array.from({ length: rows }, (_, row) => values[row * columns + i]);
}

// ---- colours ----

let low, high;
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const numbers = (name) => style.getPropertyValue(name).split(",").map(Number);
  [low, high] = [numbers("--low"), numbers("--high")];
}
const shade = (weight) => Math.sqrt(Math.min(1, Math.max(0, weight)));
const mix = (t) => low.map((from, i) => Math.round(from + (high[i] - from) * t));
const percent = (weight) => (weight * 100).toFixed(weight < 0.0995 ? 1 : 0) + " %";

/** One pixel per cell; the browser enlarges it. */
function paint(canvas, { rows, columns, values }) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  values.forEach((weight, i) => image.data.set([...mix(shade(weight)), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

// ---- elements ----

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "text", "rect", "title"].includes(tag);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Cuts a label to about `width` pixels of 13-pixel text. */
function cut(label, width) {
  const most = Math.max(2, Math.floor(width / 7.4));
  const letters = Array.from(label);
  return letters.length > most ? letters.slice(0, most - 1).join("") + "…" : label;
}

function drawText() {
  const sides = STACKS[state.stack].q === STACKS[state.stack].k ? [state.by] : ["q", "k"];
  find("text").replaceChildren(...sides.map((which) => {
    const chips = units(which).map((unit, i) => make("button", { class: "chip" +
      (unit.special ? " special" : ""), type: "button", "data-which": which, "data-i": i,
      tabindex: i ? -1 : 0 }, unit.label));
    const names = { q: "looks: target", k: "is looked at: input" };
    const name = sides.length > 1 ? [make("span", {}, names[which])] : [];
    return make("div", { class: "side", role: "group", "data-roving": "chips",
      "aria-label": sides.length > 1 ? names[which] : "tokens" }, ...name, ...chips);
  }));
}

const ROW = 22;
const MOST_LINES = 1500;

function drawLines() {
  const box = find("picture");
  const width = Math.max(260, box.clientWidth - 2);
  const label = Math.min(170, Math.floor(width * 0.32));
  const [q, k] = [units("q"), units("k")];
  const height = Math.max(q.length, k.length) * ROW + 34;
  const svg = make("svg", { width, height, role: "img", "aria-label": title() });
  svg.append(make("text", { x: label - 6, y: 16, "text-anchor": "end", opacity: 0.7 }, "looks"),
    make("text", { x: width - label + 6, y: 16, opacity: 0.7 }, "is looked at"));
  const { columns, values } = shown();
  const cells = Array.from(values.keys()).filter((i) => values[i] >= 0.01);
  cells.sort((a, b) => values[b] - values[a]);
  const drawn = cells.slice(0, MOST_LINES);
  const y = (i) => 34 + i * ROW + ROW / 2;
  const line = (i, j, weight) => make("line", { x1: label, y1: y(i), x2: width - label, y2: y(j),
    "stroke-opacity": shade(weight).toFixed(3), "stroke-width": (0.6 + 3.4 * weight).toFixed(2) });
  const all = make("g", { id: "lines" });
  drawn.forEach((i) => all.append(line(Math.floor(i / columns), i % columns, values[i])));
  svg.append(all, make("g", { id: "chosen" }));
  for (const [which, list] of [["q", q], ["k", k]]) {
    list.forEach((unit, i) => {
      const left = which === "q";
      svg.append(make("text", { x: left ? label - 6 : width - label + 6, y: y(i) + 4,
        "text-anchor": left ? "end" : "start", class: unit.special ? "special" : "",
        "data-label": which + i }, cut(unit.label, label - (left ? 8 : 48))));
      if (!left) svg.append(make("text", { x: width - 2, y: y(i) + 4, "text-anchor": "end",
        "data-share": i }));
      svg.append(make("rect", { class: "hit", "data-which": which, "data-i": i, y: y(i) - ROW / 2,
        x: left ? 0 : width - label, width: label, height: ROW }, make("title", {}, unit.label)));
    });
  }
  box.replaceChildren(svg);
  lineTo = (at) => {
    const weights = at ? shares(at) : [];
    const draw = (weight, i) => (at.which === "q" ? line(at.i, i, weight) : line(i, at.i, weight));
    find("chosen").replaceChildren(...weights.map((weight, i) => [weight, i])
      .filter(([weight]) => weight >= 0.002).map(([weight, i]) => draw(weight, i)));
    find("lines").setAttribute("class", at ? "dim" : "");
    svg.querySelectorAll("[data-share]").forEach((text, i) => {
      const weight = at?.which === "q" ? weights[i] : at?.i === i ? null : 0;
      text.textContent = weight >= 0.005 && weight !== null ? percent(weight) : "";
    });
    svg.querySelectorAll("[data-label]").forEach((text) =>
      text.classList.toggle("at", at !== null && text.dataset.label === at.which + at.i));
  };
  find("note").textContent = drawn.length < cells.length
    ? `The ${MOST_LINES} strongest of ${cells.length} lines above 1 % are drawn.`
    : "Lines below 1 % are left out until their token is chosen.";
}
let lineTo = () => {};

function drawMatrix() {
  const box = find("picture");
  const [q, k] = [units("q"), units("k")];
  const longest = (list) => Math.max(...list.map((unit) => Array.from(unit.label).length));
  const gutter = Math.min(120, 12 + 7.4 * longest(q));
  const top = Math.min(110, 12 + 7.4 * longest(k));
  const room = Math.floor((box.clientWidth - gutter - 6) / k.length);
  const cell = Math.max(5, Math.min(30, room));
  const [width, height] = [gutter + cell * k.length + 4, top + cell * q.length + 4];
  const canvas = make("canvas", { style:
    `left:${gutter}px;top:${top}px;width:${cell * k.length}px;height:${cell * q.length}px` });
  paint(canvas, shown());
  const svg = make("svg", { width, height });
  svg.style.position = "relative";
  const every = Math.ceil(13 / cell);
  q.forEach((unit, i) => i % every || svg.append(make("text", { x: gutter - 5, "text-anchor": "end",
    y: top + i * cell + cell / 2 + 4, class: unit.special ? "special" : "", "data-label": "q" + i },
    cut(unit.label, gutter - 8))));
  k.forEach((unit, i) => {
    const [x, y] = [gutter + i * cell + cell / 2 + 4, top - 5];
    if (i % every === 0) svg.append(make("text", { x, y, transform: `rotate(-90 ${x} ${y})`,
      class: unit.special ? "special" : "", "data-label": "k" + i }, cut(unit.label, top - 8)));
  });
  svg.append(make("rect", { class: "cell", id: "row", visibility: "hidden" }));
  svg.append(make("rect", { class: "cell", id: "cell", visibility: "hidden" }));
  const holder = make("div", { id: "matrix", tabindex: 0, role: "application",
    "aria-label": title() + ". Arrow keys move from cell to cell." }, canvas, svg);
  box.replaceChildren(holder);
  const pick = (i, j) => {
    spot = [i, j];
    const which = STACKS[state.stack].q === STACKS[state.stack].k ? state.by : "q";
    choose({ which, i: which === "q" ? i : j });
    const weight = shown().values[i * k.length + j];
    find("note").textContent = `“${q[i].label}” gives “${k[j].label}” ${percent(weight)}`;
    say(find("note").textContent);
    lineTo(state.at);
  };
  let spot = null;
  const place = (event) => {
    const at = holder.getBoundingClientRect();
    const j = Math.floor((event.clientX - at.left - gutter) / cell);
    const i = Math.floor((event.clientY - at.top - top) / cell);
    if (q[i] && k[j]) pick(i, j);
  };
  holder.addEventListener("pointermove", place);
  holder.addEventListener("pointerdown", place);
  holder.addEventListener("focus", () => spot || pick(state.at?.which === "q" ? state.at.i : 0, 0));
  holder.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!step[event.key]) return;
    event.preventDefault();
    const [i, j] = (spot ?? [0, 0]).map((n, axis) => n + step[event.key][axis]);
    if (q[i] && k[j]) pick(i, j);
  });
  lineTo = (at) => {
    const box = (id, x, y, width, height) => {
      const attributes = { x, y, width, height, visibility: "visible" };
      Object.entries(attributes).forEach(([name, value]) => find(id).setAttribute(name, value));
    };
    find("row").setAttribute("visibility", "hidden");
    find("cell").setAttribute("visibility", "hidden");
    if (at?.which === "q") box("row", gutter, top + at.i * cell, cell * k.length, cell);
    if (at?.which === "k") box("row", gutter + at.i * cell, top, cell, cell * q.length);
    if (spot && at?.i === spot[at.which === "q" ? 0 : 1])
      box("cell", gutter + spot[1] * cell, top + spot[0] * cell, cell, cell);
    svg.querySelectorAll("[data-label]").forEach((text) =>
      text.classList.toggle("at", at !== null && text.dataset.label === at.which + at.i));
  };
  find("note").textContent = "Point at a cell, or move with the arrow keys.";
}

function drawAll() {
  const maps = layers[state.stack];
  const most = Math.max(...maps.map((map) => map.heads.length));
  const grid = make("div", { id: "heads", "data-roving": "heads",
    style: `grid-template-columns:auto repeat(${most},minmax(3.2rem,7rem))` });
  grid.append(make("span", {}, "layer"));
  for (let head = 0; head < most; head++) grid.append(make("span", {}, head ? head + 1 : "head 1"));
  maps.forEach((map, layer) => {
    grid.append(make("span", {}, layer + 1));
    map.heads.forEach((_, head) => {
      const canvas = make("canvas");
      paint(canvas, table(map, head));
      grid.append(make("button", { type: "button", "data-layer": layer, "data-head": head,
        "aria-label": `layer ${layer + 1}, head ${head + 1}` }, canvas));
    });
    for (let head = map.heads.length; head < most; head++) grid.append(make("span"));
  });
  find("all").replaceChildren(grid);
}

// ---- state to picture ----

const title = () => `Layer ${state.layer + 1}, ` +
  (state.head === MEAN ? "mean of all heads" : `head ${state.head + 1}`);

let speech;
function say(text) {
  clearTimeout(speech);
  speech = setTimeout(() => (find("spoken").textContent = text), 250);
}

function drawPicture() {
  find("picture-title").textContent = title() + ` (${map().layer})`;
  (state.view === "lines" ? drawLines : drawMatrix)();
  find("heads").querySelectorAll("button").forEach((button) => {
    const on = Number(button.dataset.layer) === state.layer &&
      (state.head === MEAN || Number(button.dataset.head) === state.head);
    button.setAttribute("aria-pressed", on);
    const first = Number(button.dataset.head) === Math.max(0, state.head);
    button.tabIndex = on && first ? 0 : -1;
  });
  mark();
}

/** Shows the chosen token's shares everywhere. */
function mark() {
  const at = state.at;
  const weights = at ? shares(at) : [];
  const across = at && other(at.which);
  const same = STACKS[state.stack].q === STACKS[state.stack].k;
  document.querySelectorAll(".chip").forEach((chip) => {
    const i = Number(chip.dataset.i);
    const tinted = at && (same || chip.dataset.which === across);
    const t = tinted ? shade(weights[i] ?? 0) : 0;
    chip.style.background = t > 0 ? `rgb(${mix(t)})` : "";
    chip.style.color = t > 0.6 ? "var(--on-high)" : "";
    chip.title = tinted ? percent(weights[i] ?? 0) : "";
    const chosen = at !== null && i === at.i && (same || chip.dataset.which === at.which);
    chip.classList.toggle("at", chosen);
    chip.setAttribute("aria-pressed", chosen);
  });
  lineTo(at);
  const list = at ? units(across) : [];
  const best = list.map((unit, i) => ({ ...unit, weight: weights[i] }));
  best.sort((a, b) => b.weight - a.weight);
  const top = best.filter(({ weight }) => weight >= 0.0005).slice(0, 6);
  const name = at ? `“${units(at.which)[at.i].label}” ` : "";
  const verb = at?.which === "k" ? "is attended to by" : "attends to";
  find("sentence").textContent = !at ? "No token is chosen."
    : top.length ? name + verb
    : name + (at.which === "k" ? "is not attended to." : "sees no token.");
  find("top").replaceChildren(...top.map((unit) => make("li", {},
    make("span", unit.special ? { class: "special" } : {}, unit.label),
    make("span", {}, percent(unit.weight)),
    make("span", {}, make("i", { style: `width:${(unit.weight * 100).toFixed(1)}%` })))));
  if (at) say(name + verb + " " + top.slice(0, 3).map((unit) =>
    `${unit.label} ${percent(unit.weight)}`).join(", "));
}

function choose(at) {
  state.at = at;
  mark();
}

/** After a change of stack or of units: the chosen token may not exist any more. */
function drawEverything() {
  const one = STACKS[state.stack];
  const same = one.q === one.k;
  find("direction").hidden = !same;
  if (state.at && (!units(state.at.which)[state.at.i] || (same && state.at.which !== state.by)))
    state.at = null;
  if (!state.at) {
    const list = units(same ? state.by : "q");
    // The first token of a text that is read forwards sees nothing but itself.
    const good = one.reading === BACKWARDS ? "findLastIndex" : "findIndex";
    const i = Math.max(0, list[good]((unit) => !unit.special));
    state.at = { which: same ? state.by : "q", i };
  }
  find("reading").textContent = one.reading;
  drawText();
  drawAll();
  drawPicture();
  remember();
}

function fill(select, options, value) {
  select.replaceChildren(...options.map(([value, name]) => make("option", { value }, name)));
  select.value = value;
}

function fillSelects() {
  const maps = layers[state.stack];
  state.layer = Math.min(state.layer, maps.length - 1);
  fill(find("layer"), maps.map((map, i) => [i, `${i + 1} · ${map.layer}`]), state.layer);
  const heads = map().heads.map((_, i) => [i, `${i + 1}`]);
  state.head = Math.min(state.head, heads.length - 1);
  fill(find("head"), [[MEAN, "mean of all"], ...heads], state.head);
}

/** The choice stands in the address, so that a reload or a link keeps it. */
function remember() {
  const words = state.words ? "words" : "tokens";
  const parts = [state.stack, state.layer + 1, state.head + 1, state.view, words, state.by];
  history.replaceState(null, "", "#" + parts.join("/"));
}

function recall() {
  const [stack, layer, head, view, words, by] = location.hash.slice(1).split("/");
  if (layers[stack]) state.stack = stack;
  const within = (text, most) => Math.min(most, Math.max(0, Number(text) || 0));
  state.layer = within(layer - 1, layers[state.stack].length - 1);
  state.head = head === "0" ? MEAN : within(head - 1, map().heads.length - 1);
  if (view === "matrix") state.view = view;
  state.words = words === "words" && !find("merge").hidden;
  if (by === "k") state.by = by;
}

// ---- events ----

function setUp() {
  const names = Object.keys(STACKS).filter((name) => layers[name]);
  find("stacks").hidden = names.length < 2;
  const texts = [data.input, data.target].filter(Boolean);
  find("merge").hidden = texts.every((text) => text.words.length === text.tokens.length);
  find("merging").hidden = find("merge").hidden;
  recall();
  find("stacks").append(...names.map((name) => make("label", {}, make("input",
    { type: "radio", name: "stack", value: name }), STACKS[name].name)));
  for (const name of ["stack", "view", "by"]) {
    const buttons = document.getElementsByName(name);
    for (const button of buttons) button.checked = button.value === state[name];
  }
  find("words").checked = state.words;
  const layout = texts.map((text) => `${text.tokens.length} tokens`).join(" and ");
  find("about").textContent = `${data.model} · ${layout} · ${data.maps.length} attention layers`;
  fillSelects();
}

document.addEventListener("change", ({ target }) => {
  if (["stack", "view", "by"].includes(target.name)) state[target.name] = target.value;
  if (target.name === "by") state.at = state.at && { which: state.by, i: state.at.i };
  if (target.id === "words") {
    state.words = target.checked;
    state.at = null;
  }
  if (["layer", "head"].includes(target.id)) state[target.id] = Number(target.value);
  if (target.name === "stack") state.at = null;
  fillSelects();
  if (target.name === "view" || ["layer", "head"].includes(target.id)) {
    drawPicture();
    remember();
  } else {
    drawEverything();
  }
});

const spot = (target) => {
  const element = target.closest?.("[data-which]");
  return element && { which: element.dataset.which, i: Number(element.dataset.i) };
};
document.addEventListener("pointerover", (event) => {
  const at = spot(event.target);
  if (at && !state.held && event.pointerType === "mouse") choose(at);
});
document.addEventListener("focusin", (event) => {
  const at = spot(event.target);
  if (at && !state.held) choose(at);
});
document.addEventListener("click", (event) => {
  const at = spot(event.target);
  if (at) {
    state.held = !(state.held && at.which === state.at?.which && at.i === state.at.i);
    choose(at);
  }
  const button = event.target.closest?.("[data-head]");
  if (button) {
    [state.layer, state.head] = [Number(button.dataset.layer), Number(button.dataset.head)];
    fillSelects();
    drawPicture();
    remember();
  }
});

/** Arrow keys move among the tokens and among the small pictures; Tab leaves them. */
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    state.held = false;
    choose(null);
  }
  const group = event.target.closest?.("[data-roving]");
  if (!group || event.target.tagName !== "BUTTON") return;
  const buttons = Array.from(group.querySelectorAll("button"));
  const at = buttons.indexOf(event.target);
  const heads = group.dataset.roving === "heads";
  const row = heads ? map().heads.length : 1;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row,
    Home: -at, End: buttons.length - 1 - at }[event.key];
  const next = step === undefined ? null : buttons[at + step];
  if (!next) return;
  event.preventDefault();
  buttons.forEach((button) => (button.tabIndex = -1));
  next.tabIndex = 0;
  next.focus();
  if (heads) next.click();
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  drawEverything();
});
let wide = window.innerWidth;
addEventListener("resize", () => {
  // On phones the height changes whenever the address bar slides away.
  if (window.innerWidth !== wide) drawPicture();
  wide = window.innerWidth;
});

readColours();
setUp();
drawEverything();
