import { setTimeout as sleep } from 'node:timers/promises';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { type ConsumerConfig, SHUTDOWN_RESERVE_MS } from '../config.ts';
import type { ReleaseCause } from '../domain/outcome.ts';
import type { IncomingMessage, ProcessedMessage, ProcessMessages } from '../domain/process-messages.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import type { Acknowledger } from '../queue/acknowledger.ts';
import type { ReceivedMessage } from '../queue/received-message.ts';
import type { Lease, LeaseKeeper } from './lease.ts';
import type { Places } from './receive/places.ts';
import { Poller, type PollerOptions } from './receive/poller.ts';
import type { WorkLimit } from './receive/work-limit.ts';
import { isStored, type Part, type Settlement } from './settle/settlement.ts';
import type { Settler } from './settle/settler.ts';
import type { StoreGate } from './store/store-gate.ts';
import type { Watchdog } from './watchdog.ts';

export type OrderConsumerOptions = Omit<PollerOptions, 'onMessages'> & {
  config: ConsumerConfig;
  process: ProcessMessages;
  places: Places;
  workLimit: WorkLimit;
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

/** How long a healthy consumer may work on a batch: held in an outage, and then in a save that hangs as long as it may. */
const longestBatchMs = (config: ConsumerConfig): number =>
  (config.HANDLING_TIMEOUT_SECONDS + config.OUTAGE_HOLD_SECONDS) * 1_000 +
  config.DATABASE_CONNECT_TIMEOUT_MS +
  config.DATABASE_STATEMENT_TIMEOUT_MS +
  STUCK_MARGIN_MS;

const released = (cause: ReleaseCause): ProcessedMessage => ({
  outcome: { kind: 'released', cause },
  traceId: '',
});
const isStoreDown = ({ processed: { outcome } }: Part) =>
  outcome.kind === 'released' && outcome.cause === 'store-unavailable';

/** Receives, works off and settles messages until it is stopped. */
export class OrderConsumer {
  readonly #options: OrderConsumerOptions;
  readonly #stop = new AbortController();
  readonly #work = new Set<Promise<void>>();
  #pollers: Promise<void> | undefined;
  #batches = 0;
  /** The time for finishing work is over. */
  #late = false;

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
    const { leases, acknowledger } = this.#options;
    const endBy = performance.now() + timeoutMs;
    this.#stop.abort();
    let unfinished: Lease[] = [];
    if (!(await inTime(this.#finishWork(), endBy - SHUTDOWN_RESERVE_MS.flush))) {
      this.#late = true;
      unfinished = [...leases.leases];
      await inTime(this.#release(unfinished), endBy);
      // What SQS has not answered yet; with the leases closed, nothing more is sent.
      await inTime(Promise.all(this.#work), endBy);
    }
    await inTime(acknowledger.idle(), endBy);
    leases.stop();
    return unfinished.length;
  }

  async #finishWork(): Promise<void> {
    await this.#pollers;
    while (this.#work.size > 0) await Promise.all(this.#work);
  }

  async #release(unfinished: readonly Lease[]): Promise<void> {
    const { leases, settler } = this.#options;
    await leases.close(unfinished);
    const settlementOf = (lease: Lease): Settlement => ({
      lease,
      parts: [{ body: lease.message.body, processed: released('stopping') }],
    });
    await Promise.all(unfinished.map((lease) => settler.settle(settlementOf(lease))));
  }

  #take(messages: ReceivedMessage[], requestedAtMs: number): void {
    const work: Promise<void> = this.#workOff(messages, requestedAtMs)
      .catch(this.#options.onFatal)
      .finally(() => this.#work.delete(work));
    this.#work.add(work);
  }

  async #workOff(messages: ReceivedMessage[], requestedAtMs: number): Promise<void> {
    const { leases, gate, metrics, config, watchdog } = this.#options;
    const batch = `batch-${this.#batches++}`;
    watchdog.expect(batch, longestBatchMs(config));
    const endProcessing = metrics.processingDuration.startTimer();
    const now = Date.now();
    for (const { sentAt } of messages) {
      if (sentAt) metrics.queueTime.observe(Math.max(0, now - sentAt.getTime()) / 1_000);
    }
    const opened = messages.map((message) => leases.open(message, requestedAtMs));
    const affordable = await leases.afford(opened, config.HANDLING_TIMEOUT_SECONDS * 1_000);
    if (affordable.length < opened.length)
      await this.#drop(opened.filter((lease) => !affordable.includes(lease)));
    const settling = await this.#handle(affordable);
    gate.messagesProcessed(messages.length);
    endProcessing();
    // What follows is up to SQS, whose slowness is no lack of progress.
    watchdog.done(batch);
    await Promise.all(settling);
  }

  /**
   * Handles messages until each has its outcome. While the store is down they are held for a while: a short outage,
   * such as a failover, then costs them nothing, neither a receive nor the wait for their visibility time. Each time they
   * meet it, half as many are tried at once: what is too much for one statement of a slow store may be stored in parts.
   */
  async #handle(leases: readonly Lease[]): Promise<Promise<void>[]> {
    const { process, gate, config } = this.#options;
    const holdUntil = performance.now() + config.OUTAGE_HOLD_SECONDS * 1_000;
    const settling: Promise<void>[] = [];
    let pending = leases.map((lease) => ({ lease, messages: messagesIn(lease.message) }));
    let atOnce = pending.length;
    while (pending.length > 0) {
      if (!gate.open) await this.#storeIsBack(holdUntil);
      const tried = pending.slice(0, atOnce);
      const messages = tried.flatMap((each) => each.messages);
      const isOver = atOnce < leases.length && performance.now() >= holdUntil;
      // Whether the store is back is found out by a trial write, never by a message.
      const processed =
        gate.open && !this.#late && !isOver
          ? await process(messages)
          : messages.map(() => released(this.#late ? 'stopping' : 'store-unavailable'));
      const mayHold = performance.now() < holdUntil && !this.#stop.signal.aborted;
      const results = processed.values();
      const held: typeof pending = [];
      const settled: Settlement[] = [];
      for (const each of tried) {
        const { lease } = each;
        const parts = each.messages.map(
          ({ body }): Part => ({ body, processed: results.next().value as ProcessedMessage }),
        );
        if (mayHold && !lease.lost && parts.some(isStoreDown)) held.push(each);
        else settled.push({ lease, parts });
      }
      if (settled.length > 0) settling.push(this.#settle(settled));
      pending = [...held, ...pending.slice(atOnce)];
      if (held.length > 0) atOnce = Math.ceil(atOnce / 2);
    }
    return settling;
  }

  async #storeIsBack(atLatest: number): Promise<void> {
    const timeout = AbortSignal.timeout(Math.max(0, Math.ceil(atLatest - performance.now())));
    await this.#options.gate.passable(AbortSignal.any([this.#stop.signal, timeout]));
  }

  async #settle(settlements: readonly Settlement[]): Promise<void> {
    const { places, workLimit, settler } = this.#options;
    const stored = settlements.filter(isStored);
    workLimit.workedOff(stored.length);
    const others = stored.length === settlements.length ? [] : settlements.filter((each) => !isStored(each));
    await Promise.all([
      this.#deleteStored(stored),
      ...others.map(async (settlement) => {
        await settler.settle(settlement);
        places.give(1);
      }),
    ]);
  }

  /**
   * The place of what is stored is free before the delete, so that the next poll overlaps with it, as long as no more is
   * deleted so than may be under way at once. Where SQS falls behind, places are kept: what is not deleted in time comes
   * again.
   */
  async #deleteStored(settlements: readonly Settlement[]): Promise<void> {
    const { leases, places, settler, acknowledger } = this.#options;
    if (settlements.length === 0) return;
    await leases.close(settlements.map(({ lease }) => lease));
    const overlaps = acknowledger.hasRoomFor(settlements.length);
    if (overlaps) places.give(settlements.length);
    await settler.deleteStored(settlements);
    if (!overlaps) places.give(settlements.length);
  }

  /** The leases ran out before work began: the messages come again by themselves. */
  async #drop(lost: readonly Lease[]): Promise<void> {
    const { leases, places, logger } = this.#options;
    await leases.close(lost);
    places.give(lost.length);
    for (const { message } of lost) {
      const { messageId, receiveCount } = message;
      logger.warn({ messageId, receiveCount }, 'lease lost before work began');
    }
  }
}

/** One, or those of a packed message. What the attributes say is of the packed one. */
function messagesIn({ body, attributes }: ReceivedMessage): IncomingMessage[] {
  return unpackMessages(body).map((part) =>
    part === body ? { body, attributes, packed: false } : { body: part, attributes: {}, packed: true },
  );
}

/** Whether that ends before a time of the monotonic clock. It goes on all the same. */
async function inTime(work: Promise<unknown>, byMs: number): Promise<boolean> {
  const done = new AbortController();
  const late = sleep(Math.max(0, byMs - performance.now()), false, { signal: done.signal });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    done.abort();
    await late.catch(() => {});
  }
}
