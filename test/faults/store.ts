import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PgBouncer } from '../../dev/pgbouncer.ts';
import type { PostgresServer } from '../../dev/postgres-server.ts';
import type { FoundOrder, RecordedFate } from './invariants.ts';
import { TAG } from './workload.ts';

/**
 * How the database refuses an order: by a trigger that fails as usual, or with a SQLSTATE of its own (SQLite: without
 * undoing the statement), or says nothing and leaves the row out; or by an index of its own.
 */
export const REFUSALS = [
  'trigger',
  'trigger with its own code',
  'trigger in silence',
  'unique index',
] as const;
export type Refusal = (typeof REFUSALS)[number];

/** A row that was stored long ago. */
export type OldRow = { order: Readonly<Record<string, unknown>>; contentHash: string };

/** The consumers' store, seen from outside: not through the product's code. */
export type Store = {
  kind: 'sqlite' | 'postgres';
  url: string;
  /** Everything in the table of orders. */
  rows: () => Promise<FoundOrder[]>;
  /** Everything in the table of fates. */
  fates: () => Promise<RecordedFate[]>;
  /** Has it refuse the orders of these customers. */
  refuse: (customerIds: readonly string[], how: Refusal) => Promise<void>;
  /** Lets the orders of that customer through. @throws while the store is down */
  permit: (customerId: string) => Promise<void>;
  /** Writes orders that were stored at that time. @throws while the store is down */
  plant: (rows: readonly OldRow[], storedAt: Date) => Promise<void>;
  close: () => Promise<void>;
};

export type SqliteStore = Store & { kind: 'sqlite'; open: () => DatabaseSync };
export type PostgresStore = Store & {
  kind: 'postgres';
  server: PostgresServer;
  database: string;
  pooler: PgBouncer | undefined;
};

const columnsOf = ({ order, contentHash }: OldRow) => ({
  order_id: String(order['orderId']),
  customer_id: String(order['customerId']),
  created_at_ms: Date.parse(String(order['createdAt'])),
  content_hash: contentHash,
  trace_id: '0'.repeat(32),
  data: JSON.stringify(order),
});

/** Stands in the way of an order in a unique index, and is no order. */
const OBSTACLE = '{"obstacle":true}';

export function openSqliteStore(folder: string): SqliteStore {
  const file = path.join(folder, 'orders.db');
  const open = (timeout = 5_000) => new DatabaseSync(file, { timeout });
  const using = <T>(db: DatabaseSync, work: (db: DatabaseSync) => T): T => {
    try {
      return work(db);
    } finally {
      db.close();
    }
  };
  return {
    kind: 'sqlite',
    url: `sqlite:${file}`,
    open,
    rows: async () => {
      const rows = using(open(), (db) =>
        db.prepare('SELECT order_id, client_id, data FROM orders WHERE data <> ?').all(OBSTACLE),
      );
      return rows.map((row) =>
        toFound(String(row['order_id']), row['client_id'] as string | null, String(row['data'])),
      );
    },
    fates: async () =>
      using(
        open(),
        (db) =>
          db
            .prepare('SELECT kind, order_id AS orderId, message_id AS messageId, reason FROM order_fates')
            .all() as RecordedFate[],
      ),
    refuse: async (customerIds, how) =>
      using(open(), (db) => {
        db.exec(SQLITE_REFUSAL[how]);
        for (const each of customerIds) db.prepare('INSERT INTO refused VALUES (?)').run(each);
        if (how === 'unique index')
          db.exec(`
            INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
            SELECT lower(hex(randomblob(16))), customer_id, 0, '', '', '${OBSTACLE}' FROM refused`);
      }),
    // Without a wait, which would hold up the fault that has locked the file.
    permit: async (customerId) =>
      using(open(0), (db) => {
        db.prepare('DELETE FROM refused WHERE customer_id = ?').run(customerId);
        db.prepare('DELETE FROM orders WHERE customer_id = ? AND data = ?').run(customerId, OBSTACLE);
      }),
    plant: async (rows, storedAt) =>
      using(open(), (db) => {
        const insert = db.prepare(`
          INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data, stored_at)
          VALUES (?, ?, ?, ?, ?, ?, ?)`);
        db.exec('BEGIN IMMEDIATE');
        for (const row of rows) insert.run(...Object.values(columnsOf(row)), storedAt.toISOString());
        db.exec('COMMIT');
      }),
    close: async () => {},
  };
}

const SQLITE_TRIGGER = (act: string) => `
  CREATE TABLE refused (customer_id TEXT PRIMARY KEY) STRICT;
  CREATE TRIGGER refused BEFORE INSERT ON orders
  WHEN EXISTS (SELECT 1 FROM refused WHERE customer_id = NEW.customer_id)
  BEGIN SELECT ${act}; END`;
const UNIQUE_INDEX = `CREATE UNIQUE INDEX one_refused ON orders (customer_id) WHERE customer_id LIKE 'refused-%'`;
const SQLITE_REFUSAL: Record<Refusal, string> = {
  trigger: SQLITE_TRIGGER("RAISE(ABORT, 'refused by the campaign')"),
  'trigger with its own code': SQLITE_TRIGGER("RAISE(FAIL, 'refused by the campaign')"),
  'trigger in silence': SQLITE_TRIGGER('RAISE(IGNORE)'),
  'unique index': `CREATE TABLE refused (customer_id TEXT PRIMARY KEY) STRICT; ${UNIQUE_INDEX}`,
};

const POSTGRES_TRIGGER = (act: string) => `
  CREATE TABLE refused (customer_id text PRIMARY KEY);
  CREATE FUNCTION refuse_order() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF EXISTS (SELECT 1 FROM refused WHERE customer_id = NEW.customer_id) THEN ${act}; END IF;
    RETURN NEW;
  END $$;
  CREATE TRIGGER refused BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse_order()`;
const POSTGRES_REFUSAL: Record<Refusal, string> = {
  trigger: POSTGRES_TRIGGER("RAISE EXCEPTION 'refused by the campaign'"),
  'trigger with its own code': POSTGRES_TRIGGER("RAISE EXCEPTION 'refused' USING ERRCODE = 'CR001'"),
  'trigger in silence': POSTGRES_TRIGGER('RETURN NULL'),
  'unique index': `CREATE TABLE refused (customer_id text PRIMARY KEY); ${UNIQUE_INDEX}`,
};

/** @param pgbouncer where its program is, when clients are to go through one in transaction mode */
export async function openPostgresStore(server: PostgresServer, pgbouncer?: string): Promise<PostgresStore> {
  const database = `trial_${randomUUID().replaceAll('-', '')}`;
  const direct = await server.createDatabase(database);
  const pooler =
    pgbouncer === undefined
      ? undefined
      : await PgBouncer.start(pgbouncer, { url: direct, poolMode: 'transaction' });
  const store: PostgresStore = {
    kind: 'postgres',
    url: pooler?.through(direct) ?? direct,
    server,
    database,
    pooler,
    rows: async () => {
      const lines = await server.sql(
        `SELECT json_build_object('orderId', order_id, 'clientId', client_id, 'data', data::text) FROM orders
         WHERE data::text <> '${OBSTACLE}'`,
        database,
      );
      return lines.map((line) => {
        const { orderId, clientId, data } = JSON.parse(line) as Record<'orderId' | 'data', string> & {
          clientId: string | null;
        };
        return toFound(orderId, clientId, data);
      });
    },
    fates: async () => {
      const lines = await server.sql(
        `SELECT json_build_object('kind', kind, 'orderId', order_id, 'messageId', message_id, 'reason', reason)
         FROM order_fates`,
        database,
      );
      return lines.map((line) => JSON.parse(line) as RecordedFate);
    },
    refuse: async (customerIds, how) => {
      const values = customerIds.map((each) => `('${each}')`).join(', ');
      await server.sql(
        `${POSTGRES_REFUSAL[how]}; INSERT INTO refused VALUES ${values};
         INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
         SELECT gen_random_uuid(), customer_id, 0, '', '', '${OBSTACLE}' FROM refused
         WHERE ${how === 'unique index'}`,
        database,
      );
    },
    permit: async (customerId) => {
      await server.sql(
        `DELETE FROM refused WHERE customer_id = '${customerId}';
         DELETE FROM orders WHERE customer_id = '${customerId}' AND data::text = '${OBSTACLE}'`,
        database,
      );
    },
    plant: async (rows, storedAt) => {
      // An argument of a program has 128 KiB at most.
      if (rows.length > PLANTED_AT_ONCE) {
        await store.plant(rows.slice(0, PLANTED_AT_ONCE), storedAt);
        return store.plant(rows.slice(PLANTED_AT_ONCE), storedAt);
      }
      const values = JSON.stringify(rows.map(columnsOf)).replaceAll("'", "''");
      await server.sql(
        `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data, stored_at)
         SELECT order_id, customer_id, created_at_ms, content_hash, trace_id, data::json, '${storedAt.toISOString()}'
         FROM json_to_recordset('${values}') AS given (
           order_id uuid, customer_id text, created_at_ms bigint, content_hash text, trace_id text, data text)`,
        database,
      );
    },
    close: async () => {
      await pooler?.stop();
      await server.dropDatabase(database);
    },
  };
  return store;
}

const PLANTED_AT_ONCE = 50;

function toFound(orderId: string, clientId: string | null, data: string): FoundOrder {
  return { ...found(JSON.parse(data) as Record<string, unknown>, orderId), clientId: clientId ?? undefined };
}

/** An order that was found somewhere, traced back to its submission. */
export function found(order: Record<string, unknown>, orderId = String(order['orderId'])): FoundOrder {
  const metadata = order['metadata'] as Record<string, string> | undefined;
  return { tag: metadata?.[TAG], orderId, order };
}
