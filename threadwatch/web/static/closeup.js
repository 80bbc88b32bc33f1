// Shows of one thread what polls do not read: its system call, its kernel stack, and, when asked for, its Python stack.

import { element, say } from "./dom.js";
import { printable } from "./text.js";

const PATIENCE_MS = 30_000;

/** Each fact: its title, and its text of what the daemon tells and of the thread. */
const FACTS = [
  ["CPUs", (told, thread) => `may use ${told.cpus}, last on ${thread.last_cpu}`],
  ["Switches", (told) => switches(told.voluntary_switches, told.involuntary_switches)],
  ["System call", (told) => told.syscall],
  ["Waits in", (told) => told.wchan],
];

function switches(voluntary, involuntary) {
  if (voluntary === null || involuntary === null) return "not known";
  const [waits, taken] = [voluntary, involuntary].map((number) => number.toLocaleString("en"));
  return `${waits} voluntary, ${taken} involuntary`;
}

export class CloseUp {
  constructor() {
    this.values = FACTS.map(([title, text]) => ({ title, text, value: element("dd", {}) }));
    this.facts = this.values.map(({ title, value }) => element("div", {}, element("dt", {}, title), value));
    this.kernel = stackBox("Kernel stack");
    this.python = stackBox("Python stack");
    this.ask = element("button", { type: "button", onclick: () => this.#read(), title: "py-spy reads it, and stops the process for some milliseconds" }, "Read it");
    this.python.head.append(this.ask);
    this.stacks = element("div", { class: "stacks" }, this.python.box, this.kernel.box);
    this.leave();
  }

  /** Forgets the thread that was shown. */
  leave() {
    this.node = null;
    this.asking = false;
    for (const { value } of this.values) say(value, "…");
    this.kernel.show([], "…");
    this.python.show([], "");
    this.ask.hidden = true;
    this.ask.disabled = false;
  }

  /** Shows a thread, and asks the daemon what it does now. */
  async show(node) {
    if (this.node?.key !== node.key) this.leave();
    this.node = node;
    if (this.asking) return;
    this.asking = true;
    const answer = await this.#fetch("api/v1/thread", node);
    if (this.node?.key !== node.key) return; // another one is shown by now
    this.asking = false;
    if (answer.told === null) return; // it has ended: the view will say so
    if (answer.trouble) {
      for (const { value } of this.values) say(value, "not known");
      this.kernel.show([], answer.trouble);
      return;
    }
    for (const { value, text } of this.values) say(value, printable(text(answer.told, this.node.thread)));
    this.kernel.show(answer.told.stack, answer.told.stack_note);
    const off = answer.told.python_stack_note;
    this.ask.hidden = Boolean(off);
    if (off) this.python.show([], off);
  }

  async #read() {
    const { node } = this;
    this.ask.disabled = true;
    this.python.show([], "…");
    const answer = await this.#fetch("api/v1/stack", node, { method: "POST", headers: { "X-Threadwatch": "page" } });
    if (this.node?.key !== node.key) return;
    this.ask.disabled = false;
    say(this.ask, "Read it again");
    const at = `at ${new Date().toLocaleTimeString()}`;
    if (answer.trouble) this.python.show([], answer.trouble);
    else if (answer.told === null) this.python.show([], "it has ended");
    else if (!answer.told.frames?.length) this.python.show([], `no Python code runs on it, ${at}`);
    else {
      const holds = answer.told.holds_gil ? ", it held the GIL" : "";
      this.python.show(answer.told.frames.map(({ function: name, file, line }) => `${name}  ${file}:${line ?? "?"}`), `${at}${holds}`);
    }
  }

  /** Asks the daemon about a thread: {told}, null if it has ended, or {trouble}. */
  async #fetch(path, node, options = {}) {
    const { process, thread } = node;
    const query = new URLSearchParams({ pid: process.pid, tid: thread.tid, start_ticks: thread.start_ticks });
    try {
      const response = await fetch(`${path}?${query}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS), ...options });
      if (response.ok) return { told: await response.json() };
      return { trouble: (await response.text()).trim() };
    } catch {
      return { trouble: "The daemon does not answer." };
    }
  }
}

/** A title, a note and lines. */
function stackBox(title) {
  const note = element("span", { class: "more", role: "status" });
  const head = element("h3", {}, `${title} `, note);
  const lines = element("pre", { tabindex: "0", "aria-label": title });
  const box = element("div", { class: "chart" }, head, lines);
  const show = (found, words) => {
    lines.hidden = !found.length;
    say(lines, found.map(printable).join("\n"));
    say(note, printable(words));
  };
  return { box, head, show };
}
