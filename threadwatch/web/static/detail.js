// Shows one thread in full, below the table.

import { element, say, set } from "./dom.js";
import { Cpu, States } from "./chart.js";
import { CloseUp } from "./closeup.js";
import { MEANING } from "./states.js";
import { age, count, loopLabel, percent, printable, pythonLabel } from "./text.js";

const SOURCES = {
  published: "published by its process",
  memory: "read from its process's memory",
  comm: "the kernel's: no Python name is known",
};

/** Each fact: its title, and its text of a thread and where that is. */
const FACTS = [
  ["Name", ({ node }) => SOURCES[node.thread.source] ?? node.thread.source],
  ["Comm", ({ node }) => node.comm],
  ["TID", ({ node }) => `${node.id} in PID ${node.pid}`],
  ["Process", ({ process }) => process.label],
  ["Application", ({ group }) => group.label],
  ["Python", ({ node }) => (node.process.implementation === null ? "not known" : pythonLabel(node.process))],
  ["Series", ({ node }) => printable(node.thread.series)],
  ["Started", ({ node }) => `${new Date(node.started * 1000).toLocaleString()}, ${age(node.age)} ago`],
  ["CPU time", ({ node: { thread } }) => `${seconds(thread.cpu_seconds)}: user ${seconds(thread.user_seconds)}, system ${seconds(thread.system_seconds)}`],
  ["Now", ({ node }) => `${node.state}: ${MEANING.get(node.state) ?? ""}`],
  ["Loop", ({ node: { thread } }) => loop(thread.loop)],
  ["CPU %", ({ node }) => shares([["", node.cpu], ["user", node.user], ["system", node.system]])],
  ["GIL %", ({ node }) => shares([["held", node.held], ["wait", node.wait]])],
  ["Ready %", ({ node }) => percent(node.ready)],
];

/** Returns what is known of the loop that a thread runs; null if it runs none. */
function loop(found) {
  if (!found?.kind) return null;
  const ready = found.ready === null ? "" : `, ${count(found.ready, "callback", "callbacks")} ready`;
  const now = found.holder === null ? "waits for events" : `now ${printable(found.holder)}`;
  return `${loopLabel(found)}${ready}; ${now}`;
}

function shares(parts) {
  const known = parts.filter(([, value]) => value !== null);
  return known.map(([name, value]) => `${name} ${percent(value)}`.trim()).join(", ") || "not known";
}

function seconds(value) {
  return value < 60 ? `${value.toFixed(value < 10 ? 2 : 1)} s` : age(value);
}

export class Detail {
  /** `close` is called when the user closes it. */
  constructor(close) {
    this.name = element("h2", {});
    this.swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    this.gone = element("span", { class: "gone", role: "status" });
    this.facts = FACTS.map(([title, text]) => ({ title, text, value: element("dd", {}) }));
    this.closeup = new CloseUp();
    const facts = this.facts.map(({ title, value }) => element("div", {}, element("dt", {}, title), value));
    this.list = element("dl", {}, ...facts, ...this.closeup.facts);
    this.commands = ["", ""].map(() => command());
    this.states = new States();
    this.cpu = new Cpu();
    this.more = element("p", { class: "more" }, "Shares are means of the last 10 s.");
    this.box = element(
      "section",
      { class: "detail", "aria-label": "Thread in detail", hidden: "" },
      element(
        "header",
        {},
        this.swatch,
        this.name,
        this.gone,
        element("button", { type: "button", class: "close", onclick: close, "aria-keyshortcuts": "Escape" }, "Close"),
      ),
      element(
        "div",
        { class: "columns" },
        element("div", {}, this.list, ...this.commands.map(({ box }) => box), this.more),
        element("div", {}, this.states.box, this.cpu.box, this.closeup.stacks),
      ),
    );
    this.key = null;
  }

  hide() {
    this.box.hidden = true;
    this.key = null;
    this.seen = undefined;
    this.closeup.leave();
  }

  /** Shows the thread that was chosen, {pid, tid}. `found`: it, its process and group, as they are now; undefined:
   *  it is not there (any more). */
  show(chosen, found, past, traces) {
    const place = `${chosen.pid}/${chosen.tid}`;
    if (this.place !== place || this.box.hidden) [this.place, this.key, this.seen] = [place, null, undefined];
    // the number may be another thread's by now
    const here = found && (this.key === null || this.key === found.node.key) ? found : undefined;
    if (here) [this.seen, this.key] = [here, here.node.key];
    this.box.hidden = false;
    this.box.classList.toggle("over", !here);
    say(this.gone, here ? "" : this.seen ? "has ended" : `Thread ${chosen.tid} of process ${chosen.pid} is not there.`);
    const known = this.seen;
    this.box.classList.toggle("unknown", !known);
    if (!known) {
      say(this.name, "");
      return;
    }
    say(this.name, known.node.label);
    set(this.swatch, "class", `swatch is-${known.node.state}`);
    for (const { text, value } of this.facts) {
      const words = text(known);
      value.parentNode.hidden = words === null;
      say(value, words ?? "");
    }
    this.commands[0].say(`sudo py-spy dump --pid ${chosen.pid}`);
    this.commands[1].say(`threadwatch ps ${chosen.pid}`);
    if (!here) return; // its pictures and stacks stay as they were
    this.closeup.show(here.node);
    this.states.show(past.line(here.node.key));
    this.cpu.show(traces.values(here.node));
  }
}

/** A command to copy. */
function command() {
  const text = element("code", {});
  const done = element("span", { role: "status", class: "done" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      say(done, "copied");
    } catch {
      // over plain http there is no clipboard: it is selected, for the keys that copy
      getSelection().selectAllChildren(text);
      say(done, "selected: copy it by Ctrl+C");
    }
    setTimeout(() => say(done, ""), 4000);
  };
  const box = element("p", { class: "command" }, text, element("button", { type: "button", onclick: copy }, "Copy"), done);
  return { box, say: (words) => say(text, words) };
}
