import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '@orders/shared/runtime/backoff.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import type { SecretObserver } from '@orders/shared/runtime/secret-file.ts';
import { NIL_UUID, UUID } from '@orders/shared/runtime/uuid.ts';
import { type Client, DatabaseError, Pool, type PoolClient } from 'pg';
import {
  OrderLockedError,
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
import { pairResults, swallowedError } from '../domain/save-results.ts';
import { DatabaseLogin } from './database-login.ts';
import { FATE_COLUMNS, type FateRow, fromFateRow, selectFates, toFateRows } from './fate-row.ts';
import { MIGRATION_TIMEOUT_MS, migratePostgres, requirePostgresSchema } from './migrations.ts';
import {
  fromRowWithSize,
  type IdentityRow,
  type OrderRow,
  POSTGRES_STORED_AT,
  type ReadRow,
  toIdentity,
  toRows,
} from './order-row.ts';
import {
  beginSession,
  beginTransaction,
  endTransaction,
  isConnectionLost,
  isInTransaction,
  limitedConnection,
  openClient,
  runStatement,
} from './postgres-connection.ts';

export type PostgresOptions = {
  /** Connections at most, those of look-ups among them. */
  poolSize: number;
  /** Limit of opening a connection, and of waiting for a free one. */
  connectTimeoutMs: number;
  /** Limit of one statement, kept by the server; the client gives up a second later. */
  statementTimeoutMs: number;
  logger?: Pick<Logger, 'warn'>;
  /** `off` changes no schema, and refuses one that is too old. */
  migrations?: 'auto' | 'off';
  /** Role that migrations act as. */
  owner?: string | undefined;
  /** Who hears of the files of user and password. */
  loginFiles?: SecretObserver;
};

/** Connections: all, those without work, and calls that wait for one. */
export type PoolGauges = { total: number; idle: number; waiting: number };

/** The pool closes what was idle for so long: before a firewall forgets the connection and says nothing. */
const IDLE_MS = 10_000;
const LOOK_UP_SHARE = 1 / 4;
const MAX_ATTEMPTS = 5;
const RETRY_BACKOFF = { baseMs: 20, maxMs: 500 };
/** How long a save waits for a row that another transaction holds. Less than any statement timeout, so that it can be told from a slow server. */
const MAX_LOCK_TIMEOUT_MS = 1_000;

// Sorted by id: writers that lock rows in the same order cannot wait for each other in a circle. That the transaction is
// durable, and how long it waits for a row, is part of the statement, where no pooler can lose it; both end with the
// transaction. One row of settings costs half of what two functions in FROM do.
const INSERT = `
  INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, client_id, data)
  SELECT order_id, customer_id, created_at_ms, content_hash, trace_id, client_id, data::json
  FROM (SELECT set_config('synchronous_commit', 'on', true), set_config('lock_timeout', $2, true)) AS settings,
    json_to_recordset($1) AS given (
    order_id uuid, customer_id text, created_at_ms bigint, content_hash text, trace_id text, client_id text,
    data text)
  ORDER BY order_id
  ON CONFLICT (order_id) DO NOTHING
  RETURNING order_id`;
const READ_IDENTITIES =
  'SELECT order_id, content_hash, client_id FROM orders WHERE order_id = ANY ($1::uuid[])';
const COLUMNS = `content_hash, trace_id, client_id, ${POSTGRES_STORED_AT}, order_id, created_at_ms`;
/** Statements that read, of one client's orders or of everybody's; `owner` is a parameter of each. */
const readsOf = (isOwner: (parameter: string) => string) => {
  // They step from row to row until $2 bytes are there: a window over the sizes of all would unpack each order to know
  // its size, however few are returned.
  const page = (start: string) => `
  WITH RECURSIVE step AS (
    (SELECT 1 AS n, octet_length(data::text) AS bytes, data::text, ${COLUMNS}
     FROM orders WHERE customer_id = $1 AND ${isOwner('$4')} ${start} ORDER BY created_at_ms DESC, order_id DESC LIMIT 1)
    UNION ALL
    SELECT n + 1, bytes + octet_length(found.data), found.*
    FROM step CROSS JOIN LATERAL (
      SELECT data::text, ${COLUMNS} FROM orders
      WHERE customer_id = $1 AND ${isOwner('$4')} AND (created_at_ms, order_id) < (step.created_at_ms, step.order_id)
      ORDER BY created_at_ms DESC, order_id DESC LIMIT 1
    ) AS found
    WHERE bytes < $2 AND n < $3)
  SELECT * FROM step ORDER BY n`;
  return {
    byIds: `
  WITH RECURSIVE step AS (
    SELECT 0 AS n, 0 AS bytes, NULL::text AS data, ${COLUMNS} FROM (SELECT) AS start LEFT JOIN orders ON false
    UNION ALL
    SELECT n + 1, bytes + coalesce(octet_length(found.data), 0), found.*
    FROM step LEFT JOIN LATERAL (
      SELECT data::text, ${COLUMNS} FROM orders WHERE order_id = ($1::uuid[])[n + 1] AND ${isOwner('$3')} LIMIT 1
    ) AS found ON true
    WHERE n < cardinality($1::uuid[]) AND bytes < $2)
  SELECT * FROM step WHERE data IS NOT NULL ORDER BY n`,
    page: page(''),
    pageAfter: page('AND (created_at_ms, order_id) < ($5, $6)'),
  };
};
const OWN = readsOf((parameter) => `client_id = ${parameter}`);
const EVERYBODYS = readsOf((parameter) => `${parameter}::text IS NULL`);
const readsFor = (ownedBy: string | undefined) => (ownedBy === undefined ? EVERYBODYS : OWN);
const READ_ANY = `SELECT data::text, ${COLUMNS} FROM orders LIMIT 1`;
// Sorted and durable, as INSERT is.
const INSERT_FATES = `
  INSERT INTO order_fates (${FATE_COLUMNS})
  SELECT ${FATE_COLUMNS}
  FROM (SELECT set_config('synchronous_commit', 'on', true)) AS settings, json_to_recordset($1) AS given (
    order_id uuid, message_id text, content_hash text, kind text, client_id text, reason text, detail text,
    attempts integer, failures integer, first_seen_at_ms bigint, occurred_at_ms bigint, release text, trace_id text)
  ORDER BY order_id, message_id, content_hash, kind
  ON CONFLICT DO NOTHING`;
const READ_FATES = selectFates(
  'order_id = $1',
  '($2::text IS NULL OR client_id = $2)',
  FATE_COLUMNS.replaceAll(/\w+_ms/g, '$&::float8'),
);
/** Of a role that was given its rights before there were fates. */
const RIGHT_MISSING = '42501';
const GRANT_FATES = 'GRANT SELECT, INSERT ON order_fates TO';
const NO_LIMIT_BYTES = 2 ** 31 - 1;
const READ_ONLY = `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS "readOnly"`;

const COMMIT_REHEARSAL = 'SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK TO rehearsal; COMMIT';
const CANCEL = 'SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND query = $2';

/** Connects, and brings the schema up to date. @throws when the server cannot be reached or the schema not be made */
export async function openPostgresOrderRepository(
  url: string,
  options: PostgresOptions,
): Promise<PostgresOrderRepository> {
  const login = new DatabaseLogin(url, options.loginFiles);
  try {
    await prepareDatabase(login, options);
    return new PostgresOrderRepository(login, options);
  } catch (error) {
    login.close();
    throw error;
  }
}

const connectionOf = ({ connectTimeoutMs }: PostgresOptions) => ({
  application_name: 'order-consumer',
  connectionTimeoutMillis: connectTimeoutMs,
  keepAlive: true,
});

/** @throws when the schema cannot be made or is too old, or this code could not work on it with the rights that its role has */
async function prepareDatabase(login: DatabaseLogin, options: PostgresOptions): Promise<void> {
  const client = await openClient(login, connectionOf(options), MIGRATION_TIMEOUT_MS);
  try {
    if (options.migrations === 'off') await requirePostgresSchema(client, options.logger);
    else await migratePostgres(client, options);
    // Planned and not run: a column, a unique index or a right that is missing shows.
    await client.query(`EXPLAIN ${INSERT}`, ['[]', '0']);
    await client.query(`EXPLAIN ${EVERYBODYS.byIds}`, [[], 0, null]);
    await mayRecordFates(client, options.logger);
  } finally {
    await client.end();
  }
}

/** Orders are stored without it, too. */
async function mayRecordFates(client: Client, logger: PostgresOptions['logger']): Promise<void> {
  try {
    await client.query(`EXPLAIN ${INSERT_FATES}`, ['[]']);
    await client.query(`EXPLAIN ${READ_FATES}`, [NIL_UUID, null]);
  } catch (err) {
    if ((err as { code?: unknown }).code !== RIGHT_MISSING) throw err;
    logger?.warn(
      { statement: `${GRANT_FATES} ${client.user}` },
      'what becomes of rejected orders cannot be recorded: the role lacks rights on order_fates',
    );
  }
}

/** Orders in PostgreSQL. Each statement is a transaction of its own. */
export class PostgresOrderRepository implements OrderRepository {
  readonly #login: DatabaseLogin;
  readonly #pool: Pool;
  readonly #lookUpPool: Pool;
  readonly #pools: Pool[];
  readonly #lockTimeoutMs: number;
  /** Connections that were at work before, and idle since. */
  readonly #used = new WeakSet<PoolClient>();

  constructor(login: DatabaseLogin, options: PostgresOptions) {
    const { poolSize, statementTimeoutMs, logger } = options;
    const createPool = (max: number): Pool => {
      const pool = new Pool({
        ...limitedConnection(login.url, statementTimeoutMs),
        ...connectionOf(options),
        Client: login.Client,
        max,
        idleTimeoutMillis: IDLE_MS,
      });
      pool.on('error', (err) => logger?.warn({ err }, 'idle database connection lost'));
      pool.on('connect', (client) => beginSession(client, statementTimeoutMs));
      return pool;
    };
    // A save that waits behind slow look-ups for a connection would be taken for an outage.
    const readers = Math.max(1, Math.floor(poolSize * LOOK_UP_SHARE));
    this.#login = login;
    this.#lockTimeoutMs = Math.min(MAX_LOCK_TIMEOUT_MS, Math.ceil(statementTimeoutMs / 2));
    this.#pool = createPool(Math.max(1, poolSize - readers));
    this.#lookUpPool = poolSize === 1 ? this.#pool : createPool(readers);
    this.#pools = [...new Set([this.#pool, this.#lookUpPool])];
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

  async saveAll<O extends OrderToStore>(orders: readonly O[]): Promise<Saved<O>[]> {
    if (orders.length === 0) return [];
    const answer = await this.#withClient(this.#pool, async (client) => {
      const inserted = new Set<string>();
      const found = new Map<string, OrderIdentity>();
      let rows = toRows(orders);
      // What is neither inserted nor found was deleted meanwhile, or a trigger swallows it: once more tells.
      for (let attempt = 0; attempt < 2 && rows.length > 0; attempt++) {
        for (const id of await this.#insert(client, rows)) inserted.add(id);
        rows = rows.filter(({ order_id }) => !inserted.has(order_id));
        if (rows.length === 0) break;
        for (const [id, identity] of await readIdentities(client, rows)) found.set(id, identity);
        rows = rows.filter(({ order_id }) => !found.has(order_id));
      }
      return { inserted, found };
    });
    return pairResults(orders, answer);
  }

  /**
   * The rows are undone to a savepoint, which needs no right to delete. The transaction has written all the same, so
   * that its COMMIT waits as that of a save: one that only reads would not.
   */
  async rehearse(orders: readonly OrderToStore[]): Promise<void> {
    const rows = toRows(orders);
    let pid: number | undefined;
    try {
      const rehearseOnce = async (client: PoolClient) => {
        await beginTransaction(client);
        try {
          pid = (await query<{ pid: number }>(client, 'SELECT pg_backend_pid() AS pid', []))[0]?.pid;
          await client.query('SAVEPOINT rehearsal');
          const inserted = await this.#insert(client, rows);
          const stored = await readIdentities(client, rows);
          if (Math.min(inserted.size, stored.size) < rows.length) throw swallowedError();
          await endTransaction(client, COMMIT_REHEARSAL);
        } catch (error) {
          if (isUndone(error) || translate(error) instanceof OrderRefusedError)
            await endTransaction(client, 'ROLLBACK');
          throw error;
        }
      };
      await this.#withClient(this.#pool, (client) => retryUndone(() => rehearseOnce(client)));
    } catch (error) {
      if (pid !== undefined && error instanceof StoreUnavailableError) await this.#cancel(pid);
      throw error;
    }
  }

  async findById(orderId: string, whose: OwnedBy = {}): Promise<StoredOrder | undefined> {
    return (await this.findByIds([orderId], whose))[0];
  }

  async findByIds(
    orderIds: readonly string[],
    { maxBytes = NO_LIMIT_BYTES, ownedBy }: ReadLimit & OwnedBy = {},
  ): Promise<FoundOrder[]> {
    const ids = new Set(orderIds.filter((id) => UUID.test(id)).map((id) => id.toLowerCase()));
    return ids.size === 0 ? [] : this.#read(readsFor(ownedBy).byIds, [[...ids], maxBytes, ownedBy ?? null]);
  }

  async findAny(): Promise<StoredOrder | undefined> {
    return (await this.#read(READ_ANY, []))[0];
  }

  async findByCustomer(
    customerId: string,
    {
      limit,
      after,
      maxBytes = NO_LIMIT_BYTES,
      ownedBy,
    }: ReadLimit & OwnedBy & { limit: number; after?: OrderCursor | undefined },
  ): Promise<FoundOrder[]> {
    const values = [customerId, maxBytes, limit, ownedBy ?? null];
    const { page, pageAfter } = readsFor(ownedBy);
    return after
      ? this.#read(pageAfter, [...values, after.createdAtMs, after.orderId])
      : this.#read(page, values);
  }

  /** Over the connections of look-ups: saves do not wait for it. */
  async recordFates(fates: readonly OrderFate[]): Promise<void> {
    const rows = toFateRows(fates);
    if (rows.length === 0) return;
    await this.#withClient(this.#lookUpPool, (client) => query(client, INSERT_FATES, [JSON.stringify(rows)]));
  }

  async findFates(orderId: string, { ownedBy }: OwnedBy = {}): Promise<OrderFate[]> {
    if (!UUID.test(orderId)) return [];
    try {
      const read = (client: PoolClient) => query<FateRow>(client, READ_FATES, [orderId, ownedBy ?? null]);
      return (await this.#withClient(this.#lookUpPool, read)).map(fromFateRow).reverse();
    } catch (error) {
      // Of a role without that right no fate was recorded, and the start said so.
      if (error instanceof OrderRefusedError && error.refusal === RIGHT_MISSING) return [];
      throw error instanceof OrderRefusedError ? unavailable(error.cause) : error;
    }
  }

  async ping(): Promise<void> {
    await this.#withClient(this.#pool, async (client) => {
      const [row] = await query<{ readOnly: boolean }>(client, READ_ONLY, []);
      if (row?.readOnly) throw new StoreUnavailableError('PostgreSQL is read-only');
    });
  }

  async close(): Promise<void> {
    this.#login.close();
    await Promise.all(this.#pools.map(async (pool) => pool.ending || (await pool.end())));
  }

  /** The ids that are new. */
  async #insert(client: PoolClient, rows: readonly OrderRow[]): Promise<Set<string>> {
    const values = [JSON.stringify(rows), `${this.#lockTimeoutMs}ms`];
    return new Set(
      (await query<{ order_id: string }>(client, INSERT, values)).map(({ order_id }) => order_id),
    );
  }

  /** A COMMIT that waits for a standby goes on when its client is gone: each trial would take a connection for good. */
  async #cancel(pid: number): Promise<void> {
    const cancel = (client: PoolClient) => query(client, CANCEL, [pid, COMMIT_REHEARSAL]);
    await this.#withClient(this.#lookUpPool, cancel).catch(() => {});
  }

  async #read(sql: string, values: unknown[]): Promise<FoundOrder[]> {
    try {
      const read = (client: PoolClient) => query<ReadRow>(client, sql, values);
      return (await this.#withClient(this.#lookUpPool, read)).map(fromRowWithSize);
    } catch (error) {
      // Asked for a value that it could not hold: then it holds none.
      if (error instanceof OrderNotStorableError) return [];
      throw error instanceof OrderRefusedError ? unavailable(error.cause) : error;
    }
  }

  /**
   * A connection may have died while it was idle, and only its next use shows it: no outage. The work is done again, which
   * each call of the port allows, until a new connection fails as well.
   */
  async #withClient<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
    for (;;) {
      let diedIdle = false;
      const observed = async (client: PoolClient): Promise<T> => {
        const used = this.#used.has(client);
        this.#used.add(client);
        try {
          return await work(client);
        } catch (error) {
          diedIdle = used && isConnectionLost(client, error);
          throw error;
        }
      };
      try {
        return await this.#withOneClient(pool, observed);
      } catch (error) {
        if (!diedIdle) throw error;
      }
    }
  }

  async #withOneClient<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
    let client: PoolClient;
    try {
      client = await this.#login.connect(() => pool.connect());
    } catch (cause) {
      throw unavailable(cause);
    }
    let error: Error | undefined;
    try {
      return await work(client);
    } catch (cause) {
      error = translate(cause);
      throw error;
    } finally {
      // After a failure of the store the connection is not trusted: it may hang, or lead to a server that was demoted.
      client.release(error instanceof StoreUnavailableError);
    }
  }
}

/** Serialization failure and deadlock: PostgreSQL undid the transaction and says to try again. */
const UNDONE = new Set(['40001', '40P01']);
const isUndone = (error: unknown) => error instanceof DatabaseError && UNDONE.has(error.code ?? '');

async function retryUndone<T>(transaction: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await transaction();
    } catch (error) {
      if (!isUndone(error) || attempt + 1 >= MAX_ATTEMPTS) throw error;
      await sleep(backoffMs(attempt, RETRY_BACKOFF));
    }
  }
}

/** What was undone within a transaction is not tried again here: that is for who began it. */
async function query<R extends object>(client: PoolClient, sql: string, values: unknown[]): Promise<R[]> {
  const run = () => runStatement<R>(client, sql, values);
  return (await (isInTransaction(client) ? run() : retryUndone(run))).rows;
}

/** An insert waits for transactions that hold its ids, but its snapshot is older than their commits: only a new statement sees them. */
async function readIdentities(
  client: PoolClient,
  rows: readonly OrderRow[],
): Promise<Map<string, OrderIdentity>> {
  const ids = rows.map(({ order_id }) => order_id);
  const read = await query<IdentityRow & { order_id: string }>(client, READ_IDENTITIES, [ids]);
  return new Map(read.map(({ order_id, ...identity }) => [order_id, toIdentity(identity)]));
}

/**
 * Classes of SQLSTATE (PostgreSQL, appendix A) by which the server itself cannot work: connection, state of the
 * transaction (as read-only), transaction undone again and again, resources, operator intervention (time-outs, shutdown),
 * system error.
 */
const OUTAGE = /^(?:08|25|40|53|57|58)/;
const LOCK_NOT_AVAILABLE = '55P03';
/** Blames the data: data exception, integrity constraint violation, program limit exceeded. */
const ROW_FAULT = /^(?:22|23|54)/;
/** Of an index that is not ours, or is being built: it may pass. */
const UNIQUE_VIOLATION = '23505';

/**
 * What is not plainly an outage is a refusal, whatever its code: triggers choose their own. Whether it would meet any
 * order, as that of a right that was taken away does, a trial tells.
 */
function translate(error: unknown): Error {
  if (error instanceof StoreUnavailableError || error instanceof OrderRefusedError) return error;
  if (!(error instanceof DatabaseError)) return unavailable(error);
  const { code = '' } = error;
  withholdRow(error);
  if (OUTAGE.test(code)) return unavailable(error);
  const about = { cause: error, refusal: code };
  if (code === LOCK_NOT_AVAILABLE)
    return new OrderLockedError(`another transaction holds an order (${code})`, about);
  return ROW_FAULT.test(code) && code !== UNIQUE_VIOLATION
    ? new OrderNotStorableError(`PostgreSQL refused an order (${code})`, about)
    : new OrderRefusedByRuleError(`a rule in PostgreSQL refused an order (${code})`, about);
}

/** What a trigger says, and what is wrong with data. https://www.postgresql.org/docs/current/errcodes-appendix.html */
const QUOTES_ROW = /^(?:22|P0)/;
const ROUTINE_OF_TRIGGERS = 'exec_stmt_raise';
const WITHHELD = "its text may quote the order; PostgreSQL's log has it";

/** Errors are logged, and orders must not be. */
function withholdRow(error: DatabaseError): void {
  error.detail = undefined;
  error.where = undefined;
  if (!QUOTES_ROW.test(error.code ?? '') && error.routine !== ROUTINE_OF_TRIGGERS) return;
  if (error.stack) error.stack = error.stack.replace(error.message, () => WITHHELD);
  error.message = WITHHELD;
}

function unavailable(cause: unknown): StoreUnavailableError {
  const code = (cause as { code?: string } | undefined)?.code;
  return new StoreUnavailableError(`PostgreSQL cannot be used${code ? ` (${code})` : ''}`, { cause });
}
