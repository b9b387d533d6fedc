import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { type Client, escapeIdentifier } from 'pg';

/** A step of the schema. What was released is never changed: a new step is added, that old code can live with. */
type Migration = { version: number; sql: string };

/**
 * Longer than a start waits for another one that migrates, and for each of its own statements. The pod's probes and the
 * Deployment's deadline let it (k8s/base/consumer).
 */
export const MIGRATION_TIMEOUT_MS = 300_000;
const LOCK_POLL_MS = 500;
const WAIT_LOG_MS = 10_000;

const CREATE_RECORD = 'CREATE TABLE order_pipeline_migrations (version integer PRIMARY KEY)';
const READ_RECORD = 'SELECT max(version) AS version FROM order_pipeline_migrations';
/**
 * Release 0.1.0 kept its record under a name that Rails, golang-migrate and others use, too. Where it is ours it counts as
 * long as there is nothing else, and it stays: without it that release, after a rollback, would begin anew and fail.
 */
const OLD_RECORD = 'version integer';
const READ_OLD_RECORD = 'SELECT max(version) AS version FROM schema_migrations';

const SQLITE_MIGRATIONS: Migration[] = [
  {
    version: 1,
    sql: `
      CREATE TABLE orders (
        order_id TEXT PRIMARY KEY NOT NULL,
        customer_id TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        content_hash TEXT NOT NULL,
        trace_id TEXT NOT NULL,
        data TEXT NOT NULL,
        stored_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
      ) STRICT;
      CREATE INDEX orders_by_customer ON orders (customer_id, created_at_ms DESC, order_id DESC);
      CREATE TABLE write_probe (filler BLOB NOT NULL) STRICT;`,
  },
  {
    version: 2,
    sql: `
      ALTER TABLE orders ADD COLUMN client_id TEXT;
      CREATE INDEX orders_by_client ON orders (client_id, customer_id, created_at_ms DESC, order_id DESC)
        WHERE client_id IS NOT NULL;`,
  },
  {
    version: 3,
    sql: `
      CREATE TABLE order_fates (
        order_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        content_hash TEXT NOT NULL,
        kind TEXT NOT NULL,
        client_id TEXT,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        first_seen_at_ms INTEGER NOT NULL,
        occurred_at_ms INTEGER NOT NULL,
        release TEXT NOT NULL,
        trace_id TEXT NOT NULL,
        PRIMARY KEY (order_id, message_id, content_hash, kind)
      ) STRICT, WITHOUT ROWID;`,
  },
];

const POSTGRES_MIGRATIONS: Migration[] = [
  {
    version: 1,
    sql: `
      CREATE TABLE orders (
        order_id uuid PRIMARY KEY,
        customer_id text NOT NULL,
        created_at_ms bigint NOT NULL,
        content_hash text NOT NULL,
        trace_id text NOT NULL,
        data json NOT NULL,
        stored_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE INDEX orders_by_customer ON orders (customer_id, created_at_ms DESC, order_id DESC);`,
  },
  // Touches no row: it takes as long with a million orders as with one.
  { version: 2, sql: 'ALTER TABLE orders ADD COLUMN client_id text' },
  {
    version: 3,
    sql: `
      CREATE TABLE order_fates (
        order_id uuid NOT NULL,
        message_id text NOT NULL,
        content_hash text NOT NULL,
        kind text NOT NULL,
        client_id text,
        reason text NOT NULL,
        detail text NOT NULL,
        attempts integer NOT NULL,
        failures integer NOT NULL,
        first_seen_at_ms bigint NOT NULL,
        occurred_at_ms bigint NOT NULL,
        release text NOT NULL,
        trace_id text NOT NULL,
        PRIMARY KEY (order_id, message_id, content_hash, kind)
      )`,
  },
];

/** The newest step of this release. */
const KNOWN_VERSION = POSTGRES_MIGRATIONS.at(-1)?.version ?? 0;

/** For look-ups of a client's own orders. Orders of nobody are not in it, and cost nothing. */
const OWNER_INDEX = `orders_by_client ON orders (client_id, customer_id, created_at_ms DESC, order_id DESC)
  WHERE client_id IS NOT NULL`.replace(/\s+/g, ' ');
/**
 * To build an index keeps saves waiting, unless that is done CONCURRENTLY, which takes minutes and may fail half-way:
 * above this size it is left to operators.
 */
const MAX_BYTES_TO_INDEX = 64 * 1024 * 1024;

/** What release 0.1.0 made beside {@link OLD_RECORD}: there may be more, but not less. */
const OLD_SQLITE_COLUMNS = [
  'order_id text',
  'customer_id text',
  'created_at_ms integer',
  'content_hash text',
  'trace_id text',
  'data text',
  'stored_at text',
];
const OLD_POSTGRES_COLUMNS = [
  'order_id uuid',
  'customer_id text',
  'created_at_ms bigint',
  'content_hash text',
  'trace_id text',
  'data json',
  'stored_at timestamp with time zone',
];

/** Held by the replica that migrates; any number that nothing else in the database uses. */
const ADVISORY_LOCK = 7_203_615_004;

/**
 * Brings the schema up to date in one transaction, while others that start wait for it. Newer steps than this code
 * knows are left alone: an older release may run on a newer schema.
 */
export function migrateSqlite(db: DatabaseSync): void {
  db.exec('BEGIN IMMEDIATE');
  try {
    const columnsOf = (table: string) =>
      db
        .prepare('SELECT name, type FROM pragma_table_info(?)')
        .all(table)
        .map(({ name, type }) => `${name} ${type}`.toLowerCase());
    const recorded = columnsOf('order_pipeline_migrations').length > 0;
    const isOld = isOldSchema(columnsOf('schema_migrations'), columnsOf('orders'), OLD_SQLITE_COLUMNS);
    const read = recorded ? READ_RECORD : isOld ? READ_OLD_RECORD : undefined;
    const pending = migrationsAfter(read && db.prepare(read).get()?.['version'], SQLITE_MIGRATIONS);
    if (pending.length > 0 && !recorded) db.exec(CREATE_RECORD);
    for (const { version, sql } of pending) {
      db.exec(sql);
      db.prepare('INSERT INTO order_pipeline_migrations (version) VALUES (?)').run(version);
    }
    db.exec('COMMIT');
  } finally {
    if (db.isTransaction) db.exec('ROLLBACK');
  }
}

type MigrationOptions = {
  logger?: Pick<Logger, 'warn'> | undefined;
  /** A role that the tables shall belong to, whoever signs in (SET ROLE). */
  owner?: string | undefined;
};

/**
 * As {@link migrateSqlite}. Up to date, it waits for nobody and needs no right but to read, nor a server that can write.
 * @throws when the database is not encoded in UTF-8, or another one migrates, or uses the table, for too long
 */
export async function migratePostgres(client: Client, options: MigrationOptions = {}): Promise<void> {
  const { logger } = options;
  await requireUtf8(client);
  const giveUpAt = performance.now() + MIGRATION_TIMEOUT_MS;
  let schema = await schemaIn(client);
  for (; schema.pending.length > 0; schema = await schemaIn(client)) {
    await beginMigration(client, options);
    try {
      await migrateOnce(client);
    } catch (error) {
      await client.query('ROLLBACK');
      const isLocked = (error as { code?: unknown }).code === LOCK_NOT_AVAILABLE;
      if (!isLocked || performance.now() > giveUpAt) throw error;
      logger?.warn(
        {},
        'a long transaction uses the orders: the migration waits for its end, and nobody for it',
      );
      await sleep(LOCK_POLL_MS);
    }
  }
  adviseOnSchema(schema, logger);
}

/**
 * For a role without the right to migrate. Changes nothing.
 * @throws when the schema is older than this release needs
 */
export async function requirePostgresSchema(client: Client, logger?: Pick<Logger, 'warn'>): Promise<void> {
  await requireUtf8(client);
  const schema = await schemaIn(client);
  const { version, pending } = schema;
  if (pending.length > 0)
    throw new Error(
      `the schema is of version ${version}, and this release needs ${KNOWN_VERSION}: run npm run migrate as the owner of the tables, since DATABASE_MIGRATIONS is off`,
    );
  adviseOnSchema(schema, logger);
}

function adviseOnSchema({ version, hasOwnerIndex }: Schema, logger?: Pick<Logger, 'warn'>): void {
  if (version > KNOWN_VERSION)
    logger?.warn(
      { schemaVersion: version, knownVersion: KNOWN_VERSION },
      'the schema is newer than this release knows: a later release migrated it, and this one goes on working with it',
    );
  if (!hasOwnerIndex)
    logger?.warn(
      {
        statements: [
          'DROP INDEX CONCURRENTLY IF EXISTS orders_by_client',
          `CREATE INDEX CONCURRENTLY ${OWNER_INDEX}`,
        ],
      },
      "look-ups of a client's own orders are slow without an index: build it by these statements",
    );
}

async function migrateOnce(client: Client): Promise<void> {
  const { pending, recorded, bytes } = await schemaIn(client);
  if (pending.length > 0 && !recorded) await client.query(CREATE_RECORD);
  for (const { version, sql } of pending) {
    await client.query(sql);
    await client.query('INSERT INTO order_pipeline_migrations (version) VALUES ($1)', [version]);
  }
  if (pending.length > 0 && bytes <= MAX_BYTES_TO_INDEX)
    await client.query(`CREATE INDEX IF NOT EXISTS ${OWNER_INDEX}`);
  await client.query('COMMIT');
}

async function requireUtf8(client: Client): Promise<void> {
  const { rows } = await client.query('SHOW server_encoding');
  const encoding = rows[0].server_encoding;
  if (encoding === 'UTF8') return;
  throw new Error(
    `the database is encoded in ${encoding}, which cannot hold every order; make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`,
  );
}

const READ_SCHEMA = `
  SELECT to_regclass('order_pipeline_migrations') IS NOT NULL AS recorded,
    ${columnsInPostgres('schema_migrations')} AS record, ${columnsInPostgres('orders')} AS orders,
    coalesce(pg_relation_size(to_regclass('orders')), 0)::float8 AS bytes,
    EXISTS (
      SELECT FROM pg_index WHERE indexrelid = to_regclass('orders_by_client') AND indisvalid) AS "hasOwnerIndex"`;

function columnsInPostgres(table: string): string {
  return `ARRAY (
    SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass('${table}') AND attnum > 0 AND NOT attisdropped)`;
}

type Schema = {
  version: number;
  recorded: boolean;
  pending: Migration[];
  bytes: number;
  hasOwnerIndex: boolean;
};

async function schemaIn(client: Client): Promise<Schema> {
  const { rows: schemas } = await client.query(READ_SCHEMA);
  const { recorded, record, orders, bytes, hasOwnerIndex } = schemas[0];
  const isOld = isOldSchema(record, orders, OLD_POSTGRES_COLUMNS);
  const read = recorded ? READ_RECORD : isOld ? READ_OLD_RECORD : undefined;
  const version = Number((read && (await client.query(read)).rows[0].version) ?? 0);
  return { version, recorded, pending: migrationsAfter(version, POSTGRES_MIGRATIONS), bytes, hasOwnerIndex };
}

const LOCK_NOT_AVAILABLE = '55P03';
// A change of the table waits for all who use it, and meanwhile all others for it: so it waits for a moment only.
const BEGIN_MIGRATION = `
  BEGIN ISOLATION LEVEL READ COMMITTED;
  SET LOCAL statement_timeout = ${MIGRATION_TIMEOUT_MS};
  SET LOCAL lock_timeout = 500;
  SET LOCAL synchronous_commit = on`;
const READ_LOCK_HOLDER = `
  SELECT pid, usename AS user, application_name AS application FROM pg_locks JOIN pg_stat_activity USING (pid)
  WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) + objid::bigint = $1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

/** Begins a transaction that holds the lock. Asks for it again and again: a statement that waited could say nothing. */
async function beginMigration(client: Client, { logger, owner }: MigrationOptions): Promise<void> {
  const startedAt = performance.now();
  for (let lastSaidMs = Number.NEGATIVE_INFINITY; ; ) {
    await client.query(BEGIN_MIGRATION);
    const { rows } = await client.query('SELECT pg_try_advisory_xact_lock($1) AS locked', [ADVISORY_LOCK]);
    if (rows[0].locked) {
      if (owner !== undefined) await client.query(`SET LOCAL ROLE ${escapeIdentifier(owner)}`);
      return;
    }
    await client.query('ROLLBACK');
    const holder = (await client.query(READ_LOCK_HOLDER, [ADVISORY_LOCK])).rows[0];
    const waitedMs = performance.now() - startedAt;
    if (waitedMs > MIGRATION_TIMEOUT_MS)
      throw new Error(`another process holds the lock of migrations: ${JSON.stringify(holder)}`);
    if (waitedMs - lastSaidMs >= WAIT_LOG_MS) {
      logger?.warn({ holder, waitedMs }, 'waiting for another process that holds the lock of migrations');
      lastSaidMs = waitedMs;
    }
    await sleep(LOCK_POLL_MS);
  }
}

function isOldSchema(record: string[], orders: string[], columns: string[]): boolean {
  return record.join() === OLD_RECORD && columns.every((column) => orders.includes(column));
}

function migrationsAfter(done: unknown, migrations: Migration[]): Migration[] {
  return migrations.filter(({ version }) => version > Number(done ?? 0));
}
