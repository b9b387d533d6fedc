import type { DatabaseSync } from 'node:sqlite';
import type { Client } from 'pg';

/** A step of the schema. What was released is never changed: a new step is added, that old code can live with. */
type Migration = { version: number; sql: string };

const SCHEMA_MIGRATIONS = 'CREATE TABLE schema_migrations (version integer PRIMARY KEY)';

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
    const known =
      db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations'").get() !== undefined;
    if (!known) db.exec(SCHEMA_MIGRATIONS);
    const done = db.prepare('SELECT max(version) AS version FROM schema_migrations').get()?.['version'];
    for (const { version, sql } of migrationsAfter(done, SQLITE_MIGRATIONS)) {
      db.exec(sql);
      db.prepare('INSERT INTO schema_migrations (version) VALUES (?)').run(version);
    }
    db.exec('COMMIT');
  } finally {
    if (db.isTransaction) db.exec('ROLLBACK');
  }
}

/** As {@link migrateSqlite}. Up to date, it needs no right to create anything, nor a server that can write. */
export async function migratePostgres(client: Client): Promise<void> {
  await client.query('BEGIN');
  await client.query('SELECT pg_advisory_xact_lock($1)', [ADVISORY_LOCK]);
  const known = await client.query("SELECT to_regclass('schema_migrations') IS NOT NULL AS known");
  if (!known.rows[0].known) await client.query(SCHEMA_MIGRATIONS);
  const done = await client.query('SELECT max(version) AS version FROM schema_migrations');
  for (const { version, sql } of migrationsAfter(done.rows[0].version, POSTGRES_MIGRATIONS)) {
    await client.query(sql);
    await client.query('INSERT INTO schema_migrations (version) VALUES ($1)', [version]);
  }
  await client.query('COMMIT');
}

function migrationsAfter(done: unknown, migrations: Migration[]): Migration[] {
  return migrations.filter(({ version }) => version > Number(done ?? 0));
}
