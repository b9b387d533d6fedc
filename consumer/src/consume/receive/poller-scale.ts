/**
 * How many pollers poll. An empty queue costs one long poll at a time; polls that come back at least half full bring
 * in one more each, up to all of them; each empty one sends one away.
 */
export class PollerScale {
  readonly #most: number;
  #active = 1;

  constructor(most: number) {
    this.#most = most;
  }

  /** Whether the poller of that index, counted from 0, is to poll. */
  wants(poller: number): boolean {
    return poller < this.#active;
  }

  /** Tells what a poll brought. One that failed says nothing about the queue. */
  recordPoll({ asked, received }: { asked: number; received: number }): void {
    if (received === 0) this.#active = Math.max(1, this.#active - 1);
    else if (received * 2 >= asked) this.#active = Math.min(this.#most, this.#active + 1);
  }
}
