// Keeps what the last views said of threads and processes: for means over some seconds, and for the history of
// one thread. Pure.

export const MEAN_SECONDS = 10;
export const KEPT_SECONDS = 300;

const FIGURES = { cpu: "cpu_percent", user: "user_percent", system: "system_percent", held: "gil_held_percent", wait: "gil_wait_percent", ready: "runqueue_wait_percent", loop: "held_percent" };
const NAMES = Object.keys(FIGURES);
const PAIRS = Object.entries(FIGURES);

/** What a view says of a thread or process. null: not known. */
function figures(thing) {
  const found = { shares: thing.states_percent ?? null };
  for (const name of NAMES) found[name] = thing[FIGURES[name]] ?? null;
  return found;
}

function same(figures, thing) {
  for (const [name, key] of PAIRS) if (figures[name] !== (thing[key] ?? null)) return false;
  const [one, other] = [figures.shares, thing.states_percent ?? null];
  if (!one || !other) return one === other;
  for (const state in one) if (one[state] !== other[state]) return false;
  for (const state in other) if (!(state in one)) return false;
  return true;
}

export class Past {
  /** The views that are kept, oldest first: `at`, seconds of CLOCK_MONOTONIC; `time`, Unix time; and `seconds`,
   *  the time before that which its shares are of. */
  views = [];
  #recent = []; // those that means are made of, newest first
  #tracks = new Map(); // by key: what was said, with `at`, from when on, oldest first; and when it was seen last

  /** Begins with a new view. `note` is then to be called for everything in it. */
  add({ monotonic_seconds: at, time, sequence, interval_seconds: interval }) {
    let last = this.views.at(-1);
    if (last && at <= last.at) {
      this.views = []; // the host has been restarted, or is another one
      this.#tracks = new Map();
      last = undefined;
    }
    // of polls that the page has missed, it knows only how many there were
    const polls = last ? sequence - last.sequence : 0;
    this.views.push({ at, time, sequence, seconds: polls > 0 ? (at - last.at) / polls : interval });
    while (this.views[0].at < at - KEPT_SECONDS) this.views.shift();
    this.#recent = this.views.filter((view) => view.at > at - MEAN_SECONDS + interval / 2 || view.at === at).reverse();
    for (const [key, { seen }] of this.#tracks) if (seen !== last.at) this.#tracks.delete(key);
  }

  /** Takes what the view says of a thread or process; returns the means of its figures over MEAN_SECONDS. */
  note(key, thing) {
    const { at } = this.views.at(-1);
    let track = this.#tracks.get(key);
    if (!track) this.#tracks.set(key, (track = { steps: [], seen: at }));
    const { steps } = track;
    track.seen = at;
    if (!steps.length || !same(steps.at(-1).figures, thing)) steps.push({ at, figures: figures(thing) });
    while (steps.length > 1 && steps[1].at <= this.views[0].at) steps.shift();
    return this.#mean(steps);
  }

  /** Returns what the views that are kept said of a thread, oldest first: view and figures. */
  line(key) {
    const steps = this.#tracks.get(key)?.steps ?? [];
    const line = [];
    let index = -1;
    for (const view of this.views) {
      while (index + 1 < steps.length && steps[index + 1].at <= view.at) index += 1;
      if (index >= 0) line.push({ view, figures: steps[index].figures });
    }
    return line;
  }

  #mean(steps) {
    const last = steps.at(-1);
    if (last.at <= this.#recent.at(-1).at) return last.figures; // nothing has changed since
    const parts = [];
    let index = steps.length - 1;
    for (const view of this.#recent) {
      while (index >= 0 && steps[index].at > view.at) index -= 1;
      if (index < 0) break;
      parts.push({ view, figures: steps[index].figures });
    }
    return mean(parts);
  }
}

/** Returns the means of what several views said of one thread, each by the time that it is of. */
export function mean(parts) {
  const found = { shares: null };
  for (const name of NAMES) {
    let [sum, known] = [0, 0];
    for (const { view, figures: one } of parts) {
      if (one[name] === null) continue;
      sum += one[name] * view.seconds;
      known += view.seconds;
    }
    found[name] = known ? sum / known : null;
  }
  let known = 0;
  for (const { view, figures: one } of parts) {
    if (!one.shares) continue;
    known += view.seconds;
    found.shares ??= {};
    for (const state in one.shares) found.shares[state] = (found.shares[state] ?? 0) + one.shares[state] * view.seconds;
  }
  for (const state in found.shares) found.shares[state] /= known;
  return found;
}
