"use strict";
// The browser of trajectories. Everything shown is set as text: what a model wrote is never read as HTML.
const { numbers, rows } = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters"), list = document.getElementById("list");
const shown = document.getElementById("shown"), legend = document.getElementById("legend");
const told = document.getElementById("numbers");
let found = [], at = -1, token = -1, only = "";

const state = (row) => (row.kept ? "kept" : "dropped: " + (row.reason ?? "by selection"));
const score = numbers.indexOf("teacher log-prob");
const mean = (values) => values.reduce((sum, value) => sum + (value ?? 0), 0) / Math.max(values.length, 1);
const element = (name, text, parent, className = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
};

function offer(name, values, all) {
  const select = form.elements[name];
  if (all) element("option", all, select).value = "";
  for (const value of values) element("option", value, select).value = value;
}

function matches(row) {
  const wanted = (name) => form.elements[name].value;
  return (!wanted("round") || String(row.round) === wanted("round"))
    && (!wanted("domain") || row.domain === wanted("domain"))
    && (!wanted("teacher") || row.teacher === wanted("teacher"))
    && (!wanted("verdict") || row.verdict === wanted("verdict"))
    && (!wanted("ended") || row.ended === wanted("ended"))
    && (!only || row.prompt === only)
    && (!wanted("chosen") || state(row) === wanted("chosen"))
    && (!wanted("search") || (row.prompt + row.tokens.join("")).includes(wanted("search")));
}

function refresh() {
  found = rows.filter(matches);
  const order = form.elements.order.value;
  if (order === "long") found.sort((a, b) => b.tokens.length - a.tokens.length);
  if (order === "unlikely") found.sort((a, b) => mean(a.values[score]) - mean(b.values[score]));
  list.replaceChildren();
  for (const [place, row] of found.entries()) {
    const item = element("li", `round ${row.round} · ${row.domain} · ${row.tokens.length} tokens · ${state(row)}`, list,
      row.kept ? "kept" : "dropped");
    item.setAttribute("role", "option");
    element("small", row.prompt.slice(-80), item);
    item.addEventListener("click", () => show(place));
  }
  show(found.length ? 0 : -1);
}

function show(place) {
  list.children[at]?.setAttribute("aria-selected", "false");
  at = place;
  token = -1;
  shown.replaceChildren();
  legend.textContent = told.textContent = "";
  if (at < 0) {
    element("p", "no trajectory is like that", shown);
    return;
  }
  const chosen = list.children[at], top = chosen.offsetTop - list.offsetTop - list.clientTop;
  chosen.setAttribute("aria-selected", "true");
  const hidden = top < list.scrollTop || top + chosen.offsetHeight > list.scrollTop + list.clientHeight;
  if (hidden) list.scrollTop = top;  // the list alone: the page itself opens at its beginning
  const row = found[at];
  element("p", `round ${row.round}, domain ${row.domain}, teacher ${row.teacher}, ended ${row.ended}, ${state(row)}; `
    + `filter score ${row.filter_score ?? "–"}, threshold ${row.threshold ?? "–"}`, shown);
  element("pre", row.prompt, shown, "prompt");
  paint(row, element("pre", "", shown, "answer"));
}

const about = (row, place) => numbers.map((name, n) => `${name}: ${row.values[n][place] ?? "–"}`);

function paint(row, answer) {
  const colour = numbers.indexOf(form.elements.colour.value), values = row.values[colour] ?? [];
  const none = numbers[colour] === "weight" ? 1 : 0, from = (value) => (value ?? none) - none;
  const largest = Math.max(1e-9, ...values.map((value) => Math.abs(from(value))));
  row.tokens.forEach((text, place) => {
    const made = element("span", text || "▯", answer, "token"), value = from(values[place]);
    made.title = about(row, place).join("\n");
    made.tabIndex = -1;
    made.addEventListener("focus", () => {
      token = place;
      told.textContent = about(row, place).join(" · ");
    });
    made.style.backgroundColor = `rgba(var(--${value < 0 ? "cold" : "hot"}), ${(0.75 * Math.abs(value)) / largest})`;
  });
  const strongest = largest.toPrecision(3);
  legend.textContent = `${numbers[colour]}: orange above ${none}, blue below; the strongest is ${strongest} away`;
}

const ordered = (a, b) => String(a).localeCompare(b, "en", { numeric: true });
const distinct = (pick) => [...new Set(rows.map(pick))].sort(ordered);
offer("round", distinct((row) => row.round), "all");
offer("domain", distinct((row) => row.domain), "all");
offer("teacher", distinct((row) => row.teacher), "all");
offer("chosen", distinct(state), "all");
offer("verdict", distinct((row) => row.verdict), "all");
offer("ended", distinct((row) => row.ended), "all");
offer("colour", numbers);
form.addEventListener("submit", (event) => event.preventDefault());
form.elements.same.addEventListener("input", () => {
  only = form.elements.same.checked && at >= 0 ? found[at].prompt : "";
  if (only) form.elements.round.value = "";
});
for (const control of form.elements) {
  control.addEventListener("input", () => (control.name === "colour" ? show(at) : refresh()));
}
document.querySelector("select[name=change]")?.addEventListener("input", (event) => {
  for (const row of document.querySelectorAll("#answers tbody tr")) {
    row.hidden = Boolean(event.target.value) && row.dataset.change !== event.target.value;
  }
});
document.addEventListener("keydown", (event) => {
  const inside = event.target === list || event.target.matches(".token");
  const key = (inside && { ArrowDown: "j", ArrowUp: "k", ArrowRight: "l", ArrowLeft: "h" }[event.key]) || event.key;
  const step = { j: 1, k: -1, l: 1, h: -1 }[key];
  const within = (place, count) => Math.min(count - 1, Math.max(0, place));
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select") || !found.length) return;
  event.preventDefault();  // an arrow would also scroll
  if ("jk".includes(key)) show(within(at + step, found.length));
  else shown.querySelectorAll(".token")[within(token + step, found[at].tokens.length)]?.focus();
});
refresh();
