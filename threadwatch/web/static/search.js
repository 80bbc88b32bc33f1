// Says which threads fit what is searched for. Pure.

import { MEANING, wasIn } from "./states.js";

/** By the name that is typed: the value of a thread, or of its process. */
const FIGURES = {
  cpu: (thread) => thread.cpu,
  user: (thread) => thread.user,
  system: (thread) => thread.system,
  held: (thread) => thread.held,
  wait: (thread) => thread.wait,
  ready: (thread) => thread.ready,
  age: (thread) => thread.age,
  tid: (thread) => thread.id,
  pid: (thread) => thread.pid,
};
const COMPARED = new RegExp(`^(${Object.keys(FIGURES).join("|")})(>=|<=|>|<|=)(\\d*(?:\\.\\d*)?)$`);
const COMPARISONS = {
  ">": (a, b) => a > b,
  "<": (a, b) => a < b,
  ">=": (a, b) => a >= b,
  "<=": (a, b) => a <= b,
  "=": (a, b) => a === b,
};

/** What is searched for, in words. Each has to fit; of a word `a|b`, one part. */
export class Search {
  constructor(words) {
    this.words = words;
  }

  static of(text) {
    const words = text.toLowerCase().split(/\s+/);
    return new Search(words.map((word) => word.split("|").filter(Boolean).map(wanted).filter(Boolean)).filter((parts) => parts.length));
  }

  /** Returns what is left to search for in the threads of a process, or in the processes of a group. */
  within(node) {
    return new Search(this.words.filter((parts) => !parts.some((part) => part.text(node))));
  }

  /** Returns whether a thread has all that is left to search for. */
  fits(thread) {
    return this.words.every((parts) => parts.some((part) => part.thread(thread)));
  }
}

function wanted(word) {
  const compared = COMPARED.exec(word);
  if (compared) {
    const [, name, sign, digits] = compared;
    if (!digits || digits === ".") return null; // not yet typed to its end
    const [figure, compare, limit] = [FIGURES[name], COMPARISONS[sign], Number(digits)];
    const fits = (thread) => {
      const value = figure(thread);
      return value !== null && value !== undefined && compare(value, limit);
    };
    return { thread: fits, text: () => false };
  }
  const text = (node) => `${node.label} ${node.id ?? ""} ${node.comm}`.toLowerCase().includes(word);
  const isState = MEANING.has(word);
  return { text, thread: (node) => text(node) || node.children?.some(text) || (isState && wasIn(node, word)) };
}
