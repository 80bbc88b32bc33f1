// Turns a view into rows: group → process → thread, filtered and sorted. Pure: no document, no clock.

import { count, printable, processLabel, pythonLabel, threadName } from "./text.js";
import { STATES, wasIn } from "./states.js";

const NAMELESS = "no Python names are known: it does not publish its threads, or permission hides them";

/** Returns the groups with their processes and threads, and the sums of each. */
export function grow(view) {
  const groups = new Map();
  const byPid = new Map(view.processes.map((process) => [process.pid, process]));
  const boot = view.time - view.boottime_seconds;
  const started = (ticks) => boot + ticks / 100;
  for (const process of view.processes) {
    const key = `p${process.pid}.${process.start_ticks}`;
    const threads = process.threads.map((thread) => ({
      kind: "thread",
      key: `${key}.${thread.tid}.${thread.start_ticks}`,
      label: threadName(thread),
      note: "",
      hint: "",
      group: printable(process.group),
      id: thread.tid,
      comm: printable(thread.comm),
      state: thread.state,
      cpu: thread.cpu_percent,
      user: thread.user_percent,
      system: thread.system_percent,
      held: thread.gil_held_percent,
      wait: thread.gil_wait_percent,
      ready: thread.runqueue_wait_percent,
      shares: thread.states_percent,
      age: view.time - started(thread.start_ticks),
      thread,
    }));
    const parent = byPid.get(process.ppid);
    const node = {
      kind: "process",
      key,
      label: processLabel(process, parent?.group === process.group ? parent : undefined),
      note: process.source !== "comm" ? pythonLabel(process, { short: true }) : "no names",
      hint: process.source !== "comm" ? pythonLabel(process) : NAMELESS,
      published: process.source !== "comm",
      id: process.pid,
      comm: printable(process.comm),
      state: count(threads.length, "thread", "threads"),
      cpu: process.cpu_percent,
      ...sums(threads),
      held: process.gil_held_percent,
      age: view.time - started(process.start_ticks),
      children: threads,
    };
    const group = groups.get(process.group);
    if (group) group.push(node);
    else groups.set(process.group, [node]);
  }
  return [...groups].map(([name, processes]) => {
    const threads = processes.flatMap((process) => process.children);
    const unpublished = processes.filter((process) => !process.published).length;
    const notes = [count(processes.length, "process", "processes")];
    if (unpublished) notes.push(unpublished === processes.length ? "no names" : `${unpublished} without names`);
    return {
      kind: "group",
      key: `g${name}`,
      label: printable(name),
      note: notes.join(", "),
      hint: unpublished ? NAMELESS : "",
      published: !unpublished,
      id: null,
      comm: "",
      state: count(threads.length, "thread", "threads"),
      cpu: sum(processes, "cpu"),
      ...sums(threads),
      held: sum(processes, "held"),
      age: Math.max(...processes.map((process) => process.age)),
      children: processes,
    };
  });
}

function sum(nodes, key) {
  let total = null;
  for (const node of nodes) if (node[key] !== null) total = (total ?? 0) + node[key];
  return total;
}

function sums(threads) {
  const shares = {};
  let known = 0;
  for (const { shares: one } of threads) {
    if (!one) continue;
    known += 1;
    for (const state in one) shares[state] = (shares[state] ?? 0) + one[state];
  }
  for (const state in shares) shares[state] /= known;
  return {
    user: sum(threads, "user"),
    system: sum(threads, "system"),
    wait: sum(threads, "wait"),
    ready: sum(threads, "ready"),
    shares: known ? shares : null,
  };
}

/** Returns how many threads were in each state since the poll before. */
export function countStates(groups) {
  const counts = new Map(STATES.map(([state]) => [state, 0]));
  const one = (state) => counts.set(state, (counts.get(state) ?? 0) + 1);
  for (const group of groups)
    for (const process of group.children)
      for (const { thread } of process.children) {
        one(thread.state);
        for (const state in thread.states_percent)
          if (state !== thread.state && wasIn(thread, state)) one(state);
      }
  return counts;
}

const TEXTS = new Set(["label", "comm", "state"]);
const collator = new Intl.Collator("en", { numeric: true });

/** Returns whether a column is sorted from its small values up when it is chosen. */
export function upwards(column) {
  return TEXTS.has(column) || column === "id";
}

function comparison({ column, ascending }) {
  const sign = ascending ? 1 : -1;
  return (a, b) => {
    const [x, y] = [a[column], b[column]];
    const missing = (x === null) - (y === null); // unknown values come last, either way
    if (missing) return missing;
    const order = TEXTS.has(column) ? collator.compare(x, y) : x - y;
    return sign * order || collator.compare(a.label, b.label) || a.id - b.id;
  };
}

/** Returns whether a node's own texts match the search. */
function has(node, words) {
  const text = `${node.label} ${node.id ?? ""} ${node.comm}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/**
 * What is left of the groups: threads that are in one of `states` (all, if it is empty) and have all
 * words of `search`, or whose process or group has them.
 */
export function prune(groups, { search, states }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length && !states.size) return groups;
  const fits = ({ thread }) => !states.size || [...states].some((state) => wasIn(thread, state));
  const left = [];
  for (const group of groups) {
    const inGroup = has(group, words);
    const processes = [];
    for (const process of group.children) {
      const inProcess = inGroup || has(process, words);
      const threads = process.children.filter((thread) => (inProcess || has(thread, words)) && fits(thread));
      if (threads.length || (inProcess && !states.size && !process.children.length))
        processes.push({ ...process, children: threads });
    }
    if (processes.length) left.push({ ...group, children: processes });
  }
  return left;
}

/** Returns the rows to show. `isOpen(node)` says which nodes show their children. */
export function rows(groups, { sort, flat, isOpen }) {
  const compare = comparison(sort);
  if (flat)
    return groups
      .flatMap((group) => group.children.flatMap((process) => process.children))
      .sort(compare)
      .map((node, index, all) => ({ node, level: 1, place: index + 1, of: all.length }));
  const shown = [];
  const add = (nodes, level) => {
    [...nodes].sort(compare).forEach((node, index) => {
      const open = node.children ? isOpen(node) : undefined;
      shown.push({ node, level, open, place: index + 1, of: nodes.length });
      if (open) add(node.children, level + 1);
    });
  };
  add(groups, 1);
  return shown;
}

/** Returns which nodes are open until the user chooses: all, unless there are too many. */
export function openByDefault(groups) {
  const processes = groups.reduce((n, group) => n + group.children.length, 0);
  const threads = groups.reduce((n, g) => n + g.children.reduce((m, p) => m + p.children.length, 0), 0);
  return (node) => {
    if (node.kind === "group") return groups.length === 1 || processes + threads <= 150;
    return threads <= 150 || processes === 1;
  };
}
