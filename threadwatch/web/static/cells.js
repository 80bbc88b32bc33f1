// Makes the cells of a row once for each row on the screen, and fills them again and again.

import { element, say, set, vector } from "./dom.js";
import { age, percent } from "./text.js";
import { LEAST, STATES, inWords, MEANING } from "./states.js";

function text(kind, give) {
  return () => {
    const cell = element("div", { role: "gridcell", class: `cell ${kind}` });
    return { cell, fill: (node) => say(cell, give(node)) };
  };
}

function number(column) {
  return () => {
    const cell = element("div", { role: "gridcell", class: "cell number" });
    return {
      cell,
      fill(node) {
        const shown = percent(node[column]);
        say(cell, shown);
        cell.classList.toggle("nothing", shown === "0.0");
        cell.classList.toggle("much", node[column] >= 50);
      },
    };
  };
}

function name() {
  const twisty = element("span", { class: "twisty", "aria-hidden": "true" });
  const label = element("bdi", { class: "label" });
  const note = element("span", { class: "note" });
  const cell = element("div", { role: "rowheader", class: "cell name" }, twisty, label, " ", note);
  return {
    cell,
    fill(node, { flat }) {
      say(label, node.label);
      const shown = node.kind === "thread" && flat ? node.where : node.note;
      say(note, shown);
      note.classList.toggle("badge", node.published === false);
      set(cell, "title", [node.label, node.hint || shown].filter(Boolean).join(" · "));
    },
  };
}

function state() {
  const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
  const label = element("span");
  const cell = element("div", { role: "gridcell", class: "cell state" }, swatch, label);
  return {
    cell,
    fill(node) {
      const known = node.kind === "thread";
      swatch.hidden = !known;
      set(swatch, "class", known ? `swatch is-${node.state}` : "swatch");
      say(label, node.state);
      set(cell, "title", known ? (MEANING.get(node.state) ?? "") : null);
    },
  };
}

function bar() {
  const picture = element("div", { class: "bar", role: "img" });
  const text = element("span");
  const cell = element("div", { role: "gridcell", class: "cell time" }, picture, text);
  let before = null;
  return {
    cell,
    fill({ kind, shares, time }) {
      picture.hidden = kind === "task";
      say(text, time ?? "");
      const words = shares ? inWords(shares) : "";
      set(picture, "aria-label", words || "not known yet");
      set(cell, "title", time ? "of the last 10 s: it had the loop" : words || null);
      const now = shares ? stripes(shares) : "";
      if (now === before) return;
      before = now;
      picture.classList.toggle("unknown", !shares);
      picture.style.backgroundImage = now; // one picture: an element for each part would be most of the page
    },
  };
}

/** Returns the shares as one picture: from left to right in the order of STATES, a gap after each. */
function stripes(shares) {
  const parts = STATES.map(([state]) => [state, shares[state] ?? 0]).filter(([, share]) => share >= LEAST);
  const whole = parts.reduce((sum, [, share]) => sum + share, 0);
  let from = 0;
  const stops = parts.map(([state, share], index) => {
    const start = index ? `calc(${from.toFixed(1)}% + 1px)` : "0%";
    const gap = index ? `var(--panel) ${from.toFixed(1)}% ${start}, ` : "";
    from += (100 * share) / whole;
    return `${gap}var(--${state}) ${start} ${from.toFixed(1)}%`;
  });
  return stops.length ? `linear-gradient(to right, ${stops.join(", ")})` : "none";
}

const WIDTH = 120;
const HEIGHT = 24;
const LEAST_TOP = 5; // percent, so that an idle thread looks idle

function trend() {
  const area = vector("path", { class: "area" });
  const line = vector("path", { class: "line" });
  const svg = vector("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  svg.append(area, line);
  const cell = element("div", { role: "gridcell", class: "cell trend" }, svg);
  let before;
  return {
    cell,
    fill(node, { traces }) {
      svg.classList.toggle("none", node.kind === "task");
      const trace = traces.of(node);
      if (trace === before) return;
      before = trace;
      set(svg, "aria-label", trace ? trace.words : "no history yet");
      set(cell, "title", trace ? `CPU, last 10 minutes: ${trace.words}` : null);
      set(area, "d", trace ? trace.area : "");
      set(line, "d", trace ? trace.line : "");
    },
  };
}

/** The columns from left to right: their sort keys, their heads, and the functions that make their cells. */
export const COLUMNS = [
  { by: "label", head: "Name", hint: "Name in Python; in parentheses, the kernel's", make: name },
  { by: "cpu", head: "CPU %", hint: "Mean of the last 10 s; 100 is one CPU", make: number("cpu"), right: true },
  { by: "state", head: "State", hint: "What it does now, or waits for now", make: state },
  { head: "Time in states", hint: "In the last 10 s", make: bar },
  { by: "held", head: "GIL held", hint: "% of the last 10 s that it held the GIL", make: number("held"), right: true },
  { by: "wait", head: "GIL wait", hint: "% of the last 10 s that it waited for the GIL", make: number("wait"), right: true },
  { by: "ready", head: "Ready", hint: "% of the last 10 s that it was ready to run, but no CPU was free", make: number("ready"), right: true },
  { head: "Last 10 min", hint: "CPU: all threads on one scale, all processes and groups on another", make: trend },
  { by: "user", head: "User", hint: "CPU % in its own code, mean of the last 10 s", make: number("user"), right: true },
  { by: "system", head: "System", hint: "CPU % in the kernel, mean of the last 10 s", make: number("system"), right: true },
  { by: "age", head: "Age", hint: "Since its start", make: text("number", (node) => (node.age === null ? "" : age(node.age))), right: true },
  { by: "id", head: "TID", hint: "The kernel's number: of a process, its PID", make: text("number id", (node) => String(node.id ?? "")), right: true },
  { by: "comm", head: "Comm", hint: "The kernel's name", make: text("comm", (node) => node.comm) },
];

/** Traces of CPU use by node, drawn once for each step. */
export class Traces {
  #found = new Map();
  #drawn = new Map();
  #idle = new Map(); // by length
  #history = null;
  #thread = LEAST_TOP; // the heights of trends, in percent: of threads, and of processes and groups
  #whole = LEAST_TOP;

  use(history, view) {
    this.view = view;
    if (history === this.#history) return;
    this.#history = history;
    this.#drawn.clear();
    this.#idle.clear();
    this.#found.clear();
    if (!history) return;
    for (const group of history.groups) this.#found.set(`g${group.name}`, group.cpu_percent);
    for (const process of history.processes) {
      const key = `p${process.pid}.${process.start_ticks}`;
      this.#found.set(key, process.cpu_percent);
      for (const thread of process.threads)
        this.#found.set(`${key}.${thread.tid}.${thread.start_ticks}`, thread.cpu_percent);
    }
    const most = (all) => all.reduce((top, { cpu_percent: values }) => Math.max(top, ...values), LEAST_TOP);
    this.#thread = most(history.processes.flatMap((process) => process.threads));
    this.#whole = most([...history.groups, ...history.processes]);
  }

  /** Returns the trace to draw for a node, the same object until there is more to draw; undefined: none yet. */
  of(node) {
    if (!this.#history) return undefined;
    let drawn = this.#drawn.get(node.key);
    if (!drawn) {
      drawn = this.#draw(node);
      this.#drawn.set(node.key, drawn);
    }
    return drawn;
  }

  /** Returns CPU % step by step, oldest first, the time of the last step's end, and the steps' length. */
  values(node) {
    if (!this.#history) return undefined;
    const { step_seconds: seconds, time, steps } = this.#history;
    return { values: this.#found.get(node.key) ?? [], seconds, steps, time };
  }

  #draw(node) {
    const { steps, step_seconds: seconds } = this.#history;
    const most = Math.min(Math.ceil(node.age / seconds), steps);
    const values = this.#found.get(node.key);
    if (values) return draw(values.slice(-most), steps, node.kind === "thread" ? this.#thread : this.#whole);
    const process = node.kind === "thread" && this.#found.get(node.key.split(".").slice(0, 2).join("."));
    const length = process ? Math.min(process.length, most) : 0;
    if (!this.#idle.has(length)) this.#idle.set(length, draw(new Array(length).fill(0), steps, LEAST_TOP));
    return this.#idle.get(length); // it has not run: one trace for all threads of the same age
  }
}

function draw(values, steps, top) {
  if (!values.length) return { words: "no history yet", line: "", area: "" };
  const step = WIDTH / (steps - 1);
  const points = values.map((value, index) => {
    const x = WIDTH - (values.length - 1 - index) * step;
    return `${x.toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 2)).toFixed(1)}`;
  });
  if (points.length === 1) points.unshift(`${(WIDTH - step).toFixed(1)} ${points[0].split(" ")[1]}`);
  const line = `M${points.join("L")}`;
  const from = points[0].split(" ")[0];
  const average = values.reduce((a, b) => a + b, 0) / values.length;
  return {
    words: `average ${average.toFixed(1)} %, most ${Math.max(...values).toFixed(1)} %`,
    line,
    area: `${line}L${WIDTH} ${HEIGHT}L${from} ${HEIGHT}Z`,
  };
}
