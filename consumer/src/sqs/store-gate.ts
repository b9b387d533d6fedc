import { setTimeout as sleep } from 'node:timers/promises';
import type { CircuitBreaker } from '@orders/shared/circuit-breaker.ts';

const PROBE_INTERVAL_MS = 500;

/**
 * Keeps the pollers from receiving while the store is down. What finds out whether it is back is a trial write, never
 * a message; and then one poller goes first, until it has had a message worked off.
 */
export class StoreGate {
  readonly #breaker: CircuitBreaker;
  readonly #probe: () => Promise<void>;
  #probing: Promise<void> | undefined;
  #recovering = false;

  constructor(breaker: CircuitBreaker, probe: () => Promise<void>) {
    this.#breaker = breaker;
    this.#probe = probe;
  }

  get open(): boolean {
    return this.#breaker.closed;
  }

  /** Whether that poller would have to wait now. */
  holdsUp(poller: number): boolean {
    return !this.open || (this.#recovering && poller > 0);
  }

  /** The store took something: all pollers may go on. */
  confirm(): void {
    if (this.open) this.#recovering = false;
  }

  /** Resolves when the store can be used, or the signal is aborted. */
  async passable(signal: AbortSignal): Promise<void> {
    while (!this.open && !signal.aborted) {
      this.#recovering = true;
      this.#probing ??= this.#probeOnce(signal).finally(() => {
        this.#probing = undefined;
      });
      await this.#probing;
    }
  }

  /** The same, for a poller: behind the first one, all wait until the store has proven itself. */
  async passableFor(poller: number, signal: AbortSignal): Promise<void> {
    await this.passable(signal);
    while (this.#recovering && poller > 0 && !signal.aborted) {
      await sleep(PROBE_INTERVAL_MS, undefined, { signal }).catch(() => {});
      await this.passable(signal);
    }
  }

  async #probeOnce(signal: AbortSignal): Promise<void> {
    try {
      await this.#breaker.execute(this.#probe);
    } catch {
      // The breaker has counted it. It says itself when the next question may be asked.
      await sleep(PROBE_INTERVAL_MS, undefined, { signal }).catch(() => {});
    }
  }
}
