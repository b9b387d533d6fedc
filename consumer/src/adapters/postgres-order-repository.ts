import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '@orders/shared/backoff.ts';
import type { Logger } from '@orders/shared/logger.ts';
import { Client, DatabaseError, Pool, type PoolClient } from 'pg';
import { OrderNotStorableError, OrderRefusedByRuleError, StoreUnavailableError } from '../domain/errors.ts';
import type {
  OrderCursor,
  OrderRepository,
  OrderToStore,
  SaveResult,
  StoredOrder,
} from '../domain/order-repository.ts';
import { judgeSaves } from '../domain/save-results.ts';
import { migratePostgres } from './migrations.ts';
import { fromRow, type ReadRow, toRows } from './order-row.ts';
import { outliveLoss, statementLimits, withSessionSettings } from './postgres-connection.ts';

export type PostgresOptions = {
  /** Connections at most, those of look-ups among them. */
  poolSize: number;
  /** Limit of opening a connection, and of waiting for a free one. */
  connectTimeoutMs: number;
  /** Limit of one statement, kept by the server; the client gives up a second later. */
  statementTimeoutMs: number;
  logger?: Pick<Logger, 'warn'>;
};

/** Connections: all, those without work, and calls that wait for one. */
export type PoolGauges = { total: number; idle: number; waiting: number };

/** What the guarantees of the port rest on. */
const SESSION_SETTINGS = '-c synchronous_commit=on -c default_transaction_isolation=read\\ committed';
const MIGRATION_TIMEOUT_MS = 300_000;
const LOOK_UP_SHARE = 1 / 4;
const MAX_ATTEMPTS = 5;
const RETRY_BACKOFF = { baseMs: 20, maxMs: 500 };

// Sorted by id: writers that lock rows in the same order cannot wait for each other in a circle.
const INSERT = `
  INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
  SELECT order_id, customer_id, created_at_ms, content_hash, trace_id, data::json
  FROM json_to_recordset($1) AS given (
    order_id uuid, customer_id text, created_at_ms bigint, content_hash text, trace_id text, data text)
  ORDER BY order_id
  ON CONFLICT (order_id) DO NOTHING
  RETURNING order_id`;
const READ_HASHES = 'SELECT order_id, content_hash FROM orders WHERE order_id = ANY ($1::uuid[])';
const READ = 'SELECT data::text, content_hash, trace_id, stored_at FROM orders';
const READ_BY_IDS = `${READ} WHERE order_id = ANY ($1::uuid[])`;
const PAGE = 'ORDER BY created_at_ms DESC, order_id DESC LIMIT $2';
const READ_PAGE = `${READ} WHERE customer_id = $1 ${PAGE}`;
const READ_PAGE_AFTER = `${READ} WHERE customer_id = $1 AND (created_at_ms, order_id) < ($3, $4) ${PAGE}`;
const READ_ONLY = `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS "readOnly"`;
// As much room as a batch takes, in rows that are not compressed (those are below 2 kB).
const TRY_INSERT = `
  BEGIN;
  INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
  SELECT gen_random_uuid(), '', 0, repeat('x', 1900), '', 'null' FROM generate_series(1, 32)`;

/** Connects, and brings the schema up to date. @throws when the server cannot be reached or the schema not be made */
export async function openPostgresOrderRepository(
  url: string,
  options: PostgresOptions,
): Promise<PostgresOrderRepository> {
  const connection = {
    connectionString: withSessionSettings(url, SESSION_SETTINGS),
    application_name: 'order-consumer',
    connectionTimeoutMillis: options.connectTimeoutMs,
    keepAlive: true,
  };
  await migrate(new Client({ ...connection, ...statementLimits(MIGRATION_TIMEOUT_MS) }));
  const createPool = (max: number): Pool => {
    const pool = new Pool({
      ...connection,
      max,
      ...statementLimits(options.statementTimeoutMs),
      idle_in_transaction_session_timeout: options.statementTimeoutMs,
    });
    pool.on('error', (err) => options.logger?.warn({ err }, 'idle database connection lost'));
    pool.on('connect', outliveLoss);
    return pool;
  };
  // A save that waits behind slow look-ups for a connection would be taken for an outage.
  const readers = Math.max(1, Math.floor(options.poolSize * LOOK_UP_SHARE));
  const pool = createPool(Math.max(1, options.poolSize - readers));
  return new PostgresOrderRepository(pool, options.poolSize === 1 ? pool : createPool(readers));
}

async function migrate(client: Client): Promise<void> {
  outliveLoss(client);
  try {
    await client.connect();
    await migratePostgres(client);
  } finally {
    await client.end();
  }
}

/** Orders in PostgreSQL. Each statement is a transaction of its own. */
export class PostgresOrderRepository implements OrderRepository {
  readonly #pool: Pool;
  readonly #lookUpPool: Pool;
  readonly #pools: Pool[];
  /** Saving failed, and nothing has been written since. */
  #doubted = false;

  constructor(pool: Pool, lookUpPool: Pool) {
    this.#pool = pool;
    this.#lookUpPool = lookUpPool;
    this.#pools = [...new Set([pool, lookUpPool])];
  }

  pool(): PoolGauges {
    const sum = (count: (pool: Pool) => number) =>
      this.#pools.reduce((total, pool) => total + count(pool), 0);
    return {
      total: sum(({ totalCount }) => totalCount),
      idle: sum(({ idleCount }) => idleCount),
      waiting: sum(({ waitingCount }) => waitingCount),
    };
  }

  async saveAll(orders: readonly OrderToStore[]): Promise<SaveResult[]> {
    if (orders.length === 0) return [];
    const rows = toRows(orders);
    return this.#withClient(this.#pool, async (client) => {
      const returned = await query<{ order_id: string }>(client, INSERT, [JSON.stringify(rows)]);
      if (returned.length > 0) this.#doubted = false;
      const inserted = new Set(returned.map(({ order_id }) => order_id));
      const others = rows.map(({ order_id }) => order_id).filter((id) => !inserted.has(id));
      if (others.length === 0) return judgeSaves(orders, inserted, new Map());
      // The insert waited for transactions that held these ids, but its snapshot is older than their commits: only a
      // new statement sees them.
      const stored = await query<{ order_id: string; content_hash: string }>(client, READ_HASHES, [others]);
      const storedHashes = new Map(stored.map(({ order_id, content_hash }) => [order_id, content_hash]));
      return judgeSaves(orders, inserted, storedHashes);
    });
  }

  async findById(orderId: string): Promise<StoredOrder | undefined> {
    return (await this.findByIds([orderId]))[0];
  }

  async findByIds(orderIds: readonly string[]): Promise<StoredOrder[]> {
    const ids = orderIds.filter((id) => UUID.test(id));
    return ids.length === 0 ? [] : this.#read(READ_BY_IDS, [ids]);
  }

  async findByCustomer(
    customerId: string,
    { limit, after }: { limit: number; after?: OrderCursor | undefined },
  ): Promise<StoredOrder[]> {
    return after
      ? this.#read(READ_PAGE_AFTER, [customerId, limit, after.createdAtMs, after.orderId])
      : this.#read(READ_PAGE, [customerId, limit]);
  }

  /**
   * While all is well a question is enough: a write at each health check would bloat the table. After a failure only a
   * write tells, which is undone: a full disk, a lock or a right that was taken away leaves every question answered.
   */
  async ping(): Promise<void> {
    await this.#withClient(this.#pool, async (client) => {
      const [row] = await query<{ readOnly: boolean }>(client, READ_ONLY, []);
      if (row?.readOnly) throw new StoreUnavailableError('PostgreSQL is read-only');
      if (!this.#doubted) return;
      await tryInsert(client);
      this.#doubted = false;
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#pools.map(async (pool) => pool.ending || (await pool.end())));
  }

  async #read(sql: string, values: unknown[]): Promise<StoredOrder[]> {
    try {
      const read = (client: PoolClient) => query<ReadRow>(client, sql, values);
      return (await this.#withClient(this.#lookUpPool, read)).map(fromRow);
    } catch (error) {
      // Asked for a value that it could not hold: then it holds none.
      if (error instanceof OrderNotStorableError) return [];
      throw error;
    }
  }

  async #withClient<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
    let client: PoolClient;
    try {
      client = await pool.connect();
    } catch (cause) {
      throw unavailable(cause);
    }
    let error: Error | undefined;
    try {
      return await work(client);
    } catch (cause) {
      error = translate(cause);
      // A look-up that takes too long says nothing about saving, and each doubt is a write.
      this.#doubted ||= pool === this.#pool && error instanceof StoreUnavailableError;
      throw error;
    } finally {
      // After a failure of the store the connection is not trusted: it may hang, or lead to a server that was demoted.
      client.release(error instanceof StoreUnavailableError);
    }
  }
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Serialization failure and deadlock: PostgreSQL undid the statement and says to try again. */
const TRANSIENT = new Set(['40001', '40P01']);

async function query<R extends object>(client: PoolClient, sql: string, values: unknown[]): Promise<R[]> {
  for (let attempt = 0; ; attempt++) {
    try {
      return (await client.query<R>(sql, values)).rows;
    } catch (error) {
      const transient = error instanceof DatabaseError && TRANSIENT.has(error.code ?? '');
      if (!transient || attempt + 1 >= MAX_ATTEMPTS) throw error;
      await sleep(backoffMs(attempt, RETRY_BACKOFF));
    }
  }
}

/** Inserts, and undoes it. Where a rule of the database refuses just these rows, the server is well. */
async function tryInsert(client: PoolClient): Promise<void> {
  try {
    await client.query(TRY_INSERT);
  } catch (error) {
    // The connection is given up, and the transaction with it.
    if (translate(error) instanceof StoreUnavailableError) throw error;
  }
  await client.query('ROLLBACK');
}

/** Classes of SQLSTATE that blame the data: data exception, integrity constraint violation, program limit exceeded. */
const ROW_FAULTS = /^(?:22|23|54)/;
const UNIQUE_VIOLATION = '23505';
/** What a trigger raised: the server is well, and other orders go through. */
const RAISED_BY_FUNCTION = /^P0/;

/** By SQLSTATE (PostgreSQL, appendix A). What is not plainly the order's fault is an outage: nothing is rejected. */
function translate(error: unknown): Error {
  if (error instanceof StoreUnavailableError) return error;
  if (!(error instanceof DatabaseError)) return unavailable(error);
  // They quote the row, and errors are logged.
  error.detail = undefined;
  error.where = undefined;
  const { code = '' } = error;
  if (RAISED_BY_FUNCTION.test(code))
    return new OrderRefusedByRuleError(`a trigger in PostgreSQL refused an order (${code})`, {
      cause: error,
    });
  return ROW_FAULTS.test(code) && code !== UNIQUE_VIOLATION
    ? new OrderNotStorableError(`PostgreSQL refused an order (${code})`, { cause: error })
    : unavailable(error);
}

function unavailable(cause: unknown): StoreUnavailableError {
  const code = (cause as { code?: string } | undefined)?.code;
  return new StoreUnavailableError(`PostgreSQL cannot be used${code ? ` (${code})` : ''}`, { cause });
}
