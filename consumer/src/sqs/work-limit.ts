/** A rate within so much of the one before says nothing. */
const TOLERANCE = 0.05;
const STEP = 1.25;
const POLL_MESSAGES = 10;
/** Long enough for a rate, short enough to follow. */
const WINDOW_MS = 100;
const MAX_WINDOW_MS = 10 * WINDOW_MS;

/**
 * How many messages may be in work: between a least and a most, by climbing. As long as the rate at which messages are
 * worked off does not fall, the limit goes on in its direction; when it falls, it turns. So it follows a store whose
 * latency grows (more in work keep up the rate) and one that is overrun (fewer do). While the limit is not reached, it
 * is not what holds the rate down, and stays.
 */
export class WorkLimit {
  readonly #least: number;
  readonly #most: number;
  #limit: number;
  #rising = true;
  #reached = false;
  #workedOff = 0;
  #windowSinceMs = performance.now();
  #lastRate = 0;

  constructor(least: number, most: number) {
    this.#least = least;
    this.#most = most;
    this.#limit = least;
  }

  /** Whole polls: a place beside them would be asked for by a request of its own. */
  get value(): number {
    const whole = Math.floor(this.#limit / POLL_MESSAGES) * POLL_MESSAGES;
    return this.#limit >= this.#most ? this.#most : Math.max(this.#least, whole);
  }

  /** Work waited for the limit. */
  reached(): void {
    this.#reached = true;
  }

  /** So many messages more have met their fate. */
  workedOff(messages: number): void {
    this.#workedOff += messages;
    const elapsedMs = performance.now() - this.#windowSinceMs;
    if (elapsedMs < WINDOW_MS) return;
    // A pause is none of the limit's doing.
    if (this.#reached && elapsedMs < MAX_WINDOW_MS) this.#climb(this.#workedOff / elapsedMs);
    this.#reached = false;
    this.#workedOff = 0;
    this.#windowSinceMs = performance.now();
  }

  #climb(rate: number): void {
    if (rate < this.#lastRate * (1 - TOLERANCE)) this.#rising = !this.#rising;
    this.#lastRate = rate;
    const next = this.#rising ? this.#limit * STEP : this.#limit / STEP;
    if (next <= this.#least) this.#rising = true;
    if (next >= this.#most) this.#rising = false;
    this.#limit = Math.min(this.#most, Math.max(this.#least, next));
  }
}
