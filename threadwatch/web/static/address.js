// Keeps in the page's address what it shows, so that a reload keeps it and others can be sent it. Pure.

import { MEANING } from "./states.js";
import { SORTED } from "./tree.js";

const PLAIN = { column: "cpu", ascending: false };

/** Returns the user's choices when there is nothing in the address. */
export function nothingChosen() {
  return {
    search: "",
    states: new Set(),
    sort: { ...PLAIN },
    flat: false,
    open: new Map(), // by name of group, PID, or PID/TID: the user's choice
    all: null, // the user's choice for all nodes
    thread: null, // {pid, tid} of the thread in detail
  };
}

/** Returns what the part of an address after its # chooses. What is unknown there is left out. */
export function read(fragment) {
  const chosen = nothingChosen();
  const said = new URLSearchParams(fragment);
  chosen.search = said.get("search") ?? "";
  for (const state of (said.get("states") ?? "").split(",")) if (MEANING.has(state)) chosen.states.add(state);
  const column = said.get("sort");
  if (SORTED.has(column)) chosen.sort = { column, ascending: said.has("up") };
  chosen.flat = said.has("flat");
  for (const name of said.getAll("open")) chosen.open.set(name, true);
  for (const name of said.getAll("closed")) chosen.open.set(name, false);
  chosen.all = { open: true, closed: false }[said.get("all")] ?? null;
  const thread = /^(\d{1,10})\/(\d{1,10})$/.exec(said.get("thread") ?? "");
  if (thread) chosen.thread = { pid: Number(thread[1]), tid: Number(thread[2]) };
  return chosen;
}

/** Returns the part of an address after its # that `read` turns into these choices; "" for none. */
export function write({ search, states, sort, flat, open, all, thread }) {
  const said = new URLSearchParams();
  if (search) said.set("search", search);
  if (states.size) said.set("states", [...states].join(","));
  if (sort.column !== PLAIN.column || sort.ascending !== PLAIN.ascending) said.set("sort", sort.column);
  if (sort.ascending) said.set("up", "");
  if (flat) said.set("flat", "");
  if (all !== null) said.set("all", all ? "open" : "closed");
  for (const [name, is] of open) said.append(is ? "open" : "closed", name);
  if (thread) said.set("thread", `${thread.pid}/${thread.tid}`);
  return String(said);
}

/** Returns the name by which an address knows a node that can be open. */
export function addressOf(node) {
  if (node.kind === "group") return node.name;
  return node.kind === "process" ? String(node.id) : `${node.pid}/${node.id}`;
}
