import { Condition } from './condition.ts';

/**
 * How many pollers poll. An empty queue costs one long poll at a time; polls that come back at least half full bring
 * in one more each, up to all of them; each empty one sends one away.
 */
export class PollerScale {
  readonly #most: number;
  readonly #changed = new Condition();
  #active = 1;

  constructor(most: number) {
    this.#most = most;
  }

  get active(): number {
    return this.#active;
  }

  /** Resolves when the poller of that index, counted from 0, is to poll, or the signal is aborted. */
  async wanted(poller: number, signal: AbortSignal): Promise<void> {
    await this.#changed.until(() => poller < this.#active || undefined, signal);
  }

  /** Tells what a poll brought. One that failed says nothing about the queue. */
  polled({ asked, received }: { asked: number; received: number }): void {
    if (received === 0) this.#active = Math.max(1, this.#active - 1);
    else if (received * 2 >= asked) this.#active = Math.min(this.#most, this.#active + 1);
    this.#changed.notifyAll();
  }
}
