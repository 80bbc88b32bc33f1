// Turns a view into rows: group → process → thread, filtered and sorted. Pure: no document, no clock.

import { count, lagLabel, loopLabel, printable, processLabel, pythonLabel, threadName } from "./text.js";
import { Search } from "./search.js";
import { STATES, wasIn } from "./states.js";

const NAMELESS =
  "no Python names are known: its threads are not published, and its memory could not be read or is of another Python";

/** Returns the groups with their processes and threads, and the sums of each. Shares are means over the last
 *  seconds, by `past`: a state is what a thread does now. */
export function grow(view, past) {
  past.add(view);
  const groups = new Map();
  const byPid = new Map(view.processes.map((process) => [process.pid, process]));
  const boot = view.time - view.boottime_seconds;
  const started = (ticks) => boot + ticks / 100;
  for (const process of view.processes) {
    const key = `p${process.pid}.${process.start_ticks}`;
    const where = `${process.pid} · ${printable(process.group)}`;
    const threads = process.threads.map((thread) => {
      const own = `${key}.${thread.tid}.${thread.start_ticks}`;
      const tasks = tasksOf(thread, own, process.pid, past);
      const mean = past.note(own, thread);
      const began = started(thread.start_ticks);
      return {
        kind: "thread",
        key: own,
        label: threadName(thread),
        note: lagLabel(thread.loop),
        hint: loopLabel(thread.loop),
        where,
        id: thread.tid,
        pid: process.pid,
        comm: printable(thread.comm),
        state: thread.state,
        cpu: mean.cpu,
        user: mean.user,
        system: mean.system,
        held: mean.held,
        wait: mean.wait,
        ready: mean.ready,
        shares: mean.shares,
        started: began,
        age: view.time - began,
        thread,
        process,
        children: tasks.length ? tasks : undefined,
      };
    });
    const whole = past.note(key, process);
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
      ...sums(threads),
      cpu: whole.cpu,
      held: whole.held,
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
      name,
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

/** Returns the tasks of a thread's loop that live, or have had it in the last seconds. */
function tasksOf({ tid, loop }, thread, pid, past) {
  const tasks = (loop?.tasks ?? []).map((task) => {
    const key = `${thread}/${task.name}`;
    const { cpu, loop: held } = past.note(key, task);
    const holds = loop.holder === task.name;
    const alive = [[task.ready, "ready"], [task.waiting, "waiting"]].filter(([number]) => number);
    const counts = alive.map(([number, word]) => `${number.toLocaleString("en")} ${word}`).join(", ");
    return {
      kind: "task",
      key,
      label: printable(task.name),
      note: counts,
      hint: counts,
      time: held === null ? "" : `held ${held.toFixed(1)} %`,
      holds,
      id: null,
      pid,
      tid,
      comm: "",
      state: holds ? "has the loop" : "",
      ...NOTHING,
      cpu,
      loop: held,
      counts,
    };
  });
  return tasks.filter(({ cpu, loop: held, counts, holds }) => cpu || held || counts || holds);
}

const NOTHING = { user: null, system: null, held: null, wait: null, ready: null, shares: null, age: null };

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

/** Returns how many threads count in each state: one thread can in several. */
export function countStates(groups) {
  const counts = new Map(STATES.map(([state]) => [state, 0]));
  for (const group of groups)
    for (const process of group.children)
      for (const thread of process.children)
        for (const state in thread.shares ?? { [thread.state]: 100 })
          if (wasIn(thread, state)) counts.set(state, (counts.get(state) ?? 0) + 1);
  return counts;
}

/** Returns a process's thread with its process and group; undefined if there is none. */
export function find(groups, { pid, tid }) {
  for (const group of groups)
    for (const process of group.children) {
      const node = process.id === pid && process.children.find((thread) => thread.id === tid);
      if (node) return { node, process, group };
    }
  return undefined;
}

/** Returns the figures of the whole host. */
export function sumUp(groups) {
  const processes = groups.flatMap((group) => group.children);
  const holding = processes.filter(({ held }) => held);
  return { cpu: sum(processes, "cpu"), gil: holding.reduce((most, one) => (most?.held >= one.held ? most : one), null) };
}

/** The columns that rows can be sorted by: keys of nodes. */
export const SORTED = new Set(["label", "cpu", "state", "held", "wait", "ready", "user", "system", "age", "id", "comm"]);
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

/** Returns what is left of the groups: threads that count in one of `states` (all, if it is empty) and fit
 *  the search. */
export function prune(groups, { search, states }) {
  const wanted = Search.of(search);
  if (!wanted.words.length && !states.size) return groups;
  const counts = (thread) => !states.size || [...states].some((state) => wasIn(thread, state));
  const left = [];
  for (const group of groups) {
    const inGroup = wanted.within(group);
    const processes = [];
    for (const process of group.children) {
      const rest = inGroup.within(process);
      const threads = process.children.filter((thread) => counts(thread) && rest.fits(thread));
      if (threads.length || (!states.size && !process.children.length && !rest.words.length))
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

const FEW_TASKS = 8;

/** Returns which nodes are open until the user chooses: all, unless there are too many. */
export function openByDefault(groups) {
  const processes = groups.reduce((n, group) => n + group.children.length, 0);
  const threads = groups.reduce((n, g) => n + g.children.reduce((m, p) => m + p.children.length, 0), 0);
  return (node) => {
    if (node.kind === "thread") return node.children.length <= FEW_TASKS;
    if (node.kind === "group") return groups.length === 1 || processes + threads <= 150;
    return threads <= 150 || processes === 1;
  };
}
