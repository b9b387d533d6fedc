import { setTimeout as sleep } from 'node:timers/promises';
import { STOPPING } from '../domain/outcome.ts';
import type { Acknowledger } from '../queue/acknowledger.ts';
import type { ReceivedMessage } from '../queue/received-message.ts';
import type { Lease, LeaseKeeper } from './lease.ts';
import type { MessageInWork, ReadMessages } from './read-messages.ts';
import type { Admission } from './receive/admission.ts';
import { Poller, type PollerOptions } from './receive/poller.ts';
import type { WorkLimit } from './receive/work-limit.ts';
import type { FateRecorder } from './settle/fate-recorder.ts';
import { isStoredMessage, type Settler } from './settle/settler.ts';
import type { MessageStore } from './store/message-store.ts';
import type { StoreGate } from './store/store-gate.ts';
import type { Watchdog } from './watchdog.ts';

export type OrderConsumerOptions = Omit<PollerOptions, 'onMessages'> & {
  read: ReadMessages;
  store: MessageStore;
  admission: Admission;
  workLimit: WorkLimit;
  gate: StoreGate;
  watchdog: Watchdog;
  leases: LeaseKeeper;
  acknowledger: Acknowledger;
  settler: Settler;
  fates: Pick<FateRecorder, 'idle'>;
  pollers: number;
  /** Longest handling of a message; a lease with less time left is extended before work starts. */
  handlingTimeoutMs: number;
  /** How long a healthy consumer may take for a batch: held in an outage, then in a save that hangs as long as it may. */
  longestBatchMs: number;
  /** Of the time for a stop, kept for telling SQS what became of the messages. */
  flushMs: number;
  /** The loop itself broke: a bug, after which the process must not stay up and do nothing. */
  onFatal: (error: unknown) => void;
};

const STUCK_MARGIN_MS = 30_000;

/** Receives, reads, stores and settles messages until it is stopped. */
export class OrderConsumer {
  readonly #options: OrderConsumerOptions;
  readonly #stop = new AbortController();
  readonly #work = new Set<Promise<void>>();
  #pollers: Promise<void> | undefined;
  /** The time for finishing work is over. */
  readonly #late = new AbortController();
  #batches = 0;

  constructor(options: OrderConsumerOptions) {
    this.#options = options;
  }

  start(): void {
    const { pollers: count, leases, onFatal } = this.#options;
    if (this.#pollers) return;
    leases.start();
    const options = { ...this.#options, onMessages: this.#accept.bind(this) };
    const pollers = Array.from({ length: count }, (_, index) =>
      new Poller(index, options).run(this.#stop.signal),
    );
    this.#pollers = Promise.all(pollers).then(() => {}, onFatal);
  }

  /**
   * Stops polling, finishes what was received, and settles it. What does not fit into the time is released and
   * redelivered elsewhere.
   * @returns how many messages were released so
   */
  async stop({ timeoutMs }: { timeoutMs: number }): Promise<number> {
    const { leases, acknowledger, fates, gate, flushMs } = this.#options;
    const endBy = performance.now() + timeoutMs;
    this.#stop.abort();
    let unfinished: Lease[] = [];
    if (!(await inTime(this.#finishWork(), endBy - flushMs))) {
      this.#late.abort();
      unfinished = [...leases.leases];
      await inTime(this.#release(unfinished), endBy);
      // What SQS has not answered yet; with the leases closed, nothing more is sent.
      await inTime(Promise.all(this.#work), endBy);
    }
    await inTime(Promise.all([acknowledger.idle(), fates.idle()]), endBy);
    leases.stop();
    gate.stop();
    return unfinished.length;
  }

  async #finishWork(): Promise<void> {
    await this.#pollers;
    while (this.#work.size > 0) await Promise.all(this.#work);
  }

  async #release(unfinished: readonly Lease[]): Promise<void> {
    const { leases, settler } = this.#options;
    await leases.close(unfinished);
    const released = (lease: Lease): MessageInWork => ({
      lease,
      orders: [{ body: lease.message.body, traceId: '', outcome: STOPPING }],
    });
    await Promise.all(unfinished.map((lease) => settler.settle(released(lease))));
  }

  #accept(messages: ReceivedMessage[], requestedAtMs: number): void {
    const work: Promise<void> = this.#process(messages, requestedAtMs)
      .catch(this.#options.onFatal)
      .finally(() => this.#work.delete(work));
    this.#work.add(work);
  }

  async #process(messages: ReceivedMessage[], requestedAtMs: number): Promise<void> {
    const { read, store, gate, metrics, longestBatchMs, watchdog } = this.#options;
    const batch = `batch-${this.#batches++}`;
    watchdog.expect(batch, longestBatchMs + STUCK_MARGIN_MS);
    const endProcessing = metrics.processingDuration.startTimer();
    const leases = await this.#lease(messages, requestedAtMs);
    const settling: Promise<void>[] = [];
    const signals = { stop: this.#stop.signal, late: this.#late.signal };
    for await (const done of store.storeAll(await read(leases), signals)) settling.push(this.#settle(done));
    gate.recordOutcomes(messages.length);
    endProcessing();
    // What follows is up to SQS, whose slowness is no lack of progress.
    watchdog.done(batch);
    await Promise.all(settling);
  }

  /** The leases of messages; without those that cannot be made to last as long as the work does. */
  async #lease(messages: readonly ReceivedMessage[], requestedAtMs: number): Promise<readonly Lease[]> {
    const { leases, metrics, handlingTimeoutMs } = this.#options;
    const now = Date.now();
    for (const { sentAt } of messages) {
      if (sentAt) metrics.queueTime.observe(Math.max(0, now - sentAt.getTime()) / 1_000);
    }
    const opened = messages.map((message) => leases.open(message, requestedAtMs));
    const lasting = await leases.extendFor(opened, handlingTimeoutMs);
    if (lasting.length < opened.length) await this.#drop(opened.filter((lease) => !lasting.includes(lease)));
    return lasting;
  }

  async #settle(messages: readonly MessageInWork[]): Promise<void> {
    const { admission, workLimit, settler } = this.#options;
    const stored = messages.filter(isStoredMessage);
    workLimit.recordStored(stored.length);
    const others =
      stored.length === messages.length ? [] : messages.filter((message) => !isStoredMessage(message));
    await Promise.all([
      this.#deleteStored(stored),
      ...others.map(async (message) => {
        await settler.settle(message);
        admission.release(1);
      }),
    ]);
  }

  /**
   * The place of a stored message is free before its delete is confirmed, so that the next poll overlaps with it, for as
   * many deletes as may be under way at once. When SQS falls behind, places are kept.
   */
  async #deleteStored(messages: readonly MessageInWork[]): Promise<void> {
    const { leases, admission, settler, acknowledger } = this.#options;
    if (messages.length === 0) return;
    await leases.close(messages.map(({ lease }) => lease));
    const overlaps = acknowledger.hasRoomFor(messages.length);
    if (overlaps) admission.release(messages.length);
    await settler.deleteStored(messages);
    if (!overlaps) admission.release(messages.length);
  }

  /** The leases ran out before work began: SQS redelivers the messages. */
  async #drop(lost: readonly Lease[]): Promise<void> {
    const { leases, admission, logger } = this.#options;
    await leases.close(lost);
    admission.release(lost.length);
    for (const { message } of lost) {
      const { messageId, receiveCount } = message;
      logger.warn({ messageId, receiveCount }, 'lease lost before work began');
    }
  }
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
