"use strict";
// Sorting, filtering and opening; without it the page shows all the same, in the order of the ids.

const table = document.getElementById("cohort-table");
const headers = [...table.tHead.rows].at(-1).cells;
const rows = [...table.tBodies[0].rows];

function cellValue(row, column, numeric) {
  const text = row.cells[column].dataset.value;
  return numeric ? (text === "" ? NaN : Number(text)) : text;
}

function compare(a, b, numeric) {
  if (!numeric) return a.localeCompare(b, undefined, { numeric: true });
  return a - b;
}

function sortBy(header) {
  const column = header.cellIndex;
  const numeric = header.dataset.type === "number";
  // Numbers are looked at from the largest first.
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const order = header.getAttribute("aria-sort") === first ? second : first;
  for (const other of headers) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const missing = (value) => numeric && Number.isNaN(value);
  const sorted = rows.map((row) => [cellValue(row, column, numeric), row]);
  sorted.sort(([a], [b]) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b); // last in either order
    return sign * compare(a, b, numeric);
  });
  table.tBodies[0].append(...sorted.map(([, row]) => row));
}

for (const header of headers) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  button.addEventListener("click", () => sortBy(header));
  header.append(button);
}

const sideways = document.getElementById("sideways");

// Some browsers show a scroll bar only while it is used.
function tellWidth() {
  sideways.hidden = table.parentElement.scrollWidth <= table.parentElement.clientWidth;
}

window.addEventListener("resize", tellWidth);
document.getElementById("more")?.addEventListener("change", tellWidth);
tellWidth();

const filter = document.getElementById("filter");
const shown = document.getElementById("shown");

function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = `${row.cells[0].textContent} ${row.dataset.more}`.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    count += row.hidden ? 0 : 1;
  }
  shown.textContent = `${count} of ${rows.length} shown`;
}

filter.addEventListener("input", applyFilter);
applyFilter();

const studies = [...document.querySelectorAll("details.study")];

function openLinked() {
  const linked = document.getElementById(location.hash.slice(1));
  if (!studies.includes(linked)) return;
  linked.open = true;
  linked.scrollIntoView();
  linked.querySelector("summary").focus({ preventScroll: true });
}

window.addEventListener("hashchange", openLinked);
// A second click on the same link changes no hash.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#study-']");
  if (link && link.getAttribute("href") === location.hash) openLinked();
});
document.getElementById("open-all").addEventListener("click", () => studies.forEach((study) => (study.open = true)));
document.getElementById("close-all").addEventListener("click", () => studies.forEach((study) => (study.open = false)));
for (const part of document.querySelectorAll(".filter, .tools")) part.hidden = false;
openLinked();

let closed = [];
window.addEventListener("beforeprint", () => {
  closed = studies.filter((part) => !part.open);
  for (const part of studies) part.open = true;
  for (const picture of document.images) picture.loading = "eager";
});
window.addEventListener("afterprint", () => closed.forEach((part) => (part.open = false)));

const large = document.getElementById("large");
const largePlace = document.getElementById("large-place");
let enlarged = null;

function enlarge(tile) {
  if (!tile) return;
  enlarged = tile;
  const copy = document.createElement("div");
  copy.className = tile.className;
  copy.append(...[...tile.childNodes].map((part) => part.cloneNode(true)));
  const caption = document.createElement("p");
  caption.className = "note";
  caption.textContent = `${tile.closest("details").querySelector("h3").textContent}, ${tile.closest("figure").querySelector("figcaption").firstChild.textContent}`;
  largePlace.replaceChildren(caption, copy);
  if (!large.open) large.showModal();
}

function neighbour(key) {
  const row = enlarged.closest(".tiles");
  const index = [...row.children].indexOf(enlarged);
  const across = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (across) return row.children[index + across];
  const down = { ArrowUp: -1, ArrowDown: 1 }[key];
  const tiles = [...enlarged.closest(".rows").querySelectorAll(".tiles")];
  return down && tiles[tiles.indexOf(row) + down]?.children[index];
}

for (const tile of document.querySelectorAll(".tile")) tile.addEventListener("click", () => enlarge(tile));
large.addEventListener("keydown", (event) => {
  if (!event.key.startsWith("Arrow")) return;
  event.preventDefault();
  enlarge(neighbour(event.key));
});
large.addEventListener("close", () => enlarged?.focus());
document.getElementById("large-close").addEventListener("click", () => large.close());
