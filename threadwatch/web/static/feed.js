// Follows the daemon's polls: one request after the other, none while the page is hidden.

const PATIENCE_MS = 10_000;
const RETRY_MS = [1_000, 2_000, 4_000, 8_000];

export class Feed {
  /** `hear` is told {view, history} at each new poll, and {trouble} when it changes: "", "waiting" (for
   *  the first poll that looks at threads), "silent" (no answer), "stuck" (answers, but does not poll). */
  constructor(hear) {
    this.hear = hear;
    this.trouble = undefined;
    this.view = null;
    this.history = null;
    this.heard = performance.now();
    this.failures = 0;
    this.paused = false;
    this.arrivals = []; // of the last views, without a pause between them
    this.timer = undefined;
    document.addEventListener("visibilitychange", () => this.#go(0));
    addEventListener("online", () => this.#go(0));
    addEventListener("pageshow", () => this.#go(0));
    this.#go(0);
  }

  pause(paused) {
    this.paused = paused;
    this.#go(0);
  }

  /** Returns the seconds from view to view as they come in; undefined: not known yet. */
  get every() {
    const gaps = this.arrivals.slice(1).map((at, index) => at - this.arrivals[index]).sort((a, b) => a - b);
    return gaps.length < 2 ? undefined : gaps[gaps.length >> 1] / 1000;
  }

  #go(ms) {
    clearTimeout(this.timer);
    if (this.paused || document.hidden) this.arrivals = [];
    if (!this.paused && !document.hidden) this.timer = setTimeout(() => this.#ask(), ms);
  }

  async #ask() {
    if (this.asking) return; // it goes on by itself
    this.asking = true;
    let wait;
    try {
      wait = await this.#once();
      this.failures = 0;
    } catch {
      wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
      this.failures += 1;
      // one lost request is no trouble, unless the user has pressed reload
      if (this.failures > 1 || !this.view) this.#say("silent");
    } finally {
      this.asking = false;
    }
    this.#go(wait);
  }

  /** Asks once; returns the time in ms after which to ask again. */
  async #once() {
    const response = await fetched("api/v1/view");
    if (response.status === 503) {
      if (!this.view) this.#say("waiting");
      else if (performance.now() - this.heard > PATIENCE_MS + 2000 * this.view.interval_seconds) this.#say("stuck");
      return 1000 * (Number(response.headers.get("Retry-After")) || 1);
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    const view = await response.json();
    const interval = 1000 * view.interval_seconds;
    if (this.view?.sequence === view.sequence && this.view.time === view.time) {
      if (performance.now() - this.heard > PATIENCE_MS + 2 * interval) this.#say("stuck");
      return Math.min(interval / 4, 1000);
    }
    const due = this.history && view.monotonic_seconds >= this.history.monotonic_seconds;
    if (!this.history || !due || view.monotonic_seconds >= this.history.monotonic_seconds + this.history.step_seconds) {
      const more = await fetched("api/v1/history");
      if (more.ok) this.history = await more.json();
    }
    this.view = view;
    this.heard = performance.now();
    this.arrivals = [...this.arrivals.slice(-3), this.heard];
    this.#say("");
    this.hear({ view, history: this.history });
    return Math.max(interval, 250);
  }

  #say(trouble) {
    if (trouble !== this.trouble) this.hear({ trouble });
    this.trouble = trouble;
  }
}

function fetched(path) {
  return fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
}
