/** Smaller gains are noise. */
const BETTER = 1.03;
const STEP = { least: 1.2, most: 1.5 };
const POLL_MESSAGES = 10;
/**
 * How long a rate is measured, at least: long enough for one, short enough to follow. A round takes each place once.
 */
const WINDOW = { ms: 50, messages: 10 * POLL_MESSAGES, rounds: 2 };
/** After so long without a message a rate says nothing of the limit. */
const PAUSE_MS = 10_000;

/**
 * How many messages may be in work: between a least and a most, by climbing. A step up or down is tried, and kept
 * when messages are then stored at a better rate, with a larger step after it; when not, the limit goes back to where
 * it was, is measured anew, and tries a smaller step the other way. So it follows a store whose latency grows (more
 * in work keep up the rate), one that is overrun (fewer do), and one that has changed meanwhile. While the limit is
 * not reached, it is not what holds the rate down, and stays.
 */
export class WorkLimit {
  readonly #least: number;
  readonly #most: number;
  #limit: number;
  /** The limit from which steps are tried, and its rate. */
  #base: { limit: number; rate: number };
  #trying = false;
  #rising = true;
  #step = STEP.most;
  #waited = false;
  /** Of messages that were in work when the limit changed: their rate is still of the one before. */
  #storedBefore = 0;
  #stored = 0;
  #measuredSinceMs: number | undefined;
  #lastMs = performance.now();

  constructor(least: number, most: number) {
    this.#least = least;
    this.#most = most;
    this.#limit = least;
    this.#base = { limit: least, rate: 0 };
  }

  /** Whole polls: a place beside them would be asked for by a request of its own. */
  get value(): number {
    const whole = Math.floor(this.#limit / POLL_MESSAGES) * POLL_MESSAGES;
    return this.#limit >= this.#most ? this.#most : Math.max(this.#least, whole);
  }

  /** Work waited for the limit. */
  recordWait(): void {
    this.#waited = true;
  }

  /** So many messages more are stored. Messages with another outcome say nothing about how much the store takes. */
  recordStored(messages: number): void {
    const nowMs = performance.now();
    const paused = nowMs - this.#lastMs > PAUSE_MS;
    this.#lastMs = nowMs;
    if (this.#measuredSinceMs === undefined) {
      this.#storedBefore += messages;
      if (this.#storedBefore >= this.value) this.#measureFrom(nowMs);
      return;
    }
    if (paused) {
      this.#measureFrom(nowMs);
      return;
    }
    this.#stored += messages;
    const elapsedMs = nowMs - this.#measuredSinceMs;
    const enough = Math.max(WINDOW.messages, WINDOW.rounds * this.value);
    if (elapsedMs < WINDOW.ms || this.#stored < enough) return;
    if (this.#waited) this.#climb(this.#stored / elapsedMs);
    else this.#measureFrom(nowMs);
  }

  #measureFrom(nowMs: number): void {
    this.#measuredSinceMs = nowMs;
    this.#stored = 0;
    this.#waited = false;
  }

  #climb(rate: number): void {
    if (!this.#trying) {
      this.#base.rate = rate;
      this.#try();
    } else if (rate > this.#base.rate * BETTER) {
      this.#base = { limit: this.#limit, rate };
      this.#step = Math.min(STEP.most, this.#step ** 2);
      this.#try();
    } else {
      this.#step = Math.max(STEP.least, Math.sqrt(this.#step));
      this.#rising = !this.#rising;
      this.#trying = false;
      this.#setLimit(this.#base.limit);
    }
  }

  #try(): void {
    const { limit } = this.#base;
    if (limit >= this.#most) this.#rising = false;
    if (limit <= this.#least) this.#rising = true;
    this.#trying = true;
    this.#setLimit(
      this.#rising
        ? Math.max(limit * this.#step, limit + POLL_MESSAGES)
        : Math.min(limit / this.#step, limit - POLL_MESSAGES),
    );
  }

  #setLimit(limit: number): void {
    this.#limit = Math.min(this.#most, Math.max(this.#least, limit));
    this.#storedBefore = 0;
    this.#measuredSinceMs = undefined;
  }
}
