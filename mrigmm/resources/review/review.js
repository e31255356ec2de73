"use strict";
// The page of `mrigmm review`: one label map, kept here as class ids in the order of the viewer's volumes
// (x to the right, y up, slice), and shown by NiiVue as the drawing of every panel. NiiVue only draws: the
// pointer belongs to a canvas above it.

const $ = (id) => document.getElementById(id);
const MOST_UNDONE = 200;
const panels = [];
const strokes = { done: [], undone: [] };
let listed = { studies: [] };
let open = null; // the study as the server told it
let labels = null; // class ids, as drawn so far
let savedLabels = null;
let size = [1, 1, 1];
let slice = 0;
let chosen = 0; // class id to draw; 0 erases
let stroke = null; // what the pointer is drawing
let cursor = null; // [x, y], of the keyboard
let pointer = null; // [panel, x, y], of the mouse
let verdict = null;
let placing = false;
let insertion = "keep"; // or [x, y, slice], or null: as the program finds it
let view = { zoom: 1, x: 0, y: 0 }; // the voxel in the middle
let opacityBefore = 45;
let busy = false;
let wanted = null; // the study that was chosen last, while another is read

function tell(text, reload = false) {
  $("message").querySelector("p").textContent = text;
  $("reload").hidden = !reload;
  $("message").hidden = false;
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error(
      "The server does not answer: it was ended. What was saved is on the disk; what was drawn since is only " +
        "on this page. Start mrigmm review again, and open the address that it prints.",
    );
  }
  if (answer.ok) return answer.json();
  const error = new Error((await answer.text()).trim());
  error.status = answer.status;
  throw error;
}

const address = (id) => `studies/${encodeURIComponent(id)}`;

function item(text, kind = "li") {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}

function base64Of(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

// The list of studies

function showList() {
  const words = $("filter").value.toLowerCase();
  const marks = { accepted: "✓", rejected: "✗" };
  $("studies").replaceChildren(
    ...listed.studies
      .filter(({ id }) => id.toLowerCase().includes(words))
      .map(({ id, verdict: said, edited }) => {
        const button = item("", "button");
        button.type = "button";
        button.append(item(id, "span"));
        const mark = item(`${edited ? "✎" : ""}${marks[said] ?? ""}`, "span");
        mark.className = said ?? "";
        mark.title = [edited ? "edited" : "", said ?? ""].filter(Boolean).join(", ");
        mark.setAttribute("aria-label", mark.title);
        button.append(mark);
        button.setAttribute("aria-current", String(open?.id === id));
        button.addEventListener("click", () => openStudy(id));
        const entry = document.createElement("li");
        entry.append(button);
        return entry;
      }),
  );
  const count = (said) => listed.studies.filter((study) => study.verdict === said).length;
  $("counts").textContent = `${count("accepted")} accepted, ${count("rejected")} rejected, ${count(null)} open`;
}

function showTraining(told) {
  if (told.tables_failed) tell(`The tables of the folder could not be written: ${told.tables_failed}`);
  $("train-text").textContent = told.train
    ? `${told.checked} ${told.checked === 1 ? "map is" : "maps are"} accepted or corrected, and not rejected.`
    : "No label map is accepted or corrected yet.";
  $("train").textContent = told.train ?? "";
  $("train").hidden = $("copy").hidden = !told.train;
}

function neighbour(step) {
  const at = listed.studies.findIndex(({ id }) => id === open?.id);
  const next = listed.studies[at + step];
  if (next) openStudy(next.id);
}

// One study

const drawn = () => labels !== null && labels.some((id, index) => id !== savedLabels[index]);

function unsaved() {
  if (!open) return false;
  const review = open.review;
  const said = verdict !== review.verdict || $("comment").value !== review.comment;
  return said || insertion !== "keep" || ($("base").value || null) !== review.base || drawn();
}

async function openStudy(id, sure = false) {
  wanted = id;
  if (busy || (!sure && unsaved() && !confirm(`Leave ${open.id} without saving?`))) return;
  busy = true;
  try {
    while (wanted !== null) {
      const next = wanted;
      const found = await ask(address(next));
      await showStudy(found);
      if (wanted === next) wanted = null;
    }
    $("message").hidden = true;
  } catch (error) {
    wanted = null;
    tell(error.message);
  } finally {
    busy = false;
  }
}

async function showStudy(found) {
  $("desk").hidden = $("side").hidden = false;
  const image = (data, options) => niivue.NVImage.loadFromBase64({ base64: data, name: "v.nii.gz", ...options });
  const map = await image(found.labels);
  size = map.hdr.dims.slice(1, 4);
  labels = Uint8Array.from(map.img);
  savedLabels = labels.slice();
  strokes.done.length = strokes.undone.length = 0;
  stroke = cursor = null;
  const sameStudy = open?.id === found.id;
  open = found;
  await makePanels(found.sequences.length);
  const colours = { R: [0], G: [0], B: [0], A: [0], labels: [""] };
  for (let id = 1; id <= Math.max(...found.classes.map((entry) => entry.id)); id++) {
    const colour = found.classes.find((entry) => entry.id === id)?.colour ?? [0, 0, 0];
    ["R", "G", "B"].forEach((channel, at) => colours[channel].push(colour[at]));
    colours.A.push(255);
    colours.labels.push("");
  }
  for (const [index, panel] of panels.entries()) {
    const sequence = found.sequences[index];
    panel.figure.hidden = !sequence;
    if (!sequence) continue;
    panel.name.textContent = sequence.name;
    panel.over.setAttribute("aria-label", `${sequence.name}: arrows move the cursor, space draws`);
    [...panel.frame.querySelectorAll("b")].forEach((letter, at) => (letter.textContent = found.edges[at]));
    for (const volume of [...panel.viewer.volumes]) panel.viewer.removeVolume(volume);
    panel.viewer.addVolume(await image(sequence.data, { colormap: "gray", cal_min: 0, cal_max: 255 }));
    panel.viewer.createEmptyDrawing();
    panel.viewer.setDrawColormap(colours);
  }
  $("slice").max = size[2] - 1;
  if (!sameStudy) {
    slice = fullest();
    nearerTo();
  }
  slice = Math.min(slice, size[2] - 1);
  showClasses();
  showState(found);
  $("original").disabled = found.original === null;
  $("view-note").textContent = [
    found.images_note && `The images cannot be shown: ${found.images_note}`,
    found.base_known ? "Base to apex, seen from the apex" : "Which end is the base is not known",
  ]
    .filter(Boolean)
    .join(". ");
  showList();
  refresh();
  $("panels").dataset.drawn = found.id;
}

function showState(state) {
  open = { ...open, ...state };
  const { review } = state;
  verdict = review.verdict;
  insertion = "keep";
  $("study").textContent = state.id;
  $("comment").value = review.comment;
  $("base").value = review.base ?? "";
  const parts = [
    review.edited_by && `edited by ${review.edited_by}, ${time(review.edited_at)}`,
    !review.edited_by && state.edited && "changed by another program",
    review.by && `saved by ${review.by}, ${time(review.at)}`,
  ];
  $("state").textContent = parts.filter(Boolean).join(" · ");
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));
  $("numbers").tBodies[0].replaceChildren(
    ...state.quantities.map(({ title, value, program }) => {
      const row = document.createElement("tr");
      const head = item(title, "th");
      head.scope = "row";
      row.append(head, item(number(value), "td"), item(number(program), "td"));
      row.classList.toggle("changed", program !== undefined && number(value) !== number(program));
      return row;
    }),
  );
  $("warnings").replaceChildren(...state.warnings.map((text) => item(text)));
  $("notes").replaceChildren(...state.notes.map((text) => item(text)));
  showBullsEye(state.bulls_eye);
  showVerdict();
  drawOver();
}

const time = (text) => new Date(text).toLocaleString();

function showVerdict() {
  $("accept").setAttribute("aria-pressed", String(verdict === "accepted"));
  $("reject").setAttribute("aria-pressed", String(verdict === "rejected"));
}

function showBullsEye(eye) {
  $("bulls-eye").hidden = !eye;
  if (!eye) return;
  const svg = $("bulls-eye").querySelector("svg");
  const part = (kind, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const fill = (wedge) => (wedge.colour ? `rgb(${wedge.colour.join(",")})` : "transparent");
  const kind = (wedge) => (wedge.value === null ? "none" : wedge.dark ? "light" : "");
  svg.replaceChildren(
    ...eye.wedges.map((wedge) => part("path", { d: wedge.path, fill: fill(wedge) })),
    part("path", { d: eye.borders, class: "borders" }),
    ...eye.wedges.map((wedge) =>
      part("text", { x: wedge.x, y: wedge.y, class: kind(wedge) }, wedge.value === null ? "–" : Math.round(wedge.value)),
    ),
  );
  $("bulls-eye").querySelector("figcaption").textContent = `Transmurality (%), ${eye.numbered_by}.`;
}

function showClasses() {
  const choices = [...open.classes, { name: "erase", id: 0, colour: null }];
  if (!choices.some(({ id }) => id === chosen)) chosen = 0;
  const scar = open.classes.find(({ name }) => name === "scar") ?? open.classes.at(-1);
  if (chosen === 0 && !strokes.done.length && scar) chosen = scar.id;
  $("classes").replaceChildren(
    ...choices.map(({ name, id, colour }, index) => {
      const button = item("", "button");
      button.type = "button";
      button.setAttribute("role", "radio");
      const swatch = document.createElement("i");
      if (colour) swatch.style.background = `rgb(${colour.join(",")})`;
      button.append(swatch, `${name} `, item(id ? String(index + 1) : "e", "kbd"));
      button.dataset.id = id;
      button.addEventListener("click", () => choose(id));
      return button;
    }),
  );
  choose(chosen);
}

function choose(id) {
  chosen = id;
  setPlacing(false);
  for (const button of $("classes").children) {
    button.setAttribute("aria-checked", String(Number(button.dataset.id) === id));
  }
}

function setPlacing(on) {
  placing = on;
  $("place-insertion").setAttribute("aria-pressed", String(on));
}

// Pictures

async function makePanels(count) {
  while (panels.length < count) {
    const figure = document.createElement("figure");
    const name = item("", "button");
    name.type = "button";
    name.title = "Larger, smaller";
    name.addEventListener("click", () => enlarge(figure));
    const caption = document.createElement("figcaption");
    caption.append(name);
    const frame = document.createElement("div");
    frame.className = "frame";
    const picture = document.createElement("canvas");
    const over = document.createElement("canvas");
    over.className = "over";
    over.tabIndex = 0;
    frame.append(picture, over, ...[0, 1, 2, 3].map(() => document.createElement("b")));
    figure.append(caption, frame);
    $("panels").append(figure);
    const viewer = new niivue.Niivue({
      backColor: [0.06, 0.07, 0.09, 1],
      crosshairWidth: 0,
      dragAndDropEnabled: false,
      isOrientationTextVisible: false,
      isColorbar: false,
      loadingText: "",
      logLevel: "warn",
    });
    await viewer.attachToCanvas(picture);
    viewer.setSliceType(viewer.sliceTypeAxial);
    const panel = { figure, name, frame, picture, over, viewer };
    panels.push(panel);
    listen(panel);
    new ResizeObserver(() => requestAnimationFrame(() => drawOver())).observe(frame);
  }
}

function enlarge(figure) {
  const now = !figure.classList.contains("large");
  for (const panel of panels) panel.figure.classList.toggle("large", now && panel.figure === figure);
  $("panels").classList.toggle("one", now);
}

const shownPanels = () => panels.filter((panel) => !panel.figure.hidden);
const at = (x, y, z) => x + size[0] * (y + size[1] * z);
// Resolution of NiiVue's canvas over that of the page.
const density = (panel) => panel.picture.width / panel.picture.clientWidth || 1;

function voxelUnder(panel, event) {
  const box = panel.over.getBoundingClientRect();
  const scale = density(panel);
  const place = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const share = panel.viewer.canvasPos2frac(place);
  return share[0] < 0 ? null : [share[0] * size[0] - 0.5, share[1] * size[1] - 0.5];
}

function placeOf(panel, x, y) {
  const found = panel.viewer.frac2canvasPos([(x + 0.5) / size[0], (y + 0.5) / size[1], (slice + 0.5) / size[2]]);
  const scale = density(panel);
  return found ? [found[0] / scale, found[1] / scale] : null;
}

function fullest() {
  const counts = new Array(size[2]).fill(0);
  const scar = open.classes.find(({ name }) => name === "scar")?.id;
  const wanted = labels.includes(scar) ? (id) => id === scar : (id) => id > 0;
  labels.forEach((id, index) => wanted(id) && counts[Math.floor(index / (size[0] * size[1]))]++);
  const most = Math.max(...counts);
  return most ? counts.indexOf(most) : Math.floor(size[2] / 2);
}

// The heart with a margin of 20 mm; the whole slice where nothing is labelled.
function nearerTo() {
  let [x0, x1, y0, y1] = [size[0], -1, size[1], -1];
  labels.forEach((id, index) => {
    if (!id) return;
    const [x, y] = [index % size[0], Math.floor(index / size[0]) % size[1]];
    [x0, x1, y0, y1] = [Math.min(x0, x), Math.max(x1, x), Math.min(y0, y), Math.max(y1, y)];
  });
  view = wholeSlice();
  if (x1 < 0) return;
  const [mx, my] = open.pixel_mm;
  const extent = Math.max((x1 - x0) * mx, (y1 - y0) * my) + 40;
  const zoom = Math.max(1, Math.max(size[0] * mx, size[1] * my) / extent);
  if (zoom > 1) view = { zoom, x: (x0 + x1) / 2, y: (y0 + y1) / 2 };
}

const wholeSlice = () => ({ zoom: 1, x: (size[0] - 1) / 2, y: (size[1] - 1) / 2 });

// Around the middle, or so that a voxel stays where it is.
function zoomBy(factor, [x, y] = [view.x, view.y]) {
  const zoom = Math.min(Math.max(view.zoom * factor, 1), 20);
  const share = view.zoom / zoom;
  view = zoom === 1 ? wholeSlice() : { zoom, x: x + (view.x - x) * share, y: y + (view.y - y) * share };
  refresh();
}

// NiiVue enlarges around the volume's first voxel and then shifts.
function shift() {
  const middle = wholeSlice();
  return ["x", "y"].map((axis, at) => (middle[axis] - view.zoom * view[axis]) * open.pixel_mm[at]);
}

function refresh() {
  for (const { viewer } of shownPanels()) {
    viewer.drawBitmap.set(labels);
    viewer.drawOpacity = Number($("opacity").value) / 100;
    viewer.scene.crosshairPos[2] = (slice + 0.5) / size[2];
    viewer.scene.pan2Dxyzmm = [...shift(), 0, view.zoom];
    viewer.refreshDrawing(true, false);
  }
  $("slice").value = slice;
  $("place").textContent = `${open.numbers[slice]} (${slice + 1} of ${size[2]})`;
  $("undo").disabled = !strokes.done.length;
  $("redo").disabled = !strokes.undone.length;
  drawOver();
}

let waiting = false;
function refreshSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    refresh();
  });
}

function goTo(number) {
  slice = Math.min(Math.max(number, 0), size[2] - 1);
  refresh();
}

// What lies above the pictures: brush, cursor, insertion

function drawOver() {
  if (!open || !labels) return;
  for (const panel of shownPanels()) {
    const { over } = panel;
    const scale = window.devicePixelRatio;
    over.width = over.clientWidth * scale;
    over.height = over.clientHeight * scale;
    const context = over.getContext("2d");
    context.scale(scale, scale);
    const ring = (x, y, radius, colour) => {
      const [middle, edge] = [placeOf(panel, x, y), placeOf(panel, x + radius, y)];
      if (!middle || !edge) return;
      context.strokeStyle = colour;
      context.beginPath();
      context.arc(...middle, Math.max(Math.hypot(edge[0] - middle[0], edge[1] - middle[1]), 2), 0, 7);
      context.stroke();
    };
    const radius = Number($("brush").value) / open.pixel_mm[0];
    context.lineWidth = 1.5;
    if (pointer?.[0] === panel && !placing) ring(pointer[1], pointer[2], radius, "#fff");
    if (cursor) ring(cursor[0], cursor[1], radius, "#ff0");
    for (const [x, y, colour] of insertionsHere()) {
      const middle = placeOf(panel, x, y);
      if (!middle) continue;
      context.lineWidth = 5;
      for (const stroke of ["#000", colour]) {
        context.strokeStyle = stroke;
        context.beginPath();
        context.moveTo(middle[0] - 6, middle[1]);
        context.lineTo(middle[0] + 6, middle[1]);
        context.moveTo(middle[0], middle[1] - 6);
        context.lineTo(middle[0], middle[1] + 6);
        context.stroke();
        context.lineWidth = 2;
      }
    }
  }
}

function insertionsHere() {
  if (Array.isArray(insertion)) return insertion[2] === slice ? [[insertion[0], insertion[1], "#ff5ad9"]] : [];
  if (insertion === null) return [];
  const colour = open.insertion.given ? "#ff5ad9" : "#fff";
  return open.insertion.slices.filter((p) => Math.round(p[2]) === slice).map((p) => [p[0], p[1], colour]);
}

// Drawing

function begin() {
  stroke = { before: new Map(), path: [] };
}

function set(index, id) {
  if (labels[index] === id) return;
  if (!stroke.before.has(index)) stroke.before.set(index, labels[index]);
  labels[index] = id;
}

function dab(x, y) {
  const radius = Number($("brush").value);
  const [mx, my] = open.pixel_mm;
  const [cx, cy] = [Math.round(x), Math.round(y)];
  for (let j = Math.max(Math.ceil(y - radius / my), 0); j <= Math.min(y + radius / my, size[1] - 1); j++) {
    for (let i = Math.max(Math.ceil(x - radius / mx), 0); i <= Math.min(x + radius / mx, size[0] - 1); i++) {
      if (Math.hypot((i - x) * mx, (j - y) * my) <= radius) set(at(i, j, slice), chosen);
    }
  }
  if (cx >= 0 && cy >= 0 && cx < size[0] && cy < size[1]) set(at(cx, cy, slice), chosen);
}

function drawTo([x, y]) {
  const last = stroke.path.at(-1) ?? [x, y];
  const steps = Math.max(1, Math.ceil(2 * Math.hypot(x - last[0], y - last[1])));
  for (let step = 1; step <= steps; step++) {
    dab(last[0] + ((x - last[0]) * step) / steps, last[1] + ((y - last[1]) * step) / steps);
  }
  stroke.path.push([x, y]);
  refreshSoon();
}

function fillInside(path) {
  for (let j = 0; j < size[1]; j++) {
    const crossings = [];
    path.forEach(([x, y], index) => {
      const [u, v] = path[(index + 1) % path.length];
      if (y <= j !== v <= j) crossings.push(x + ((j - y) / (v - y)) * (u - x));
    });
    crossings.sort((a, b) => a - b);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const last = Math.min(crossings[k + 1], size[0] - 1);
      for (let i = Math.max(Math.ceil(crossings[k]), 0); i <= last; i++) set(at(i, j, slice), chosen);
    }
  }
}

function end() {
  if (!stroke) return;
  if ($("fill").checked && stroke.path.length > 2) fillInside(stroke.path);
  keep(stroke.before);
  stroke = null;
  refresh();
}

function keep(before) {
  if (!before.size) return;
  const indices = Uint32Array.from(before.keys());
  strokes.done.push({
    slice,
    indices,
    before: Uint8Array.from(before.values()),
    after: Uint8Array.from(indices, (index) => labels[index]),
  });
  if (strokes.done.length > MOST_UNDONE) strokes.done.shift();
  strokes.undone.length = 0;
  tellUnsaved();
}

function turnBack(from, to, which) {
  const last = from.pop();
  if (!last) return;
  last.indices.forEach((index, position) => (labels[index] = last[which][position]));
  to.push(last);
  slice = last.slice;
  tellUnsaved();
  refresh();
}

const undo = () => turnBack(strokes.done, strokes.undone, "before");
const redo = () => turnBack(strokes.undone, strokes.done, "after");

function takeOriginal() {
  begin();
  bytesOf(open.original).forEach((id, index) => set(index, id));
  end();
}

function tellUnsaved() {
  $("saved").textContent = unsaved() ? "Not saved yet" : "";
}

function placeInsertion([x, y]) {
  insertion = [x, y, slice];
  setPlacing(false);
  tellUnsaved();
  drawOver();
}

function listen(panel) {
  const { over } = panel;
  over.addEventListener("pointerdown", (event) => {
    const voxel = voxelUnder(panel, event);
    if (event.button !== 0 || !voxel) return;
    event.preventDefault();
    over.focus({ preventScroll: true });
    cursor = null;
    if (placing) return placeInsertion(voxel);
    over.setPointerCapture(event.pointerId);
    begin();
    drawTo(voxel);
  });
  over.addEventListener("pointermove", (event) => {
    const voxel = voxelUnder(panel, event);
    pointer = voxel && [panel, ...voxel];
    if (stroke && voxel) drawTo(voxel);
    else drawOver();
  });
  over.addEventListener("pointerup", end);
  over.addEventListener("pointercancel", end);
  over.addEventListener("pointerleave", () => {
    pointer = null;
    drawOver();
  });
  over.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (event.ctrlKey) zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, voxelUnder(panel, event) ?? undefined);
      else goTo(slice + Math.sign(event.deltaY));
    },
    { passive: false },
  );
  over.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (steps) {
      const [x, y] = cursor ?? middle();
      cursor = [Math.min(Math.max(x + steps[0], 0), size[0] - 1), Math.min(Math.max(y + steps[1], 0), size[1] - 1)];
      drawOver();
    } else if (event.key === " " || event.key === "Enter") {
      cursor ??= middle();
      if (placing) placeInsertion(cursor);
      else {
        begin();
        drawTo(cursor);
        end();
      }
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

// Where a keyboard begins: the middle of what is labelled in the slice, or of the picture.
function middle() {
  let [sx, sy, n] = [0, 0, 0];
  for (let y = 0; y < size[1]; y++) {
    for (let x = 0; x < size[0]; x++) {
      if (labels[at(x, y, slice)]) [sx, sy, n] = [sx + x, sy + y, n + 1];
    }
  }
  return n ? [Math.round(sx / n), Math.round(sy / n)] : [Math.round(size[0] / 2), Math.round(size[1] / 2)];
}

// Saving

async function save() {
  if (busy || !open) return;
  busy = true;
  $("save").disabled = true;
  $("saved").textContent = "Saving …";
  const sent = labels.slice();
  const body = {
    revision: open.revision,
    labels: drawn() ? base64Of(sent) : null,
    verdict,
    comment: $("comment").value,
    base: $("base").value || null,
    insertion,
  };
  try {
    const state = await ask(address(open.id), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    savedLabels = sent;
    showState(state);
    showTraining(state);
    const entry = listed.studies.find(({ id }) => id === state.id);
    if (entry) Object.assign(entry, { verdict: state.review.verdict, edited: state.review.edited_by !== null });
    showList();
    $("message").hidden = true;
    $("saved").textContent = `Saved, ${time(state.review.at)}`;
  } catch (error) {
    $("saved").textContent = "Not saved";
    tell(error.message, error.status === 409);
  } finally {
    busy = false;
    $("save").disabled = false;
  }
}

function decide(said) {
  verdict = verdict === said ? null : said;
  showVerdict();
  save();
}

// Controls and keys

$("filter").addEventListener("input", showList);
$("slice").addEventListener("input", () => goTo(Number($("slice").value)));
$("opacity").addEventListener("input", refresh);
$("nearer").addEventListener("click", () => zoomBy(1.25));
$("farther").addEventListener("click", () => zoomBy(0.8));
$("whole").addEventListener("click", () => zoomBy(0));
$("undo").addEventListener("click", undo);
$("redo").addEventListener("click", redo);
$("original").addEventListener("click", takeOriginal);
$("accept").addEventListener("click", () => decide("accepted"));
$("reject").addEventListener("click", () => decide("rejected"));
$("comment").addEventListener("input", tellUnsaved);
$("base").addEventListener("change", tellUnsaved);
$("place-insertion").addEventListener("click", () => setPlacing(!placing));
$("automatic").addEventListener("click", () => {
  insertion = null;
  tellUnsaved();
  drawOver();
});
$("reload").addEventListener("click", () => openStudy(open.id, true));
$("dismiss").addEventListener("click", () => ($("message").hidden = true));
$("copy").addEventListener("click", () => navigator.clipboard.writeText($("train").textContent));
$("review").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
$("brush").addEventListener("input", showBrush);

function showBrush() {
  $("brush-size").textContent = `${2 * Number($("brush").value)} mm`;
  drawOver();
}

function brushBy(step) {
  $("brush").value = Number($("brush").value) + step;
  showBrush();
}

function toggleLabels() {
  const now = Number($("opacity").value);
  if (now) opacityBefore = now;
  $("opacity").value = now ? 0 : opacityBefore;
  refresh();
}

const keys = {
  e: () => choose(0),
  f: () => $("fill").click(),
  "[": () => brushBy(-0.5),
  "]": () => brushBy(0.5),
  ArrowUp: () => goTo(slice - 1),
  ArrowDown: () => goTo(slice + 1),
  PageUp: () => goTo(slice - 1),
  PageDown: () => goTo(slice + 1),
  "+": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  0: () => zoomBy(0),
  o: toggleLabels,
  i: () => setPlacing(!placing),
  a: () => decide("accepted"),
  x: () => decide("rejected"),
  n: () => neighbour(1),
  p: () => neighbour(-1),
};

document.addEventListener("keydown", (event) => {
  if (!open) return;
  if (event.ctrlKey || event.metaKey) {
    const typing = event.target.matches("textarea, input[type='search']");
    const key = event.key.toLowerCase();
    const action = { s: save, z: typing ? null : event.shiftKey ? redo : undo, y: typing ? null : redo }[key];
    if (!action) return;
    event.preventDefault();
    action();
    return;
  }
  if (event.altKey || event.target.matches("textarea, select, input[type='search']")) return;
  if (event.target.matches("input[type='range']") && /^(Arrow|Page)/.test(event.key)) return;
  const number = Number(event.key);
  const action = keys[event.key] ?? (open.classes[number - 1] && (() => choose(open.classes[number - 1].id)));
  if (!action) return;
  event.preventDefault();
  action();
});

window.addEventListener("beforeunload", (event) => {
  if (unsaved()) event.preventDefault();
});

(async () => {
  if (!document.createElement("canvas").getContext("webgl2")) {
    tell("The pictures need WebGL 2, which this browser does not offer.");
    return;
  }
  try {
    listed = await ask("studies");
    $("folder").textContent = listed.folder;
    $("disclaimer").textContent = listed.disclaimer;
    showTraining(listed);
    showBrush();
    showList();
    await openStudy(listed.studies[0].id);
  } catch (error) {
    tell(error.message);
  }
})();
