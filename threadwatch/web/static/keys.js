// Explains the keys, and what can be searched for.

import { element } from "./dom.js";

const KEYS = [
  ["/", "search; Enter goes to the table, Escape clears the search, and then goes there"],
  ["p", "pause"],
  ["?", "these keys"],
  ["arrows, Page Up, Page Down, Home, End", "move in the table, which Tab reaches"],
  ["right, left", "open and close a row"],
  ["Enter", "open or close a group or process; show a thread in detail"],
  ["Escape", "close the detail"],
];
const SEARCHES = [
  ["shop worker", "both words: in a name, TID, PID or comm of a thread, its tasks, its process or group"],
  ["http|celery", "one of them"],
  ["gil", "or another state: threads that spent 5 % of the last 10 s in it"],
  ["cpu>5", "also user, system, held, wait, ready (in %), age (in s), pid and tid; with < <= > >= ="],
];

/** Returns a dialog, and the button that shows it. */
export function help() {
  const rows = (pairs) => pairs.map(([what, means]) => element("div", {}, element("dt", {}, element("kbd", {}, what)), element("dd", {}, means)));
  const dialog = element(
    "dialog",
    { "aria-label": "Keys and search" },
    element("h2", {}, "Keys"),
    element("dl", {}, ...rows(KEYS)),
    element("h2", {}, "Search"),
    element("dl", {}, ...rows(SEARCHES)),
    element("button", { type: "button", onclick: () => dialog.close(), autofocus: "" }, "Close"),
  );
  const button = element("button", { type: "button", onclick: () => dialog.showModal(), "aria-label": "Keys and search", "aria-keyshortcuts": "?" }, "?");
  return { dialog, button };
}
