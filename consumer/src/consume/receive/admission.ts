import type { Condition } from '../condition.ts';
import type { StoreGate } from '../store/store-gate.ts';
import type { PollerScale } from './poller-scale.ts';
import type { WorkLimit } from './work-limit.ts';

export type AdmissionOptions = {
  scale: PollerScale;
  gate: StoreGate;
  limit: WorkLimit;
  /** Open while messages can be decrypted; without one, none need to be. */
  keys?: { readonly open: boolean } | undefined;
  /** Whether operators have paused it. */
  consumption?: { readonly pause: object | undefined };
  /** The one that the gates notify. */
  changed: Condition;
};

/**
 * Grants polls: to the pollers that are wanted, while the store takes orders, and for as many messages as there are free
 * places. A place is kept until SQS has confirmed what became of the message, copies and delays included. The exception
 * is what is stored: its place is free before its delete is confirmed, for as many deletes as may be under way at once.
 * So never more than `MAX_IN_WORK` + 100 messages are received and not settled, and never more than `MAX_IN_WORK` of them
 * hold a lease.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  #placesTaken = 0;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /**
   * Resolves with how many messages that poller may ask for, at most `most`, as soon as it may ask for any. It then has
   * their places. None when the signal is aborted.
   */
  async request(poller: number, most: number, signal: AbortSignal): Promise<number> {
    return (await this.#options.changed.until(() => this.#grant(poller, most), signal)) ?? 0;
  }

  /** Tells what the poll brought, before the messages are processed. Their places are kept, the others free. */
  recordPoll(poll: { asked: number; received: number }): void {
    const { scale, gate } = this.#options;
    scale.recordPoll(poll);
    gate.recordReceived(poll.received);
    this.release(poll.asked - poll.received);
  }

  /** So many places are free again. */
  release(places: number): void {
    this.#placesTaken -= places;
    this.#options.changed.notifyAll();
  }

  #grant(poller: number, most: number): number | undefined {
    const { scale, gate, keys, consumption, limit } = this.#options;
    if (consumption?.pause) return undefined;
    const allowed = scale.wants(poller) && keys?.open !== false ? Math.min(most, gate.allowance(poller)) : 0;
    if (allowed === 0) return undefined;
    const places = Math.min(allowed, limit.value - this.#placesTaken);
    if (places > 0) {
      this.#placesTaken += places;
      return places;
    }
    limit.recordWait();
    return undefined;
  }
}
