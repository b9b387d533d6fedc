import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@orders/shared/logger.ts';
import { unpackMessages } from '@orders/shared/packed-message.ts';
import { type ConsumerConfig, SHUTDOWN_RESERVE_MS } from '../config.ts';
import type { OrderRepository } from '../domain/order-repository.ts';
import type { ReleaseCause } from '../domain/outcome.ts';
import { type IncomingMessage, type ProcessedMessage, processMessages } from '../domain/process-messages.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import type { Acknowledger } from './acknowledger.ts';
import type { Lease, LeaseKeeper } from './lease.ts';
import type { Places } from './places.ts';
import { Poller, type PollerOptions } from './poller.ts';
import type { ReceivedMessage } from './received-message.ts';
import type { Part, Settler } from './settler.ts';
import type { StoreGate } from './store-gate.ts';
import type { Watchdog } from './watchdog.ts';

export type OrderConsumerOptions = Omit<PollerOptions, 'onMessages'> & {
  config: ConsumerConfig;
  repository: Pick<OrderRepository, 'saveAll'>;
  places: Places;
  gate: StoreGate;
  watchdog: Watchdog;
  leases: LeaseKeeper;
  acknowledger: Acknowledger;
  settler: Settler;
  metrics: ConsumerMetrics;
  logger: Logger;
  /** The loop itself broke: a bug, after which the process must not stay up and do nothing. */
  onFatal: (error: unknown) => void;
};

const STUCK_MARGIN_MS = 30_000;

const released = (cause: ReleaseCause): ProcessedMessage => ({
  outcome: { kind: 'released', cause },
  traceId: '',
});
const isStoreDown = ({ outcome }: ProcessedMessage) =>
  outcome.kind === 'released' && outcome.cause === 'store-unavailable';

/** Receives, works off and settles messages until it is stopped. */
export class OrderConsumer {
  readonly #options: OrderConsumerOptions;
  readonly #stop = new AbortController();
  readonly #work = new Set<Promise<void>>();
  #pollers: Promise<void> | undefined;
  #batches = 0;

  constructor(options: OrderConsumerOptions) {
    this.#options = options;
  }

  start(): void {
    const { config, leases, onFatal } = this.#options;
    if (this.#pollers) return;
    leases.start();
    const options = { ...this.#options, onMessages: this.#take.bind(this) };
    const pollers = Array.from({ length: config.POLLERS }, (_, index) =>
      new Poller(index, options).run(this.#stop.signal),
    );
    this.#pollers = Promise.all(pollers).then(() => {}, onFatal);
  }

  /**
   * Polls no more, finishes what was received, and tells SQS. What does not fit into the time is released and
   * comes again elsewhere; the answer is how many messages that were.
   */
  async stop({ timeoutMs }: { timeoutMs: number }): Promise<number> {
    const { leases, acknowledger, settler } = this.#options;
    const finishBy = performance.now() + timeoutMs - SHUTDOWN_RESERVE_MS.flush;
    this.#stop.abort();
    const finished = this.#finishWork().then(() => true);
    const late = sleep(Math.max(0, finishBy - performance.now()), false, { ref: false });
    let unfinished: Lease[] = [];
    if (!(await Promise.race([finished, late]))) {
      unfinished = [...leases.leases];
      await Promise.all(
        unfinished.map((lease) =>
          leases
            .close(lease)
            .then(() => settler.settle(lease, [{ ...lease.message, ...released('stopping') }])),
        ),
      );
    }
    await acknowledger.idle();
    leases.stop();
    return unfinished.length;
  }

  async #finishWork(): Promise<void> {
    await this.#pollers;
    while (this.#work.size > 0) await Promise.all(this.#work);
  }

  #take(messages: ReceivedMessage[], requestedAtMs: number): void {
    const { onFatal, watchdog, config } = this.#options;
    const batch = `batch-${this.#batches++}`;
    const longestMs =
      (config.HANDLING_TIMEOUT_SECONDS + config.OUTAGE_HOLD_SECONDS) * 1_000 + STUCK_MARGIN_MS;
    watchdog.expect(batch, longestMs);
    const work: Promise<void> = this.#workOff(messages, requestedAtMs)
      .catch(onFatal)
      .finally(() => {
        watchdog.done(batch);
        this.#work.delete(work);
      });
    this.#work.add(work);
  }

  async #workOff(messages: ReceivedMessage[], requestedAtMs: number): Promise<void> {
    const { leases, metrics, config } = this.#options;
    const endProcessing = metrics.processingDuration.startTimer();
    for (const { sentAt } of messages) {
      if (sentAt) metrics.queueTime.observe(Math.max(0, Date.now() - sentAt.getTime()) / 1_000);
    }
    const opened = messages.map((message) => leases.open(message, requestedAtMs));
    const affordable = await Promise.all(
      opened.map((lease) => leases.afford(lease, config.HANDLING_TIMEOUT_SECONDS * 1_000)),
    );
    await Promise.all(opened.filter((_, index) => !affordable[index]).map((lease) => this.#drop(lease)));
    const settling = await this.#handle(opened.filter((_, index) => affordable[index]));
    endProcessing();
    await Promise.all(settling);
  }

  /**
   * Handles messages until each has its outcome. While the store is down they are held for a while: a short outage,
   * such as a failover, then costs them nothing, neither a receive nor the wait for their visibility time.
   */
  async #handle(leases: Lease[]): Promise<Promise<void>[]> {
    const { repository, gate, config } = this.#options;
    const holdUntil = performance.now() + config.OUTAGE_HOLD_SECONDS * 1_000;
    const settling: Promise<void>[] = [];
    let pending = await Promise.all(
      leases.map(async (lease) => ({ lease, messages: await messagesIn(lease.message) })),
    );
    while (pending.length > 0) {
      if (!gate.open) await this.#storeIsBack(holdUntil);
      const messages = pending.flatMap((each) => each.messages);
      // Whether the store is back is found out by a query, never by a message.
      const processed = gate.open
        ? await processMessages(repository, messages)
        : messages.map(() => released('store-unavailable'));
      const mayHold = performance.now() < holdUntil && !this.#stop.signal.aborted;
      const results = processed.values();
      const held = pending.filter(({ lease, messages }) => {
        const parts = messages.map((message) => ({
          ...message,
          ...(results.next().value as ProcessedMessage),
        }));
        if (mayHold && !lease.lost && parts.some(isStoreDown)) return true;
        settling.push(this.#settle(lease, parts));
        return false;
      });
      if (held.length < pending.length) gate.confirm();
      pending = held;
    }
    return settling;
  }

  async #storeIsBack(atLatest: number): Promise<void> {
    const timeout = AbortSignal.timeout(Math.max(0, Math.ceil(atLatest - performance.now())));
    await this.#options.gate.passable(AbortSignal.any([this.#stop.signal, timeout]));
  }

  async #settle(lease: Lease, parts: Part[]): Promise<void> {
    const { leases, places, settler, metrics } = this.#options;
    await leases.close(lease);
    if (lease.lost) metrics.lostLeases.inc();
    // The place is free as soon as the outcome is known: the next poll overlaps with the delete.
    places.give(1);
    await settler.settle(lease, parts);
  }

  /** The lease ran out before work began: the message comes again by itself. */
  async #drop(lease: Lease): Promise<void> {
    const { leases, places, metrics, logger } = this.#options;
    const { messageId, receiveCount } = lease.message;
    await leases.close(lease);
    places.give(1);
    metrics.lostLeases.inc();
    logger.warn({ messageId, receiveCount }, 'lease lost before work began');
  }
}

/** One, or those of a packed message. What the attributes say is of the packed one. */
async function messagesIn({ body, attributes }: ReceivedMessage): Promise<IncomingMessage[]> {
  const bodies = await unpackMessages(body);
  return bodies.map((part) => ({ body: part, attributes: part === body ? attributes : {} }));
}
