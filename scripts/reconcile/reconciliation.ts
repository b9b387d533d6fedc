import type { StoredOrderId } from '@orders/consumer/adapters/order-ids.ts';
import { IdTable } from './id-table.ts';
import {
  CLIENT_BYTES,
  CONTENT_BYTES,
  ID_BYTES,
  keyOf,
  keyOfClient,
  keyOfContent,
  keyOfText,
  readUuid,
  writeAnyId,
  writeClient,
  writeContent,
  writeHexId,
} from './ids.ts';
import { type JournalLine, parseJournalLine } from './journal-lines.ts';
import { BUCKETS, type BucketOf, createBucketOf, RecordBuckets } from './record-buckets.ts';

/** A message in the dead-letter queue. */
export type DeadLetterRef = {
  /** Those of its orders that can be read. */
  orders: { orderId: string; contentHash: string; clientId?: string | undefined }[];
  /** Of the message in the order queue. A packed one gave its id to all of its orders, also to each that went alone. */
  messageId: string;
  /** Ids of orders that are encrypted: their content cannot be compared. */
  encrypted?: readonly string[];
  /** For how many orders of that message it stands besides: it cannot be read which. */
  unreadable: number;
  reason: string | undefined;
};

/** What archives of retention hold, and what could not be read of them. */
export type Archives = {
  orders: () => AsyncIterable<StoredOrderId[]>;
  /** Grow while they are read. */
  counts: { files: number; orders: number; garbled: number; unreadableBytes: number };
};

/** Messages that are there, in whatever state. Approximate, as SQS says. */
export type Depths = { queue: number; deadLetterQueue: number };

export type Sources = {
  /** Lines of all journals. */
  journal: AsyncIterable<string[]>;
  stored: () => AsyncIterable<StoredOrderId[]>;
  /** Read after the store: an order that is archived meanwhile is met. */
  archives?: Archives | undefined;
  /** Absent: the dead-letter queue is not looked into. */
  deadLetters?: (() => AsyncIterable<DeadLetterRef[]>) | undefined;
  depths: () => Promise<Depths>;
};

export type ReconcileOptions = {
  /** Orders accepted, and those never accepted that were stored, from here on. */
  sinceMs?: number | undefined;
  /** As `sinceMs`: before this. */
  untilMs?: number | undefined;
  /** What was accepted before may have left the store for archives that nobody named. */
  keptSinceMs?: number | undefined;
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
  /** The beginning of its content hash, where the journal has it. */
  content: string | undefined;
};

export type Report = {
  /** Different orders that were accepted: by id, and by content and client where one id has several. The next six add up to them. */
  accepted: number;
  stored: number;
  /** Not in the store any more, but in an archive. */
  archived: number;
  /** Neither, but in the dead-letter queue. */
  deadLettered: number;
  /** Nowhere, and the queue is empty: lost. */
  missing: number;
  /** Nowhere, but they may be in the queue, or among dead letters that were not seen. */
  unresolved: number;
  /** Nowhere, but old enough to be in an archive that was not named. */
  maybeArchived: number;
  /** Messages in the order queue. */
  inFlight: number;
  storedTwice: number;
  /** Orders accepted with more than one message: sent again by their client, stored once. */
  acceptedAgain: number;
  /** Orders accepted under an id that another order had. One of them is stored; the others belong into the dead-letter queue. */
  otherContent: number;
  /** In the store and, stored at another time, in an archive: sent again when its id was not known any more. */
  storedAgain: number;
  storedNeverAccepted: number;
  journal: { lines: number; repeated: number; garbled: number; other: number; outsideRange: number };
  store: { orders: number };
  archives: Archives['counts'];
  /** `notSeen`: not looked at, because nothing had to be found there, it was left out, or others held them. */
  deadLetterQueue: { messages: number; notSeen: number };
  orders: {
    missing: AcceptedOrderRef[];
    unresolved: AcceptedOrderRef[];
    storedTwice: string[];
    storedAgain: string[];
    storedNeverAccepted: string[];
  };
};

/** An accepted order on disk: order, message and trace ids, time, content, client, flags. */
const ACCEPTED = {
  message: ID_BYTES,
  trace: 2 * ID_BYTES,
  at: 3 * ID_BYTES,
  content: 56,
  client: 64,
  flags: 72,
  bytes: 73,
};
const MESSAGE_ID_READABLE = 1;
const TRACE_ID_READABLE = 2;
/** A stored or archived order on disk: id, time, content, client, flags. */
const STORED = { at: ID_BYTES, content: 24, client: 32, flags: 40, bytes: 41 };
const ID_READABLE = 1;
const FROM_ARCHIVE = 2;
/** Of both: its content can be compared. */
const CONTENT_KNOWN = 4;
/** It is said whose it is. */
const CLIENT_KNOWN = 8;

/** What is known of an id, kept at the number of its first record, while its bucket is looked at. */
const HAS_ROW = 1;
const HAS_TWO_ROWS = 2;
const ROW_AGAIN = 4;
/** What is known of an order, kept at the number of the first record with its id, content and client. */
const IN_RANGE = 8;
const AGAIN = 16;
const IS_STORED = 32;
const IS_ARCHIVED = 64;

/** Archives have milliseconds, PostgreSQL has microseconds. */
const SAME_TIME_MS = 1;

const NO_ARCHIVES: Archives['counts'] = { files: 0, orders: 0, garbled: 0, unreadableBytes: 0 };
const NONE: ReadonlySet<string> = new Set();

/**
 * `contents`: by id and content, the clients whose they are.
 * `encrypted`: by id alone, or, of those that lost against another order of their id, by id and message.
 * `unreadable`: how many orders that cannot be read are there, by the message that they came in.
 */
type DeadLetterIndex = {
  ids: Set<string>;
  contents: Map<string, Set<string | undefined>>;
  encrypted: Set<string>;
  unreadable: Map<string, number>;
  count: number;
};
const emptyIndex = (): DeadLetterIndex => ({
  ids: new Set(),
  contents: new Map(),
  encrypted: new Set(),
  unreadable: new Map(),
  count: 0,
});

/**
 * Compares what was accepted with what is stored, dead-lettered and queued. Reads in the order in which an order moves
 * (journal, depth, store, archives, dead-letter queue), so that one that moves meanwhile is met at least once. The dead-letter
 * queue is only looked into when an order is not in the store. Needs memory for one of {@link BUCKETS} parts of the
 * orders, and for the ids and receipts of all dead letters.
 */
export async function reconcile(sources: Sources, options: ReconcileOptions): Promise<Report> {
  const startedAtMs = Date.now();
  const bucketOf = createBucketOf();
  const { buckets: accepted, counts: journal } = await collectAccepted(sources.journal, bucketOf, options);
  const settledAtMs = Date.now() - options.settleMs;
  const before = await sources.depths();
  const { buckets: stored, count: orders } = await collectStored(sources, bucketOf);
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
      archives: { ...(sources.archives?.counts ?? NO_ARCHIVES) },
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

function writeAccepted(line: JournalLine, record: Buffer): void {
  const { orderId, acceptedAtMs, messageId, traceId, content, clientId } = line;
  writeHexId(orderId, record, 0);
  const messageFlag = writeAnyId(messageId, record, ACCEPTED.message) ? MESSAGE_ID_READABLE : 0;
  const traceFlag = writeHexId(traceId, record, ACCEPTED.trace) ? TRACE_ID_READABLE : 0;
  record.writeDoubleLE(acceptedAtMs, ACCEPTED.at);
  const contentFlag = writeContent(content, record, ACCEPTED.content) ? CONTENT_KNOWN : 0;
  const clientFlag = writeClient(clientId, record, ACCEPTED.client) ? CLIENT_KNOWN : 0;
  record[ACCEPTED.flags] = messageFlag | traceFlag | contentFlag | clientFlag;
}

/** Those of the store, then those of archives. @returns how many are in the store */
async function collectStored(
  { stored, archives }: Pick<Sources, 'stored' | 'archives'>,
  bucketOf: BucketOf,
): Promise<{ buckets: RecordBuckets; count: number }> {
  const buckets = new RecordBuckets(STORED.bytes, bucketOf);
  const record = Buffer.alloc(STORED.bytes);
  const collect = async (pages: AsyncIterable<StoredOrderId[]>, origin: number) => {
    let count = 0;
    for await (const page of pages) {
      for (const { orderId, storedAtMs, contentHash, clientId } of page) {
        const idFlag = writeAnyId(orderId, record, 0) ? ID_READABLE : 0;
        record.writeDoubleLE(storedAtMs, STORED.at);
        const contentFlag = writeContent(contentHash, record, STORED.content) ? CONTENT_KNOWN : 0;
        const clientFlag = writeClient(clientId, record, STORED.client) ? CLIENT_KNOWN : 0;
        record[STORED.flags] = idFlag | contentFlag | clientFlag | origin;
        buckets.add(record);
      }
      count += page.length;
    }
    return count;
  };
  const count = await collect(stored(), 0);
  if (archives) await collect(archives.orders(), FROM_ARCHIVE);
  buckets.finish();
  return { buckets, count };
}

async function collectDeadLetters(batches: AsyncIterable<DeadLetterRef[]>): Promise<DeadLetterIndex> {
  const index = emptyIndex();
  for await (const batch of batches) {
    for (const { orders, messageId, encrypted = [], unreadable, reason } of batch) {
      index.count++;
      for (const { orderId, contentHash, clientId } of orders) {
        const content = keyOfContent(orderId, contentHash);
        if (content === undefined) continue;
        const clients = index.contents.get(content) ?? new Set();
        index.contents.set(content, clients.add(keyOfClient(clientId)));
      }
      const message = keyOfText(messageId);
      const isConflict = reason === 'CONFLICT';
      for (const orderId of encrypted) index.encrypted.add(keyOfText(orderId) + (isConflict ? message : ''));
      // It lost against an order of the same id that was stored: where that is gone, this does not stand for it.
      if (isConflict) continue;
      if (unreadable > 0) index.unreadable.set(message, (index.unreadable.get(message) ?? 0) + unreadable);
      for (const { orderId } of orders) index.ids.add(keyOfText(orderId));
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
  /** Of ids that have several orders: by the first record of the id and by content, the first record per client. */
  readonly #ordersOfIds = new Map<number, Map<string, number[]>>();

  constructor(report: Report, deadLetters: DeadLetterIndex, options: ComparisonOptions) {
    this.#report = report;
    this.#deadLetters = deadLetters;
    this.#options = options;
  }

  add(accepted: Buffer, stored: Buffer): void {
    const acceptedCount = accepted.length / ACCEPTED.bytes;
    const count = acceptedCount + stored.length / STORED.bytes;
    this.#ids.reset(count);
    this.#ordersOfIds.clear();
    // Records of the store are counted on from those of the journal.
    const states = new Uint8Array(count);
    const otherMessages = this.#lookAtAccepted(accepted, states);
    this.#lookAtStored(stored, accepted, states);
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
      const order = this.#orderOf(accepted, index);
      const acceptedAtMs = accepted.readDoubleLE(at + ACCEPTED.at);
      let state = states[order] as number;
      if (acceptedAtMs >= sinceMs && acceptedAtMs < untilMs) state |= IN_RANGE;
      if (order !== index) {
        const message = keyOf(accepted, at + ACCEPTED.message);
        const others = otherMessages.get(order) ?? new Set();
        if (message === keyOf(accepted, order * ACCEPTED.bytes + ACCEPTED.message) || others.has(message)) {
          this.#report.journal.repeated++;
        } else {
          otherMessages.set(order, others.add(message));
          state |= AGAIN;
        }
      }
      states[order] = state;
    }
    return otherMessages;
  }

  /**
   * The first record with the id, the content and the client of this one. A line without content is of the id's first
   * order. One without a client is of any: so the consumer takes it, too.
   */
  #orderOf(accepted: Buffer, index: number): number {
    const first = this.#ids.firstOf(accepted, index * ACCEPTED.bytes, index);
    if (first === index || !isKnown(accepted, index * ACCEPTED.bytes + ACCEPTED.flags)) return first;
    const content = contentAt(accepted, index);
    if (!isKnown(accepted, first * ACCEPTED.bytes + ACCEPTED.flags))
      complete(accepted, first, index, ACCEPTED.content, CONTENT_BYTES, CONTENT_KNOWN);
    const client = clientOf(accepted, index * ACCEPTED.bytes, ACCEPTED);
    const known = this.#ordersOfIds.get(first);
    const rivals = known ? (known.get(content) ?? []) : content === contentAt(accepted, first) ? [first] : [];
    const order = rivals.find((each) =>
      isSameClient(client, clientOf(accepted, each * ACCEPTED.bytes, ACCEPTED)),
    );
    if (order !== undefined) {
      if (client !== undefined) complete(accepted, order, index, ACCEPTED.client, CLIENT_BYTES, CLIENT_KNOWN);
      return order;
    }
    const orders = known ?? new Map([[contentAt(accepted, first), [first]]]);
    this.#ordersOfIds.set(first, orders.set(content, [...rivals, index]));
    return index;
  }

  #lookAtStored(stored: Buffer, accepted: Buffer, states: Uint8Array): void {
    const offset = accepted.length / ACCEPTED.bytes;
    const { list } = this.#options;
    const { orders } = this.#report;
    const rowTimes = new Map<number, number>();
    for (let index = offset, at = 0; at < stored.length; index++, at += STORED.bytes) {
      const first = this.#ids.firstOf(stored, at, index);
      const fromArchive = ((stored[at + STORED.flags] as number) & FROM_ARCHIVE) !== 0;
      if (first < offset) {
        const found = fromArchive ? IS_ARCHIVED : IS_STORED;
        for (const order of this.#ordersLike(stored, at, accepted, first))
          states[order] = (states[order] as number) | found;
      }
      const state = states[first] as number;
      const storedAtMs = stored.readDoubleLE(at + STORED.at);
      if (fromArchive) {
        const rowAtMs = rowTimes.get(first) ?? storedAtMs;
        if (Math.abs(rowAtMs - storedAtMs) <= SAME_TIME_MS || (state & ROW_AGAIN) !== 0) continue;
        states[first] = state | ROW_AGAIN;
        this.#report.storedAgain++;
        note(orders.storedAgain, list, () => storedId(stored, at));
        continue;
      }
      states[first] = state | HAS_ROW;
      if (this.#report.archives.orders > 0) rowTimes.set(first, storedAtMs);
      if ((state & HAS_ROW) !== 0 && (state & HAS_TWO_ROWS) === 0) {
        states[first] = state | HAS_TWO_ROWS;
        this.#report.storedTwice++;
        note(orders.storedTwice, list, () => storedId(stored, at));
      }
      if (first === index) this.#noteNeverAccepted(stored, at, storedAtMs);
    }
  }

  /** Of the accepted orders of an id, that which is stored. Where they cannot be compared, it may be each. */
  #ordersLike(stored: Buffer, at: number, accepted: Buffer, first: number): Iterable<number> {
    const orders = this.#ordersOfIds.get(first);
    const comparable =
      isKnown(stored, at + STORED.flags) && isKnown(accepted, first * ACCEPTED.bytes + ACCEPTED.flags);
    if (!comparable) return orders ? [...orders.values()].flat() : [first];
    const content = keyOf(stored, at + STORED.content, CONTENT_BYTES);
    const client = clientOf(stored, at, STORED);
    const rivals = orders
      ? (orders.get(content) ?? [])
      : content === contentAt(accepted, first)
        ? [first]
        : [];
    return rivals.filter((each) => isSameClient(client, clientOf(accepted, each * ACCEPTED.bytes, ACCEPTED)));
  }

  #noteNeverAccepted(stored: Buffer, at: number, storedAtMs: number): void {
    const { sinceMs = Number.NEGATIVE_INFINITY, storedUntilMs, list } = this.#options;
    if (storedAtMs < sinceMs || storedAtMs >= storedUntilMs) return;
    this.#report.storedNeverAccepted++;
    note(this.#report.orders.storedNeverAccepted, list, () => storedId(stored, at));
  }

  #judge(accepted: Buffer, index: number, state: number, otherMessages: ReadonlySet<string>): void {
    const report = this.#report;
    const { settledAtMs, keptSinceMs = Number.NEGATIVE_INFINITY, list } = this.#options;
    const at = index * ACCEPTED.bytes;
    report.accepted++;
    if ((state & AGAIN) !== 0) report.acceptedAgain++;
    if (this.#ordersOfIds.size > 0 && this.#ids.firstOf(accepted, at, index) !== index) report.otherContent++;
    const acceptedAtMs = accepted.readDoubleLE(at + ACCEPTED.at);
    if ((state & IS_STORED) !== 0) report.stored++;
    else if ((state & IS_ARCHIVED) !== 0) report.archived++;
    else if (this.#isDeadLettered(accepted, at, otherMessages)) report.deadLettered++;
    else if (acceptedAtMs < keptSinceMs) report.maybeArchived++;
    else {
      const kind = acceptedAtMs <= settledAtMs ? 'missing' : 'unresolved';
      report[kind]++;
      note(report.orders[kind], list, () => acceptedRef(accepted, at));
    }
  }

  #isDeadLettered(accepted: Buffer, at: number, otherMessages: ReadonlySet<string>): boolean {
    const { ids, contents, encrypted } = this.#deadLetters;
    const id = keyOf(accepted, at);
    const messages = [keyOf(accepted, at + ACCEPTED.message), ...otherMessages];
    if (encrypted.has(id) || messages.some((message) => encrypted.has(id + message))) return true;
    const client = clientOf(accepted, at, ACCEPTED);
    const clients = contents.get(id + keyOf(accepted, at + ACCEPTED.content, CONTENT_BYTES));
    const found = isKnown(accepted, at + ACCEPTED.flags)
      ? clients !== undefined && (client === undefined || clients.has(client) || clients.has(undefined))
      : ids.has(id);
    return found || this.#takeUnreadable(messages);
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

const isKnown = (records: Buffer, flagsAt: number) => ((records[flagsAt] as number) & CONTENT_KNOWN) !== 0;
const contentAt = (accepted: Buffer, index: number) =>
  keyOf(accepted, index * ACCEPTED.bytes + ACCEPTED.content, CONTENT_BYTES);

/** Undefined where the record does not say whose it is. */
const clientOf = (
  records: Buffer,
  at: number,
  layout: typeof ACCEPTED | typeof STORED,
): string | undefined =>
  ((records[at + layout.flags] as number) & CLIENT_KNOWN) !== 0
    ? keyOf(records, at + layout.client, CLIENT_BYTES)
    : undefined;
const isSameClient = (a: string | undefined, b: string | undefined) =>
  a === b || a === undefined || b === undefined;

/** Gives the first record of an order what a later one of it says. */
function complete(
  accepted: Buffer,
  first: number,
  index: number,
  field: number,
  bytes: number,
  flag: number,
) {
  const [to, from] = [first * ACCEPTED.bytes, index * ACCEPTED.bytes];
  accepted.copy(accepted, to + field, from + field, from + field + bytes);
  accepted[to + ACCEPTED.flags] = (accepted[to + ACCEPTED.flags] as number) | flag;
}

function note<T>(list: T[], limit: number, item: () => T): void {
  if (list.length < limit) list.push(item());
}

function storedId(stored: Buffer, at: number): string {
  return ((stored[at + STORED.flags] as number) & ID_READABLE) !== 0 ? readUuid(stored, at) : '(not a UUID)';
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
    content: isKnown(accepted, at + ACCEPTED.flags)
      ? `v1:${accepted.toString('hex', at + ACCEPTED.content, at + ACCEPTED.content + CONTENT_BYTES)}`
      : undefined,
  };
}

function emptyCounts() {
  return {
    accepted: 0,
    stored: 0,
    archived: 0,
    deadLettered: 0,
    missing: 0,
    unresolved: 0,
    maybeArchived: 0,
    storedTwice: 0,
    acceptedAgain: 0,
    otherContent: 0,
    storedAgain: 0,
    storedNeverAccepted: 0,
    orders: { missing: [], unresolved: [], storedTwice: [], storedAgain: [], storedNeverAccepted: [] },
  };
}
