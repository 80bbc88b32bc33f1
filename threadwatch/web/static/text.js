// Makes names fit to be shown. They come from the watched processes, and are shown as text, never as markup.

const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;

/** Returns the text with all characters spelled out that would not show as themselves: controls, marks that turn the
 *  writing direction, unusual blanks, halves of characters. */
export function printable(text) {
  return text.replace(HIDDEN, (character) => {
    const code = character.codePointAt(0);
    const short = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
    if (short) return short;
    const digits = code.toString(16);
    if (code <= 0xff) return `\\x${digits.padStart(2, "0")}`;
    return code <= 0xffff ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
  });
}

/** Returns a thread's name: in parentheses if it is the kernel's. */
export function threadName(thread) {
  const name = printable(thread.name);
  if (thread.source === "comm") return `(${name})`;
  return thread.name_cut ? `${name}…` : name || '""';
}

const CHILD = /^(?:import sys; ?)?from (?:multiprocess\w*|billiard|(?:joblib\.externals\.)?loky\.backend)\./;

/** Returns a process's command without arguments, or its part in the application that started it. */
export function processLabel(process, parent) {
  const [program, ...rest] = process.cmdline;
  const code = rest.findLast((word) => CHILD.test(word));
  if (code) {
    if (code.includes("_tracker import")) return "resource tracker";
    return code.includes("forkserver import") ? "fork server" : "worker";
  }
  if (parent && String(parent.cmdline) === String(process.cmdline)) return "worker, forked";
  if (!program) return `(${printable(process.comm)})`;
  const short = [program, ...rest].map((word) => word.slice(word.lastIndexOf("/") + 1) || word);
  return printable(short.join(" "));
}

/** Returns "CPython 3.12.1", or short, "3.12.1"; any other implementation is always named. */
export function pythonLabel(python, { short = false } = {}) {
  const usual = python.implementation === "cpython";
  const name = usual ? "CPython " : `${printable(python.implementation || "Python")} `;
  const kind = python.free_threaded ? ` free-threaded${python.gil ? ", GIL on" : ""}` : "";
  return `${usual && short ? "" : name}${python.version}${kind}`;
}

/** Returns "lag 12 ms" of the loop that a thread runs, or where that is not known "asyncio"; "" if it runs none. */
export function lagLabel(loop) {
  if (!loop?.kind) return "";
  return loop.lag_seconds === null ? loop.kind : `lag ${Math.round(1000 * loop.lag_seconds).toLocaleString("en")} ms`;
}

/** Returns "asyncio, lag 12 ms". */
export function loopLabel(loop) {
  return loop?.kind && loop.lag_seconds !== null ? `${loop.kind}, ${lagLabel(loop)}` : lagLabel(loop);
}

export function percent(value) {
  return value === null || value === undefined ? "" : value.toFixed(1);
}

/** "3 d 2 h", "12 min", "45 s". */
export function age(seconds) {
  const s = Math.max(Math.floor(seconds), 0);
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 24) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  const d = Math.floor(h / 24);
  return h % 24 && d < 100 ? `${d} d ${h % 24} h` : `${d.toLocaleString("en")} d`;
}

export function count(number, one, many) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
