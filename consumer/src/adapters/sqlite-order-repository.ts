import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import {
  OrderNotStorableError,
  OrderRefusedByRuleError,
  OrderRefusedError,
  StoreUnavailableError,
} from '../domain/errors.ts';
import type { OrderFate } from '../domain/order-fate.ts';
import type {
  FoundOrder,
  OrderCursor,
  OrderIdentity,
  OrderRepository,
  OrderToStore,
  OwnedBy,
  ReadLimit,
  Saved,
  StoredOrder,
} from '../domain/order-repository.ts';
import { pairResults, type StoreAnswer, swallowedError } from '../domain/save-results.ts';
import { FATE_COLUMNS, type FateRow, fromFateRow, selectFates, toFateRows } from './fate-row.ts';
import { migrateSqlite } from './migrations.ts';
import {
  fromRowWithSize,
  type IdentityRow,
  type OrderRow,
  type ReadRow,
  toIdentity,
  toRows,
} from './order-row.ts';

export type SqliteOptions = {
  /** How long to wait for another process that writes. The event loop stands still meanwhile. */
  busyTimeoutMs?: number;
  /** Upper bound of the file, in pages of 4 KiB; by default none. */
  maxPageCount?: number;
};

/** Another process may be creating or migrating the same file: worth a longer wait than a save is. */
const OPEN_BUSY_TIMEOUT_MS = 10_000;
const DEFAULT_BUSY_TIMEOUT_MS = 1_000;

const READ = 'SELECT data, content_hash, trace_id, client_id, stored_at FROM orders';
const PAGE = 'ORDER BY created_at_ms DESC, order_id DESC LIMIT ?';

/** Statements that read, of one client's orders or of everybody's. */
const prepareReads = (db: DatabaseSync, whose: '' | 'client_id = ? AND') => ({
  byId: db.prepare(`${READ} WHERE ${whose} order_id = ?`),
  page: db.prepare(`${READ} WHERE ${whose} customer_id = ? ${PAGE}`),
  pageAfter: db.prepare(
    `${READ} WHERE ${whose} customer_id = ? AND (created_at_ms, order_id) < (?, ?) ${PAGE}`,
  ),
});

type Save = {
  rows: OrderRow[];
  resolve: (answer: StoreAnswer) => void;
  reject: (error: Error) => void;
};

/**
 * Opens the file, creates it with its folder where it is missing, and brings its schema up to date.
 * @param path a file, or `:memory:`
 */
export function openSqliteOrderRepository(path: string, options: SqliteOptions = {}): SqliteOrderRepository {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true });
  const db = new DatabaseSync(path, { timeout: OPEN_BUSY_TIMEOUT_MS });
  try {
    // FULL: in WAL mode, a commit survives a power cut only if each one is synced (sqlite.org/pragma.html#pragma_synchronous).
    enterWal(db);
    db.exec('PRAGMA synchronous = FULL');
    migrateSqlite(db);
    db.exec(`PRAGMA busy_timeout = ${options.busyTimeoutMs ?? DEFAULT_BUSY_TIMEOUT_MS}`);
    if (options.maxPageCount) db.exec(`PRAGMA max_page_count = ${options.maxPageCount}`);
    return new SqliteOrderRepository(db);
  } catch (error) {
    db.close();
    throw error;
  }
}

/** SQLite does not wait where several change the mode of a new file at once: it is locked for the moment that one takes. */
function enterWal(db: DatabaseSync): void {
  const giveUpAt = performance.now() + OPEN_BUSY_TIMEOUT_MS;
  for (;;) {
    try {
      db.exec('PRAGMA journal_mode = WAL');
      return;
    } catch (error) {
      const isBusy = (error as { errcode?: number }).errcode === BUSY;
      if (!isBusy || performance.now() > giveUpAt) throw error;
    }
  }
}

/**
 * Orders in an SQLite file. A commit waits for the disk and holds up the event loop, so calls of one turn of the loop
 * share one; a call whose order is refused does not disturb the others.
 */
export class SqliteOrderRepository implements OrderRepository {
  readonly #db: DatabaseSync;
  readonly #insert: StatementSync;
  readonly #readIdentity: StatementSync;
  readonly #readAny: StatementSync;
  readonly #everybodys: ReturnType<typeof prepareReads>;
  readonly #own: ReturnType<typeof prepareReads>;
  readonly #insertFate: StatementSync;
  readonly #readFates: StatementSync;
  #waiting: Save[] = [];

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#insert = db.prepare(
      `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, client_id, data)
       VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (order_id) DO NOTHING`,
    );
    this.#readIdentity = db.prepare('SELECT content_hash, client_id FROM orders WHERE order_id = ?');
    this.#readAny = db.prepare(`${READ} LIMIT 1`);
    this.#everybodys = prepareReads(db, '');
    this.#own = prepareReads(db, 'client_id = ? AND');
    this.#insertFate = db.prepare(
      `INSERT INTO order_fates (${FATE_COLUMNS}) VALUES (${FATE_COLUMNS.replaceAll(/\w+/g, '$$$&')})
       ON CONFLICT DO NOTHING`,
    );
    this.#readFates = db.prepare(selectFates('order_id = $id', '($owner IS NULL OR client_id = $owner)'));
  }

  async saveAll<O extends OrderToStore>(orders: readonly O[]): Promise<Saved<O>[]> {
    if (orders.length === 0) return [];
    const rows = toRows(orders);
    const answer = await new Promise<StoreAnswer>((resolve, reject) => {
      this.#waiting.push({ rows, resolve, reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#commitWaiting());
    });
    return pairResults(orders, answer);
  }

  async findById(orderId: string, whose: OwnedBy = {}): Promise<StoredOrder | undefined> {
    return (await this.findByIds([orderId], whose))[0];
  }

  async findByIds(
    orderIds: readonly string[],
    { maxBytes, ownedBy }: ReadLimit & OwnedBy = {},
  ): Promise<FoundOrder[]> {
    const { reads, owner } = this.#readsOf(ownedBy);
    const ids = new Set(orderIds.map((id) => id.toLowerCase()));
    const rows = ids
      .values()
      .map((id) => reads.byId.get(...owner, id))
      .filter((row) => row !== undefined);
    return this.#reading(() => rows, maxBytes);
  }

  async findAny(): Promise<StoredOrder | undefined> {
    return this.#reading(() => this.#readAny.all())[0];
  }

  async findByCustomer(
    customerId: string,
    {
      limit,
      after,
      maxBytes,
      ownedBy,
    }: ReadLimit & OwnedBy & { limit: number; after?: OrderCursor | undefined },
  ): Promise<FoundOrder[]> {
    const { reads, owner } = this.#readsOf(ownedBy);
    const start = after ? [after.createdAtMs, after.orderId.toLowerCase()] : [];
    const read = after ? reads.pageAfter : reads.page;
    return this.#reading(() => read.iterate(...owner, customerId, ...start, limit), maxBytes);
  }

  async recordFates(fates: readonly OrderFate[]): Promise<void> {
    const rows = toFateRows(fates);
    if (rows.length === 0) return;
    try {
      this.#transaction(() => {
        for (const row of rows) this.#insertFate.run(row);
      });
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  async findFates(orderId: string, { ownedBy }: OwnedBy = {}): Promise<OrderFate[]> {
    try {
      const rows = this.#readFates.all({ id: orderId.toLowerCase(), owner: ownedBy ?? null });
      return (rows as FateRow[]).map(fromFateRow).reverse();
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  #readsOf(ownedBy: string | undefined) {
    return ownedBy === undefined
      ? { reads: this.#everybodys, owner: [] }
      : { reads: this.#own, owner: [ownedBy] };
  }

  async rehearse(orders: readonly OrderToStore[]): Promise<void> {
    try {
      this.#transaction(() => {
        this.#db.exec('SAVEPOINT rehearsal');
        const rows = toRows(orders);
        const answer = this.#insertAll(rows);
        if (answer instanceof Error) throw answer;
        if (answer.inserted.size < rows.length) throw swallowedError();
        this.#db.exec('ROLLBACK TO rehearsal; RELEASE rehearsal');
        this.#takeRoom();
      });
    } catch (cause) {
      throw cause instanceof OrderRefusedError ? cause : unavailable(cause);
    }
  }

  async ping(): Promise<void> {
    try {
      this.#transaction(() => this.#takeRoom());
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  /** Takes the room of a batch and gives it back: a full file refuses that, where an update in place would pass. */
  #takeRoom(): void {
    this.#db.exec('INSERT INTO write_probe (filler) VALUES (zeroblob(65536)); DELETE FROM write_probe');
  }

  async close(): Promise<void> {
    this.#commitWaiting();
    if (this.#db.isOpen) this.#db.close();
  }

  #commitWaiting(): void {
    const saves = this.#waiting;
    this.#waiting = [];
    if (saves.length > 0) this.#commit(saves);
  }

  #commit(saves: readonly Save[]): void {
    try {
      const answers = this.#transaction(() =>
        saves.map((save) => ({ save, answer: this.#insertAll(save.rows) })),
      );
      for (const { save, answer } of answers) {
        if (answer instanceof Error) save.reject(answer);
        else save.resolve(answer);
      }
    } catch (cause) {
      // A trigger that rolls back undoes what all have inserted.
      if (cause instanceof OrderRefusedError && saves.length > 1)
        for (const save of saves) this.#commit([save]);
      else
        for (const { reject } of saves)
          reject(cause instanceof OrderRefusedError ? cause : unavailable(cause));
    }
  }

  /** Inserts one caller's orders, all or none. What is thrown is no fault of theirs and ends the whole transaction. */
  #insertAll(rows: readonly OrderRow[]): StoreAnswer | Error {
    this.#db.exec('SAVEPOINT one_call');
    try {
      const inserted = new Set<string>();
      const found = new Map<string, OrderIdentity>();
      for (const row of rows) {
        const { order_id, customer_id, created_at_ms, content_hash, trace_id, client_id, data } = row;
        const { changes } = this.#insert.run(
          order_id,
          customer_id,
          created_at_ms,
          content_hash,
          trace_id,
          client_id ?? null,
          data,
        );
        if (changes === 1) {
          inserted.add(order_id);
          continue;
        }
        const before = this.#readIdentity.get(order_id) as IdentityRow | undefined;
        if (before) found.set(order_id, toIdentity(before));
      }
      this.#db.exec('RELEASE one_call');
      return { inserted, found };
    } catch (cause) {
      if (!isFaultOfRow(cause)) throw cause;
      const { errcode } = cause as { errcode?: number };
      const about = { cause, refusal: String(errcode) };
      const refused = RULES.has(errcode)
        ? new OrderRefusedByRuleError('a rule in SQLite refused an order', about)
        : new OrderNotStorableError('SQLite refused an order', about);
      if (!this.#db.isTransaction) throw refused;
      this.#db.exec('ROLLBACK TO one_call; RELEASE one_call');
      return refused;
    }
  }

  #transaction<T>(work: () => T): T {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#db.exec('COMMIT');
      return result;
    } finally {
      // After some errors, as a full disk, SQLite has rolled back already.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
    }
  }

  #reading(read: () => Iterable<unknown>, maxBytes = Number.POSITIVE_INFINITY): FoundOrder[] {
    try {
      const orders: FoundOrder[] = [];
      let bytes = 0;
      for (const row of read()) {
        const stored = fromRowWithSize(row as ReadRow);
        orders.push(stored);
        bytes += stored.sizeBytes;
        if (bytes >= maxBytes) break;
      }
      return orders;
    } catch (cause) {
      throw unavailable(cause);
    }
  }
}

/** Primary result codes (sqlite.org/rescode.html): TOOBIG, CONSTRAINT, MISMATCH. */
const ROW_FAULTS = new Set([18, 19, 20]);
/** Extended codes of what a trigger raised, and of a unique index that is not ours: that may pass. */
const RULES = new Set<unknown>([1811, 2067]);
const BUSY = 5;

function isFaultOfRow(error: unknown): boolean {
  const { code, errcode = 0 } = error as { code?: string; errcode?: number };
  return ROW_FAULTS.has(errcode & 0xff) || code === 'ERR_INVALID_ARG_TYPE';
}

function unavailable(cause: unknown): StoreUnavailableError {
  return new StoreUnavailableError('SQLite cannot be used', { cause });
}
