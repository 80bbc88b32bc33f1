// The states of threads, in the order of the bars: work first, idleness last.

// made by ./dev states: begin
export const STATES = [
  ["running", "runs on a CPU"],
  ["runnable", "ready to run, but no CPU is free"],
  ["gil", "waits for the GIL"],
  ["lock", "waits for a lock"],
  ["disk", "waits for a device"],
  ["socket", "waits for a socket"],
  ["poll", "waits for any of several events"],
  ["pipe", "waits for a pipe"],
  ["file", "waits for a file"],
  ["child", "waits for a child process"],
  ["sleep", "waits for a time"],
  ["sleeping", "waits, and why cannot be seen"],
  ["stopped", "is stopped"],
  ["zombie", "has ended"],
  ["other", "waits for something that has no name here"],
];
// made by ./dev states: end

export const MEANING = new Map(STATES);

// Smaller shares are not mentioned, in percent.
export const LEAST = 0.5;

// A thread counts in a state in which it spent this much of its time, in percent.
export const COUNTS = 5;

/** Returns whether a thread counts in a state: by the mean of its last seconds, or if that is not known, now. */
export function wasIn(node, state) {
  return node.shares ? (node.shares[state] ?? 0) >= COUNTS : node.state === state;
}

/** Returns what a bar shows as a text, for users who do not see it: "running 61 %, gil 30 %". */
export function inWords(shares) {
  const parts = STATES.map(([state]) => [state, shares?.[state] ?? 0]).filter(([, share]) => share >= LEAST);
  return parts.map(([state, share]) => `${state} ${Math.round(share)} %`).join(", ");
}
