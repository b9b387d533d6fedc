import type { StoredOrderId } from '@orders/consumer/adapters/order-ids.ts';
import { IdTable } from './id-table.ts';
import { ID_BYTES, keyOf, keyOfText, readUuid, writeAnyId, writeHexId } from './ids.ts';
import { type JournalLine, parseJournalLine } from './journal-lines.ts';
import { BUCKETS, type BucketOf, createBucketOf, RecordBuckets } from './record-buckets.ts';

/** A message in the dead-letter queue. */
export type DeadLetterRef = {
  /** Of its orders that can be read. */
  orderIds: string[];
  /** Of the message in the order queue. A packed one gave its id to all of its orders, also to each that went alone. */
  messageId: string;
  /** For how many orders of that message it stands besides: it cannot be read which. */
  unreadable: number;
  reason: string | undefined;
};

/** Messages that are there, in whatever state. Approximate, as SQS says. */
export type Depths = { queue: number; deadLetterQueue: number };

export type Sources = {
  /** Lines of all journals. */
  journal: AsyncIterable<string[]>;
  stored: () => AsyncIterable<StoredOrderId[]>;
  /** Absent: the dead-letter queue is not looked into. */
  deadLetters?: (() => AsyncIterable<DeadLetterRef[]>) | undefined;
  depths: () => Promise<Depths>;
};

export type ReconcileOptions = {
  /** Orders accepted, and those never accepted that were stored, from here on. */
  sinceMs?: number | undefined;
  /** As `sinceMs`: before this. */
  untilMs?: number | undefined;
  /** How long the depth of the queue may not yet know of a message. */
  settleMs: number;
  /** How many orders of each kind are listed. */
  list: number;
};

export type AcceptedOrderRef = {
  orderId: string;
  acceptedAt: string;
  messageId: string | undefined;
  traceId: string | undefined;
};

export type Report = {
  /** Different orders that were accepted. They are what the next four add up to. */
  accepted: number;
  stored: number;
  /** Not stored, but in the dead-letter queue. */
  deadLettered: number;
  /** Neither, and the queue is empty: lost. */
  missing: number;
  /** Neither, but they may be in the queue, or among dead letters that were not seen. */
  unresolved: number;
  /** Messages in the order queue. */
  inFlight: number;
  storedTwice: number;
  /** Orders accepted with more than one message: sent again by their client, stored once. */
  acceptedAgain: number;
  storedNeverAccepted: number;
  journal: { lines: number; repeated: number; garbled: number; other: number; outsideRange: number };
  store: { orders: number };
  /** `notSeen`: not looked at, because nothing had to be found there, it was left out, or others held them. */
  deadLetterQueue: { messages: number; notSeen: number };
  orders: {
    missing: AcceptedOrderRef[];
    unresolved: AcceptedOrderRef[];
    storedTwice: string[];
    storedNeverAccepted: string[];
  };
};

/** An accepted order on disk: order, message and trace ids, time, flags. */
const ACCEPTED = { message: ID_BYTES, trace: 2 * ID_BYTES, at: 3 * ID_BYTES, flags: 56, bytes: 57 };
const MESSAGE_ID_READABLE = 1;
const TRACE_ID_READABLE = 2;
/** A stored order on disk: id, time, whether the id is one. */
const STORED = { at: ID_BYTES, readable: 24, bytes: 25 };

/** What is known of an id while its bucket is looked at. */
const IN_RANGE = 1;
const IS_STORED = 2;
const STORED_TWICE = 4;
const AGAIN = 8;

const NONE: ReadonlySet<string> = new Set();

/** `unreadable`: how many orders that cannot be read are there, by the message that they came in. */
type DeadLetterIndex = { orders: Set<string>; unreadable: Map<string, number>; count: number };
const emptyIndex = (): DeadLetterIndex => ({ orders: new Set(), unreadable: new Map(), count: 0 });

/**
 * Compares what was accepted with what is stored, dead-lettered and queued. Reads in the order in which an order moves
 * (journal, depth, store, dead-letter queue), so that one that moves meanwhile is met at least once. The dead-letter
 * queue is only looked into when an order is not in the store. Needs memory for one of {@link BUCKETS} parts of the
 * orders, and for the ids and receipts of all dead letters.
 */
export async function reconcile(sources: Sources, options: ReconcileOptions): Promise<Report> {
  const startedAtMs = Date.now();
  const bucketOf = createBucketOf();
  const { buckets: accepted, counts: journal } = await collectAccepted(sources.journal, bucketOf, options);
  const settledAtMs = Date.now() - options.settleMs;
  const before = await sources.depths();
  const { buckets: stored, count: orders } = await collectStored(sources.stored(), bucketOf);
  const afterStore = await sources.depths();

  const compare = (depths: Depths[], deadLetters: DeadLetterIndex): Report => {
    const inFlight = Math.max(...depths.map(({ queue }) => queue));
    const messages = Math.max(...depths.map(({ deadLetterQueue }) => deadLetterQueue), deadLetters.count);
    const notSeen = messages - deadLetters.count;
    const report: Report = {
      ...emptyCounts(),
      inFlight,
      journal: { ...journal },
      store: { orders },
      deadLetterQueue: { messages, notSeen },
    };
    const comparison = new Comparison(report, deadLetters, {
      ...options,
      settledAtMs: inFlight > 0 || notSeen > 0 ? Number.NEGATIVE_INFINITY : settledAtMs,
      // What was stored after the journal was opened may have been accepted after it was read.
      storedUntilMs: Math.min(options.untilMs ?? startedAtMs, startedAtMs),
    });
    for (let bucket = 0; bucket < BUCKETS; bucket++)
      comparison.add(accepted.read(bucket), stored.read(bucket));
    return report;
  };

  let report = compare([before, afterStore], emptyIndex());
  if (sources.deadLetters && report.missing + report.unresolved > 0) {
    const deadLetters = await collectDeadLetters(sources.deadLetters());
    report = compare([before, afterStore, await sources.depths()], deadLetters);
  }
  accepted.close();
  stored.close();
  return report;
}

async function collectAccepted(
  journal: AsyncIterable<string[]>,
  bucketOf: BucketOf,
  { sinceMs = Number.NEGATIVE_INFINITY, untilMs = Number.POSITIVE_INFINITY }: ReconcileOptions,
): Promise<{ buckets: RecordBuckets; counts: Report['journal'] }> {
  const buckets = new RecordBuckets(ACCEPTED.bytes, bucketOf);
  const record = Buffer.alloc(ACCEPTED.bytes);
  const counts = { lines: 0, repeated: 0, garbled: 0, other: 0, outsideRange: 0 };
  for await (const lines of journal) {
    for (const line of lines) {
      if (line === '' || line === '\r') continue;
      counts.lines++;
      const parsed = parseJournalLine(line);
      if (typeof parsed === 'string') {
        counts[parsed]++;
        continue;
      }
      if (parsed.acceptedAtMs < sinceMs || parsed.acceptedAtMs >= untilMs) counts.outsideRange++;
      writeAccepted(parsed, record);
      buckets.add(record);
    }
  }
  buckets.finish();
  return { buckets, counts };
}

function writeAccepted({ orderId, acceptedAtMs, messageId, traceId }: JournalLine, record: Buffer): void {
  writeHexId(orderId, record, 0);
  const messageFlag = writeAnyId(messageId, record, ACCEPTED.message) ? MESSAGE_ID_READABLE : 0;
  const traceFlag = writeHexId(traceId, record, ACCEPTED.trace) ? TRACE_ID_READABLE : 0;
  record.writeDoubleLE(acceptedAtMs, ACCEPTED.at);
  record[ACCEPTED.flags] = messageFlag | traceFlag;
}

async function collectStored(
  pages: AsyncIterable<StoredOrderId[]>,
  bucketOf: BucketOf,
): Promise<{ buckets: RecordBuckets; count: number }> {
  const buckets = new RecordBuckets(STORED.bytes, bucketOf);
  let count = 0;
  const record = Buffer.alloc(STORED.bytes);
  for await (const page of pages) {
    for (const { orderId, storedAtMs } of page) {
      record[STORED.readable] = writeAnyId(orderId, record, 0) ? 1 : 0;
      record.writeDoubleLE(storedAtMs, STORED.at);
      buckets.add(record);
    }
    count += page.length;
  }
  buckets.finish();
  return { buckets, count };
}

async function collectDeadLetters(batches: AsyncIterable<DeadLetterRef[]>): Promise<DeadLetterIndex> {
  const index = emptyIndex();
  for await (const batch of batches) {
    for (const { orderIds, messageId, unreadable, reason } of batch) {
      index.count++;
      // It lost against an order of the same id that was stored: where that is gone, this does not stand for it.
      if (reason === 'CONFLICT') continue;
      const message = keyOfText(messageId);
      if (unreadable > 0) index.unreadable.set(message, (index.unreadable.get(message) ?? 0) + unreadable);
      for (const orderId of orderIds) index.orders.add(keyOfText(orderId));
    }
  }
  return index;
}

type ComparisonOptions = ReconcileOptions & {
  /** An order accepted later than this may still be on its way. */
  settledAtMs: number;
  storedUntilMs: number;
};

/** Compares bucket by bucket, adds to the report what it finds, and uses up the dead letters that cannot be read. */
class Comparison {
  readonly #report: Report;
  readonly #deadLetters: DeadLetterIndex;
  readonly #options: ComparisonOptions;
  readonly #ids = new IdTable();

  constructor(report: Report, deadLetters: DeadLetterIndex, options: ComparisonOptions) {
    this.#report = report;
    this.#deadLetters = deadLetters;
    this.#options = options;
  }

  add(accepted: Buffer, stored: Buffer): void {
    const acceptedCount = accepted.length / ACCEPTED.bytes;
    const count = acceptedCount + stored.length / STORED.bytes;
    this.#ids.reset(count);
    // Of each id at the number of its first record; those of the store are counted on from those of the journal.
    const states = new Uint8Array(count);
    const otherMessages = this.#lookAtAccepted(accepted, states);
    this.#lookAtStored(stored, acceptedCount, states);
    for (let index = 0; index < acceptedCount; index++) {
      const state = states[index] as number;
      if ((state & IN_RANGE) !== 0) this.#judge(accepted, index, state, otherMessages.get(index) ?? NONE);
    }
  }

  /** @returns of orders that were accepted again, the keys of their other messages */
  #lookAtAccepted(accepted: Buffer, states: Uint8Array): Map<number, Set<string>> {
    const { sinceMs = Number.NEGATIVE_INFINITY, untilMs = Number.POSITIVE_INFINITY } = this.#options;
    const otherMessages = new Map<number, Set<string>>();
    for (let index = 0, at = 0; at < accepted.length; index++, at += ACCEPTED.bytes) {
      const first = this.#ids.firstOf(accepted, at, index);
      const acceptedAtMs = accepted.readDoubleLE(at + ACCEPTED.at);
      let state = states[first] as number;
      if (acceptedAtMs >= sinceMs && acceptedAtMs < untilMs) state |= IN_RANGE;
      if (first !== index) {
        const message = keyOf(accepted, at + ACCEPTED.message);
        const others = otherMessages.get(first) ?? new Set();
        if (message === keyOf(accepted, first * ACCEPTED.bytes + ACCEPTED.message) || others.has(message)) {
          this.#report.journal.repeated++;
        } else {
          otherMessages.set(first, others.add(message));
          state |= AGAIN;
        }
      }
      states[first] = state;
    }
    return otherMessages;
  }

  #lookAtStored(stored: Buffer, offset: number, states: Uint8Array): void {
    const { sinceMs = Number.NEGATIVE_INFINITY, storedUntilMs, list } = this.#options;
    const { orders } = this.#report;
    for (let index = offset, at = 0; at < stored.length; index++, at += STORED.bytes) {
      const first = this.#ids.firstOf(stored, at, index);
      const state = states[first] as number;
      states[first] = state | IS_STORED;
      if ((state & IS_STORED) !== 0 && (state & STORED_TWICE) === 0) {
        states[first] = state | STORED_TWICE;
        this.#report.storedTwice++;
        note(orders.storedTwice, list, () => storedId(stored, at));
      }
      const storedAtMs = stored.readDoubleLE(at + STORED.at);
      if (first === index && storedAtMs >= sinceMs && storedAtMs < storedUntilMs) {
        this.#report.storedNeverAccepted++;
        note(orders.storedNeverAccepted, list, () => storedId(stored, at));
      }
    }
  }

  #judge(accepted: Buffer, index: number, state: number, otherMessages: ReadonlySet<string>): void {
    const report = this.#report;
    const at = index * ACCEPTED.bytes;
    report.accepted++;
    if ((state & AGAIN) !== 0) report.acceptedAgain++;
    if ((state & IS_STORED) !== 0) {
      report.stored++;
      return;
    }
    const messages = [keyOf(accepted, at + ACCEPTED.message), ...otherMessages];
    if (this.#deadLetters.orders.has(keyOf(accepted, at)) || this.#takeUnreadable(messages)) {
      report.deadLettered++;
      return;
    }
    const settled = accepted.readDoubleLE(at + ACCEPTED.at) <= this.#options.settledAtMs;
    const kind = settled ? 'missing' : 'unresolved';
    report[kind]++;
    note(report.orders[kind], this.#options.list, () => acceptedRef(accepted, at));
  }

  /** Each that cannot be read accounts for one order: of several of one message it is not known for which. */
  #takeUnreadable(messages: readonly string[]): boolean {
    const { unreadable } = this.#deadLetters;
    const message = messages.find((key) => (unreadable.get(key) ?? 0) > 0);
    if (message === undefined) return false;
    unreadable.set(message, (unreadable.get(message) ?? 0) - 1);
    return true;
  }
}

function note<T>(list: T[], limit: number, item: () => T): void {
  if (list.length < limit) list.push(item());
}

function storedId(stored: Buffer, at: number): string {
  return stored[at + STORED.readable] === 1 ? readUuid(stored, at) : '(not a UUID)';
}

function acceptedRef(accepted: Buffer, at: number): AcceptedOrderRef {
  const flags = accepted[at + ACCEPTED.flags] as number;
  return {
    orderId: readUuid(accepted, at),
    acceptedAt: new Date(accepted.readDoubleLE(at + ACCEPTED.at)).toISOString(),
    messageId: (flags & MESSAGE_ID_READABLE) !== 0 ? readUuid(accepted, at + ACCEPTED.message) : undefined,
    traceId:
      (flags & TRACE_ID_READABLE) !== 0
        ? accepted.toString('hex', at + ACCEPTED.trace, at + ACCEPTED.trace + ID_BYTES)
        : undefined,
  };
}

function emptyCounts() {
  return {
    accepted: 0,
    stored: 0,
    deadLettered: 0,
    missing: 0,
    unresolved: 0,
    storedTwice: 0,
    acceptedAgain: 0,
    storedNeverAccepted: 0,
    orders: { missing: [], unresolved: [], storedTwice: [], storedNeverAccepted: [] },
  };
}
