// Draws the history of one thread: its states, who held the GIL, its CPU. The mouse shows what was when.

import { element, say, set, vector } from "./dom.js";
import { KEPT_SECONDS, mean } from "./past.js";
import { STATES, inWords } from "./states.js";

const HEIGHT = 100;
const SPANS = [60, 120, KEPT_SECONDS]; // seconds that the picture of states is wide
const LEAST_TOP = 5; // percent, so that an idle thread looks idle

/** A picture as wide as there is room, with its title, and a line of words below. */
class Chart {
  constructor(title, kind) {
    this.title = element("h3", {}, title);
    this.svg = vector("svg", { preserveAspectRatio: "none", role: "img", class: kind });
    this.mark = vector("path", { class: "mark" });
    this.words = element("p", { class: "words" });
    this.box = element("figure", { class: "chart" }, this.title, this.svg, this.words);
    this.pointed = null; // where the mouse is, from 0 on the left to 1
    this.svg.addEventListener("pointermove", (event) => {
      const { left, width } = this.svg.getBoundingClientRect();
      this.pointed = Math.min(Math.max((event.clientX - left) / width, 0), 1);
      this.say();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.pointed = null;
      this.say();
    });
  }

  /** Says what is under the mouse, or all together. */
  say() {
    const { pointed } = this;
    say(this.words, (pointed === null ? null : this.at(pointed)) ?? this.summary());
    set(this.svg, "aria-label", this.summary());
    const x = pointed === null ? null : (pointed * this.width).toFixed(2);
    set(this.mark, "d", x === null ? "" : `M${x} 0V${HEIGHT}`);
  }
}

/** What a thread did while the page was open, as far as it is kept. */
export class States extends Chart {
  constructor() {
    super("", "states");
    this.paths = new Map(STATES.map(([state]) => [state, vector("path", { class: `is-${state}` })]));
    this.held = vector("path", { class: "held" });
    this.svg.append(...this.paths.values(), this.held, this.mark);
  }

  show(line) {
    this.line = line;
    this.end = line.at(-1)?.view.at ?? 0;
    const seen = line.length ? this.end - line[0].view.at + line[0].view.seconds : 0;
    this.width = SPANS.find((span) => span >= seen) ?? SPANS.at(-1);
    set(this.svg, "viewBox", `0 0 ${this.width} ${HEIGHT}`);
    say(this.title, `States, and the GIL held as a line: last ${this.width / 60} min while this page was open`);
    const parts = new Map();
    let held = "";
    for (const { view, figures } of line) {
      const right = this.width - (this.end - view.at);
      const left = Math.max(right - view.seconds, 0);
      if (right <= 0) continue;
      const across = `H${right.toFixed(2)}`;
      if (figures.held !== null) {
        const y = (HEIGHT - Math.min(figures.held, 100)).toFixed(1);
        held += `M${left.toFixed(2)} ${y}${across}`;
      }
      let from = 0;
      for (const [state] of STATES) {
        const share = figures.shares?.[state];
        if (!share) continue;
        const part = `M${left.toFixed(2)} ${(HEIGHT - from).toFixed(1)}${across}V${(HEIGHT - from - share).toFixed(1)}H${left.toFixed(2)}Z`;
        parts.set(state, (parts.get(state) ?? "") + part);
        from += share;
      }
    }
    for (const [state, path] of this.paths) set(path, "d", parts.get(state) ?? "");
    set(this.held, "d", held);
    this.say();
  }

  at(place) {
    const at = this.end - (1 - place) * this.width;
    const found = this.line.find(({ view }) => at <= view.at && at > view.at - view.seconds);
    return found && `${new Date(found.view.time * 1000).toLocaleTimeString()}: ${inFigures(found.figures)}`;
  }

  summary() {
    if (!this.line.length) return "not known yet";
    const seconds = this.line.reduce((sum, { view }) => sum + view.seconds, 0);
    return `${Math.round(seconds)} s together: ${inFigures(mean(this.line))}`;
  }
}

function inFigures(figures) {
  const parts = [inWords(figures.shares)];
  for (const [name, title] of [["cpu", "CPU"], ["held", "GIL held"]])
    if (figures[name] !== null) parts.push(`${title} ${figures[name].toFixed(1)} %`);
  return parts.filter(Boolean).join(" · ") || "not known yet";
}

/** The CPU use of the last ten minutes, as the daemon keeps it. */
export class Cpu extends Chart {
  constructor() {
    super("CPU, last 10 min", "cpu");
    this.line = vector("path", { class: "line" });
    this.area = vector("path", { class: "area" });
    this.svg.append(this.area, this.line, this.mark);
    this.trace = { values: [], steps: 120, seconds: 5, time: 0 };
  }

  /** `trace`: as `Traces.values` has it. */
  show(trace) {
    if (trace) this.trace = trace;
    const { values, steps } = this.trace;
    this.width = steps;
    set(this.svg, "viewBox", `0 0 ${steps} ${HEIGHT}`);
    this.top = Math.max(LEAST_TOP, ...values);
    const left = steps - values.length;
    const points = values.flatMap((value, index) => {
      const y = (HEIGHT * (1 - value / this.top)).toFixed(1);
      return [`${left + index} ${y}`, `${left + index + 1} ${y}`];
    });
    set(this.line, "d", points.length ? `M${points.join("L")}` : "");
    set(this.area, "d", points.length ? `M${left} ${HEIGHT}L${points.join("L")}L${steps} ${HEIGHT}Z` : "");
    this.say();
  }

  at(place) {
    const { values, steps, seconds, time } = this.trace;
    const step = Math.min(Math.floor(place * steps), steps - 1);
    const value = values[step - (steps - values.length)];
    if (value === undefined) return null;
    const clock = (end) => new Date((time - (steps - end) * seconds) * 1000).toLocaleTimeString();
    return `${clock(step)} to ${clock(step + 1)}: ${value.toFixed(1)} %`;
  }

  summary() {
    const { values } = this.trace;
    if (!values.length) return "it has not run in this time";
    const average = values.reduce((a, b) => a + b, 0) / values.length;
    return `average ${average.toFixed(1)} %, most ${Math.max(...values).toFixed(1)} %; the height is ${this.top.toFixed(0)} %`;
  }
}
