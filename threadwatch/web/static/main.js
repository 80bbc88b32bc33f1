// The status page: shows the result of the daemon's last poll, live.

import { element, say, set } from "./dom.js";
import { Feed } from "./feed.js";
import { Table } from "./table.js";
import { addressOf, read, write } from "./address.js";
import { Traces } from "./cells.js";
import { Detail } from "./detail.js";
import { help } from "./keys.js";
import { Past } from "./past.js";
import { themeSwitch } from "./theme.js";
import { MEANING } from "./states.js";
import { count, percent, printable } from "./text.js";
import { countStates, find, grow, openByDefault, prune, rows, sumUp } from "./tree.js";

const FLOOD = 50; // threads found, up to which all nodes that have them are opened

let chosen = read(location.hash.slice(1));
let view = null;
let groups = [];
let openFirst = () => true;
let decided = false; // by the first view with processes, so that no node opens or closes by itself later

const past = new Past();
const traces = new Traces();
const table = new Table({
  sort(column, ascending) {
    chosen.sort = { column, ascending };
    change();
  },
  toggle(node, open) {
    chosen.open.set(addressOf(node), open);
    change();
  },
  show(thread) {
    const before = chosen.thread;
    chosen.thread = { pid: thread.pid, tid: thread.id };
    if (before) change();
    else {
      history.pushState("detail", "", address()); // so that the browser's way back closes it
      render();
    }
  },
});
const detail = new Detail(closeDetail);

/** Shows what the user has just chosen, and puts it into the address. */
function change() {
  history.replaceState(history.state ?? "list", "", address());
  render();
}

function address() {
  const fragment = write(chosen);
  return fragment ? `#${fragment}` : location.pathname + location.search;
}

function closeDetail() {
  if (!chosen.thread) return;
  if (history.state === "detail") history.back();
  else {
    chosen.thread = null;
    change();
  }
  table.grid.focus({ preventScroll: true });
}

addEventListener("popstate", ({ state }) => {
  const said = read(location.hash.slice(1));
  if (state === null) chosen = said; // an address that was typed, or followed
  else chosen.thread = said.thread; // the way back or forth: it opens and closes the detail
  change();
});
history.replaceState(history.state ?? "list", "");

const search = element("input", { type: "search", placeholder: "Search names, PIDs, states, cpu>5", "aria-label": "Search", "aria-keyshortcuts": "/", spellcheck: "false", autocomplete: "off" });
search.addEventListener("input", () => {
  chosen.search = search.value;
  change();
});
const flat = button("Threads only", () => {
  chosen.flat = !chosen.flat;
  change();
});
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
    change();
  });
  chip.append(element("span", { class: `swatch is-${state}`, "aria-hidden": "true" }), `${state} `, number);
  chip.className = "chip";
  chip.title = `${meaning}: threads that spent 5 % of the last 10 s in it, or more`;
  chips.set(state, { chip, number });
}

const pulse = document.getElementById("pulse");
const notice = document.getElementById("notice");
const hidden = element("p", { class: "notice quiet", hidden: "" });
const found = element("p", { class: "found", role: "status" });
const { dialog, button: ask } = help();
document.getElementById("tools").prepend(pause);
document.getElementById("tools").append(ask);
document.body.append(dialog);
themeSwitch(document.getElementById("theme"));
document.getElementById("theme").closest("label").hidden = false;

function button(label, onclick) {
  return element("button", { type: "button", onclick }, label);
}

function openAll(open) {
  chosen.all = open;
  chosen.open.clear();
  change();
}

/** Returns whether text of the table or the detail is selected: an update would take the selection away. */
function isSelecting() {
  const { isCollapsed, anchorNode } = getSelection();
  return !isCollapsed && (table.box.contains(anchorNode) || detail.box.contains(anchorNode));
}

let held = false; // there is more to show when no text is selected any more
document.addEventListener("selectionchange", () => {
  if (!held || isSelecting()) return;
  render();
  status();
});

function render() {
  if (search.value !== chosen.search) search.value = chosen.search;
  set(flat, "aria-pressed", chosen.flat);
  expand.disabled = collapse.disabled = chosen.flat;
  held = false;
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
    chosen.open.get(addressOf(node)) ?? chosen.all ?? ((narrowed && threads <= FLOOD) || openFirst(node));
  const shown = rows(left, { ...chosen, isOpen });
  const { thread } = chosen;
  const isShown = (node) => Boolean(thread) && node.kind === "thread" && node.id === thread.tid && node.pid === thread.pid;
  table.show(shown, { ...chosen, traces, isShown }, groups.length ? "Nothing fits what is searched for." : "");
  table.box.hidden = !groups.length;
  const alone = groups.length === 1 && groups[0].label === "threadwatch" && groups[0].children.length === 1;
  nobody.hidden = Boolean(groups.length) && !alone;
  say(nobody.firstElementChild, alone ? "No other Python process is seen" : "No Python process is seen");
  if (thread) detail.show(thread, find(groups, thread), past, traces);
  else detail.hide();
  sayHost();
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

const host = element("p", { class: "host", "aria-label": "Host" });

/** Says how the host is, as far as the view knows. */
function sayHost() {
  const parts = [];
  const { cpu, gil } = sumUp(groups);
  const cpus = view.host?.cpus;
  if (cpus) parts.push(count(cpus, "CPU", "CPUs"));
  if (cpu !== null) parts.push(`watched processes use ${percent(cpu)} %${cpus ? ` of ${(100 * cpus).toLocaleString("en")} %` : ""}`);
  if (view.host?.load) parts.push(`load ${view.host.load.map((load) => load.toFixed(2)).join(", ")}`);
  if (gil) parts.push(`busiest GIL: ${gil.label}, PID ${gil.id}, held ${percent(gil.held)} %`);
  say(host, parts.join(" · "));
  if (!view.host) return;
  const name = printable(view.host.name);
  say(document.getElementById("host"), name);
  if (document.title !== `${name} · threadwatch`) document.title = `${name} · threadwatch`;
}

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
  const interval = view?.interval_seconds;
  let poll = view ? `every ${Number(interval.toFixed(2))} s` : "";
  if (view && feed.every > 1.5 * interval + 0.25) poll = `every ${feed.every.toFixed(1)} s; polls are ${poll}`;
  // the first client waits for a poll that looks at threads: a second, or longer on a host that is short of
  // CPUs
  const waited = seconds > 3 ? `, for ${seconds} s` : "";
  let words = { "": `Live, ${poll}`, waiting: `Waiting for a poll${waited}`, silent: "Not answering", stuck: "Not polling" }[trouble];
  if (held && !trouble) words = "Waits while text is selected";
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
const why = element("span", { class: "why", title: "A thread counts in each state in which it spent 5 % of the last 10 s, or more: in none, one or several. So the numbers need not add up to that of threads." }, "Last 10 s; a thread can count in several:");
const legend = element("div", { class: "legend", role: "group", "aria-label": "Filter by state" }, why, ...[...chips.values()].map(({ chip }) => chip));

const feed = new Feed((news) => {
  if (news.trouble !== undefined) trouble = news.trouble;
  if (news.view) {
    const start = performance.now();
    if (!view) {
      main.replaceChildren(host, bar, legend, hidden, table.box, detail.box, nobody);
      document.body.classList.add("living");
    }
    ({ view } = news);
    groups = grow(view, past);
    if (!decided && groups.length) {
      openFirst = openByDefault(groups);
      decided = true;
    }
    traces.use(news.history, view);
    if (isSelecting()) held = true;
    else render();
    performance.clearMeasures("update");
    performance.measure("update", { start }); // for the browser's tools, and our tests
  }
  status();
});
setInterval(status, 1000);

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select");
  if (event.target === search && (event.key === "Enter" || (event.key === "Escape" && !search.value))) {
    table.grid.focus({ preventScroll: true });
    event.preventDefault();
    return;
  }
  if (event.key === "Escape" && event.target === search) {
    chosen.search = "";
    change();
    return;
  }
  if (event.key === "Escape" && !dialog.open && chosen.thread) closeDetail();
  if (typing || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    search.focus();
    search.select();
  } else if (event.key === "p") pause.click();
  else if (event.key === "?") ask.click();
  else return;
  event.preventDefault();
});
