import { Condition } from './condition.ts';
import type { WorkLimit } from './work-limit.ts';

/**
 * The places for messages in work: a poll asks SQS only for as many messages as there are free places. A place is kept
 * until SQS has confirmed what became of the message, copies and delays included. The exception is what is stored: its
 * place is free before its delete is confirmed, for as many deletes as may be under way at once. So never more than
 * `MAX_IN_WORK` + 100 messages are received and not settled, and never more than `MAX_IN_WORK` of them hold a lease.
 */
export class Places {
  readonly #limit: WorkLimit;
  readonly #changed = new Condition();
  #taken = 0;

  constructor(limit: WorkLimit) {
    this.#limit = limit;
  }

  /** Takes up to `most` places, as soon as there is one free. None when the signal is aborted. */
  async take(most: number, signal: AbortSignal): Promise<number> {
    const places = await this.#changed.until(() => this.#tryTake(most), signal);
    return places ?? 0;
  }

  give(places: number): void {
    this.#taken -= places;
    this.#changed.notifyAll();
  }

  #tryTake(most: number): number | undefined {
    const places = Math.min(most, this.#limit.value - this.#taken);
    if (places <= 0) {
      this.#limit.reached();
      return undefined;
    }
    this.#taken += places;
    return places;
  }
}
