import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OrderRequest } from '@orders/shared/order/order.ts';
import type { Fault, FaultScene } from './fault.ts';
import type { PostgresStore, SqliteStore } from './store.ts';
import { envelope, sendMessages } from './workload.ts';

/** Where the consumers' disk ends, in pages of 4 KiB, when it is to be filled. */
export const PAGE_LIMIT = 400;
/** Stored orders that are sent again while another transaction has their rows. */
const DUPLICATES = 20;

const LOCK_TIMEOUT_MS = 30_000;

export const STORE_FAULTS: readonly Fault[] = [
  { name: 'database locked', needs: { store: 'sqlite' }, run: lockSqlite },
  { name: 'disk full', needs: { store: 'sqlite', limitedDisk: true }, run: fillDisk },
  ofPostgres('PostgreSQL killed', killPostgres),
  ofPostgres('PostgreSQL in recovery', recoverPostgres),
  ofPostgres('PostgreSQL slow', slowPostgres),
  ofPostgres('PostgreSQL out of connections', exhaustPostgres),
  ofPostgres('PostgreSQL full', fillPostgres),
  ofPostgres('PostgreSQL read-only', demotePostgres),
  ofPostgres('PostgreSQL defaults turned', turnDefaults),
  ofPostgres('COMMIT hangs', hangCommits),
  ofPostgres('right to read taken away', (scene) => revoke(scene, 'SELECT')),
  ofPostgres('right to write taken away', (scene) => revoke(scene, 'INSERT')),
  ofPostgres('column added', addColumn),
  ofPostgres('rows held by another transaction', holdRows),
  { name: 'PgBouncer, defaults turned', needs: { store: 'postgres', pooler: true }, run: turnDefaults },
  { name: 'PgBouncer, PostgreSQL killed', needs: { store: 'postgres', pooler: true }, run: killPostgres },
  { name: 'PgBouncer killed', needs: { store: 'postgres', pooler: true }, run: killPooler },
];

function ofPostgres(name: string, run: Fault['run']): Fault {
  return { name, needs: { store: 'postgres' }, run };
}

export async function lockSqlite({ random, store, note }: FaultScene): Promise<number> {
  const db = (store as SqliteStore).open();
  try {
    await execUnlocked(db, 'BEGIN IMMEDIATE');
    note('database locked');
    await sleep(random.between(1_000, 3_000));
    db.exec('ROLLBACK');
    note('database unlocked');
    return 1;
  } finally {
    db.close();
  }
}

/**
 * Waits for the lock without keeping this process: who holds it may be stalled, until this process lets it go on.
 * @throws what SQLite says, after {@link LOCK_TIMEOUT_MS}
 */
async function execUnlocked(db: DatabaseSync, sql: string): Promise<void> {
  db.exec('PRAGMA busy_timeout = 0');
  for (const deadline = performance.now() + LOCK_TIMEOUT_MS; ; await sleep(20)) {
    try {
      return db.exec(sql);
    } catch (error) {
      if (!/database is locked/.test(String(error)) || performance.now() > deadline) throw error;
    }
  }
}
/** Fills the file up to the bound that `limited-disk.ts` gives the consumers, and empties it again. */
async function fillDisk({ random, store, note }: FaultScene): Promise<number> {
  const db = (store as SqliteStore).open();
  try {
    const [size] = db.prepare('PRAGMA page_count').all();
    const bytes = Math.max(0, PAGE_LIMIT - Number(size?.['page_count'])) * 4_096;
    await execUnlocked(
      db,
      `CREATE TABLE IF NOT EXISTS filler (filler BLOB) STRICT; INSERT INTO filler (filler) VALUES (zeroblob(${bytes}))`,
    );
    note('disk full');
    await sleep(random.between(1_000, 3_000));
    await execUnlocked(db, 'DROP TABLE filler');
    note('disk has room again');
    return 1;
  } finally {
    db.close();
  }
}

async function killPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server } = store as PostgresStore;
  await server.kill();
  note('PostgreSQL killed');
  await sleep(random.between(300, 2_500));
  await server.up();
  note('PostgreSQL up');
  return 1;
}

async function recoverPostgres({ store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const struck = await server.crashBackend(database);
  note(struck > 0 ? 'PostgreSQL recovers from the crash of a backend' : 'no backend to crash');
  await server.up();
  note('PostgreSQL up');
  return struck;
}

export async function slowPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const seconds = random.between(1, 3).toFixed(2);
  note(`PostgreSQL answers after ${seconds} s`);
  await server.sql(
    `BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(${seconds}); ROLLBACK`,
    database,
  );
  note('PostgreSQL answers at once');
  return 1;
}

async function exhaustPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const release = await server.takeConnections(database);
  note('PostgreSQL out of connections');
  await sleep(random.between(1_000, 3_000));
  await release();
  note('PostgreSQL has connections again');
  return 1;
}

/** A server whose disk is full answers each insert with SQLSTATE 53100. */
async function fillPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  await server.sql(
    `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
     CREATE TRIGGER full_disk BEFORE INSERT ON orders EXECUTE FUNCTION full_disk()`,
    database,
  );
  note('PostgreSQL full');
  await sleep(random.between(1_000, 3_000));
  await server.sql('DROP FUNCTION full_disk() CASCADE', database);
  note('PostgreSQL has room again');
  return 1;
}

/** As after a failover: connections are cut, and who connects finds a server that takes no writes. */
async function demotePostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  await server.sql(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
  await server.disconnect(database);
  note('PostgreSQL read-only');
  await sleep(random.between(1_000, 3_000));
  await server.sql(`ALTER DATABASE ${database} RESET default_transaction_read_only`);
  note('PostgreSQL takes writes again');
  return 1;
}

/** What the guarantees rest on, and how times are written, is set otherwise for the database; and then it crashes. */
async function turnDefaults({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const turned = ["synchronous_commit = 'off'", "datestyle = 'SQL, DMY'", "TimeZone = 'Asia/Seoul'"];
  turned.push(`default_transaction_isolation = '${random.pick(['serializable', 'repeatable read'])}'`);
  for (const setting of turned) await server.sql(`ALTER DATABASE ${database} SET ${setting}`);
  await server.disconnect(database);
  note(`PostgreSQL: ${turned.join(', ')}`);
  await sleep(random.between(1_000, 2_500));
  await server.kill();
  note('PostgreSQL killed');
  await sleep(random.between(100, 500));
  await server.up();
  note('PostgreSQL up');
  return 1;
}

/** As when a synchronous standby is gone: all is done but for the last word. */
async function hangCommits({ random, store, note }: FaultScene): Promise<number> {
  const { server } = store as PostgresStore;
  await server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
  await server.sql('SELECT pg_reload_conf()');
  note('COMMIT hangs');
  await sleep(random.between(2_000, 6_000));
  await server.sql('ALTER SYSTEM RESET synchronous_standby_names');
  await server.sql('SELECT pg_reload_conf()');
  note('COMMIT works again');
  return 1;
}

async function revoke({ random, store, note }: FaultScene, right: 'SELECT' | 'INSERT'): Promise<number> {
  const { server, database } = store as PostgresStore;
  await server.sql(`REVOKE ${right} ON orders FROM orders`, database);
  note(`${right} revoked`);
  await sleep(random.between(2_000, 6_000));
  await server.sql(`GRANT ${right} ON orders TO orders`, database);
  note(`${right} granted again`);
  return 1;
}

/** One that no release knows, and that each row must have. */
async function addColumn({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  await server.sql(
    `ALTER TABLE orders ADD COLUMN region text NOT NULL DEFAULT '';
     ALTER TABLE orders ALTER COLUMN region DROP DEFAULT`,
    database,
  );
  note('column added that must be filled');
  await sleep(random.between(2_000, 6_000));
  await server.sql('ALTER TABLE orders DROP COLUMN region', database);
  note('column dropped');
  return 1;
}

/** Stored orders come again while a transaction that deletes them is open; it is undone. */
async function holdRows({ random, store, sqs, queues, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const rows = random.shuffle(await store.rows()).slice(0, DUPLICATES);
  const seconds = random.between(1, 4).toFixed(2);
  const held = server.sql(`BEGIN; DELETE FROM orders; SELECT pg_sleep(${seconds}); ROLLBACK`, database);
  note(`all rows held for ${seconds} s`);
  const messages = rows.map(({ order: { orderId, ...order } }) =>
    envelope(order as OrderRequest, undefined, String(orderId)),
  );
  await sendMessages(sqs, queues.queueUrl, await Promise.all(messages));
  await held;
  note('rows free again');
  return rows.length;
}

async function killPooler({ random, store, note }: FaultScene): Promise<number> {
  const { pooler } = store as PostgresStore;
  await pooler?.kill();
  note('PgBouncer killed');
  await sleep(random.between(300, 2_500));
  await pooler?.up();
  note('PgBouncer up');
  return 1;
}
