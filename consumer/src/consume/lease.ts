import type { Logger } from '@orders/shared/runtime/logger.ts';
import { isStaleHandle } from '@orders/shared/sqs/batch.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import { type Acknowledger, MAX_VISIBILITY_SECONDS } from '../queue/acknowledger.ts';
import type { ReceivedMessage } from '../queue/received-message.ts';

/** The right to work on a message until its visibility time runs out. All times are of the monotonic clock. */
export class Lease {
  readonly message: ReceivedMessage;
  readonly #receivedAtMs: number;
  #lost = false;
  #closed = false;
  #deadlineMs: number;
  #extending: Promise<void> | undefined;

  /** @param requestedAtMs when the receive was *sent*: SQS started the visibility time at some moment after it */
  constructor(message: ReceivedMessage, requestedAtMs: number, visibilitySeconds: number) {
    this.message = message;
    this.#receivedAtMs = requestedAtMs;
    this.#deadlineMs = requestedAtMs + visibilitySeconds * 1_000;
  }

  /** Another consumer may work on the message from now on. Once lost, it stays lost. */
  get lost(): boolean {
    this.#lost ||= performance.now() >= this.#deadlineMs;
    return this.#lost;
  }

  /** Work on the message may go on: the lease is neither lost nor closed. */
  get held(): boolean {
    return !this.#closed && !this.lost;
  }

  /** Counts as lost from now on. */
  lose(): void {
    this.#lost = true;
  }

  close(): void {
    this.#closed = true;
  }

  get remainingMs(): number {
    return this.#deadlineMs - performance.now();
  }

  /** Asks SQS for more time. Never rejects; whether it worked shows in {@link lost} and {@link remainingMs}. */
  extend(acknowledger: Acknowledger, visibilitySeconds: number, logger: Logger): Promise<void> {
    this.#extending ??= this.#extend(acknowledger, visibilitySeconds, logger).finally(() => {
      this.#extending = undefined;
    });
    return this.#extending;
  }

  /** The extension under way, if any: one that arrives after a release would hide the message again. */
  get extending(): Promise<void> | undefined {
    return this.#extending;
  }

  async #extend(acknowledger: Acknowledger, visibilitySeconds: number, logger: Logger): Promise<void> {
    const requestedAtMs = performance.now();
    const endMs = this.#receivedAtMs + MAX_VISIBILITY_SECONDS * 1_000;
    const seconds = Math.min(visibilitySeconds, Math.floor((endMs - requestedAtMs) / 1_000));
    const { messageId, receiptHandle } = this.message;
    if (seconds <= 0) {
      this.#lost = true;
      return;
    }
    try {
      await acknowledger.changeVisibility(receiptHandle, seconds);
      this.#deadlineMs = requestedAtMs + seconds * 1_000;
    } catch (err) {
      // SQS says the handle is no longer good: lost at once. Any other failure: the next heartbeat tries again.
      if (isStaleHandle(err)) this.#lost = true;
      logger.warn({ err, messageId, lost: this.lost }, 'lease not extended');
    }
  }
}

export type LeaseKeeperOptions = {
  acknowledger: Acknowledger;
  visibilitySeconds: number;
  heartbeatSeconds: number;
  metrics: Pick<ConsumerMetrics, 'lostLeases'>;
  logger: Logger;
};

/** Extends the leases of all messages in work. */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #leases = new Set<Lease>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#leases.size;
  }

  get leases(): Iterable<Lease> {
    return this.#leases;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#beat(), this.#options.heartbeatSeconds * 1_000);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  open(message: ReceivedMessage, requestedAtMs: number): Lease {
    const lease = new Lease(message, requestedAtMs, this.#options.visibilitySeconds);
    this.#leases.add(lease);
    return lease;
  }

  /**
   * Ends the heartbeat of leases, and the work on their messages: from then on nothing but the caller touches these.
   * Each lease that was lost by then is counted, once.
   */
  async close(leases: readonly Lease[]): Promise<void> {
    const open = leases.filter((lease) => this.#leases.delete(lease));
    for (const lease of open) lease.close();
    await Promise.all(leases.flatMap(({ extending }) => extending ?? []));
    const lost = open.filter((lease) => lease.lost).length;
    if (lost > 0) this.#options.metrics.lostLeases.inc(lost);
  }

  /** Leases with enough time left for work of that length, extended if needed. The others count as lost. */
  async extendFor(leases: readonly Lease[], workMs: number): Promise<Lease[]> {
    const fits = (lease: Lease) => !lease.lost && lease.remainingMs >= workMs;
    const tight = leases.filter((lease) => !lease.lost && !fits(lease));
    await Promise.all(tight.map((lease) => this.#extend(lease)));
    for (const lease of leases) if (!fits(lease)) lease.lose();
    return leases.filter((lease) => !lease.lost);
  }

  #beat(): void {
    const { visibilitySeconds, heartbeatSeconds } = this.#options;
    for (const lease of this.#leases) {
      const aged = lease.remainingMs <= (visibilitySeconds - heartbeatSeconds) * 1_000;
      if (aged && !lease.lost) void this.#extend(lease);
    }
  }

  #extend(lease: Lease): Promise<void> {
    const { acknowledger, visibilitySeconds, logger } = this.#options;
    return lease.extend(acknowledger, visibilitySeconds, logger);
  }
}
