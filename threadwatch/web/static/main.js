// The status page: shows the result of the daemon's last poll, live.

import { element, say, set } from "./dom.js";
import { Feed } from "./feed.js";
import { Table } from "./table.js";
import { Traces } from "./cells.js";
import { themeSwitch } from "./theme.js";
import { MEANING } from "./states.js";
import { count, printable } from "./text.js";
import { countStates, grow, openByDefault, prune, rows } from "./tree.js";

const FLOOD = 50; // threads found, up to which all nodes that have them are opened

const chosen = {
  search: "",
  states: new Set(),
  sort: { column: "cpu", ascending: false },
  flat: false,
  open: new Map(), // by key of node: the user's choice
  all: null, // the user's choice for all nodes
};
let view = null;
let groups = [];
let openFirst = () => true;
let decided = false; // by the first view with processes, so that no node opens or closes by itself later

const traces = new Traces();
const table = new Table({
  sort(column, ascending) {
    chosen.sort = { column, ascending };
    render();
  },
  toggle(node, open) {
    chosen.open.set(node.key, open);
    render();
  },
});

const search = element("input", { type: "search", placeholder: "Search names, PIDs, TIDs", "aria-label": "Search", "aria-keyshortcuts": "/", spellcheck: "false", autocomplete: "off" });
search.addEventListener("input", () => {
  chosen.search = search.value;
  render();
});
const flat = button("Threads only", () => {
  chosen.flat = !chosen.flat;
  set(flat, "aria-pressed", chosen.flat);
  expand.disabled = collapse.disabled = chosen.flat;
  render();
});
set(flat, "aria-pressed", false);
const expand = button("Expand all", () => openAll(true));
const collapse = button("Collapse all", () => openAll(false));
const pause = button("Pause", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  set(pause, "aria-pressed", paused);
  feed.pause(paused);
  status();
});
set(pause, "aria-pressed", false);
set(pause, "aria-keyshortcuts", "p");

const chips = new Map();
for (const [state, meaning] of MEANING) {
  const number = element("span", { class: "count" });
  const chip = button("", () => {
    if (!chosen.states.delete(state)) chosen.states.add(state);
    render();
  });
  chip.append(element("span", { class: `swatch is-${state}`, "aria-hidden": "true" }), `${state} `, number);
  chip.className = "chip";
  chip.title = `Threads that were in it since the poll before: ${meaning}`;
  chips.set(state, { chip, number });
}

const pulse = document.getElementById("pulse");
const notice = document.getElementById("notice");
const hidden = element("p", { class: "notice quiet", hidden: "" });
const found = element("p", { class: "found", role: "status" });
document.getElementById("tools").prepend(pause);
themeSwitch(document.getElementById("theme"));
document.getElementById("theme").closest("label").hidden = false;

function button(label, onclick) {
  return element("button", { type: "button", onclick }, label);
}

function openAll(open) {
  chosen.all = open;
  chosen.open.clear();
  render();
}

function render() {
  if (!view) return;
  const counts = countStates(groups);
  for (const [state, { chip, number }] of chips) {
    chip.hidden = !counts.get(state) && !chosen.states.has(state);
    say(number, counts.get(state).toLocaleString("en"));
    set(chip, "aria-pressed", chosen.states.has(state));
  }
  const left = prune(groups, chosen);
  const narrowed = left !== groups;
  const threads = left.reduce((n, g) => n + g.children.reduce((m, p) => m + p.children.length, 0), 0);
  const processes = left.reduce((n, group) => n + group.children.length, 0);
  const isOpen = (node) =>
    chosen.open.get(node.key) ?? chosen.all ?? ((narrowed && threads <= FLOOD) || openFirst(node));
  const shown = rows(left, { ...chosen, isOpen });
  table.show(shown, { ...chosen, traces }, groups.length ? "Nothing fits what is searched for." : "");
  table.box.hidden = !groups.length;
  const alone = groups.length === 1 && groups[0].label === "threadwatch" && groups[0].children.length === 1;
  nobody.hidden = Boolean(groups.length) && !alone;
  say(nobody.firstElementChild, alone ? "No other Python process is seen" : "No Python process is seen");
  say(found, `${count(threads, "thread", "threads")} in ${count(processes, "process", "processes")}`);
  hide();
}

const nobody = element(
  "section",
  { class: "nobody", hidden: "" },
  element("h2", {}, "No Python process is seen"),
  element("p", {}, "Start one that publishes its threads:"),
  element("pre", {}, "threadwatch run -- python app.py"),
  element("p", {}, "or watch the demo application: threadwatch demo. It shows up here by itself."),
);

/** Says what permission hides. */
function hide() {
  const denied = view.stats.read_errors.filter(({ reason }) => reason === "denied");
  hidden.hidden = !denied.length;
  if (!denied.length) return;
  const sources = denied.map(({ source }) => printable(source)).join(", ");
  say(hidden, `Permission hides a part of what other users' processes do (${sources}): thread names, or what they wait for. Run “threadwatch doctor” on the host: it says what is missing, and how to grant it.`);
}

let trouble = "waiting";

function status() {
  const paused = pause.getAttribute("aria-pressed") === "true";
  const seconds = Math.round((performance.now() - feed.heard) / 1000);
  const since = view ? new Date(view.time * 1000).toLocaleTimeString() : "";
  const poll = view ? `every ${Number(view.interval_seconds.toFixed(2))} s` : "";
  // the first client waits for a poll that looks at threads: a second, or longer on a host that is short of
  // CPUs
  const waited = seconds > 3 ? `, for ${seconds} s` : "";
  let words = { "": `Live, ${poll}`, waiting: `Waiting for a poll${waited}`, silent: "Not answering", stuck: "Not polling" }[trouble];
  if (paused) words = `Paused at ${since}`;
  say(pulse, words);
  set(pulse, "class", paused ? "pulse paused" : `pulse ${trouble || "live"}`);
  const stale = !paused && (trouble === "silent" || trouble === "stuck");
  document.body.classList.toggle("stale", stale && Boolean(view));
  notice.hidden = !stale;
  if (!stale) return;
  const what = trouble === "silent" ? "The daemon does not answer." : "The daemon answers, but has not polled.";
  // screen readers announce it once; the age is for the eyes
  say(notice.firstElementChild, what);
  say(notice.lastElementChild, view ? ` What is shown is ${count(seconds, "second", "seconds")} old, of ${since}. Trying again …` : " Trying again …");
}

const main = document.querySelector("main");
const bar = element("div", { class: "toolbar", role: "search" }, search, flat, expand, collapse, found);
const legend = element("div", { class: "legend", role: "group", "aria-label": "Filter by state" }, ...[...chips.values()].map(({ chip }) => chip));

const feed = new Feed((news) => {
  if (news.trouble !== undefined) trouble = news.trouble;
  if (news.view) {
    const start = performance.now();
    if (!view) {
      main.replaceChildren(bar, legend, hidden, table.box, nobody);
      document.body.classList.add("living");
    }
    ({ view } = news);
    groups = grow(view);
    if (!decided && groups.length) {
      openFirst = openByDefault(groups);
      decided = true;
    }
    traces.use(news.history, view);
    render();
    performance.clearMeasures("update");
    performance.measure("update", { start }); // for the browser's tools, and our tests
  }
  status();
});
setInterval(status, 1000);

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select");
  if (event.key === "Escape" && event.target === search) {
    search.value = chosen.search = "";
    render();
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    search.focus();
    search.select();
  } else if (event.key === "p") pause.click();
  else return;
  event.preventDefault();
});
