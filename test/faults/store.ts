import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { PostgresServer } from '../../dev/postgres-server.ts';
import type { FoundOrder } from './invariants.ts';
import { TAG } from './workload.ts';

/** The consumers' store, seen from outside: not through the product's code. */
export type Store = {
  kind: 'sqlite' | 'postgres';
  url: string;
  /** Everything in the table of orders. */
  rows: () => Promise<FoundOrder[]>;
  /** Plants a trigger that refuses the orders of these customers. */
  refuse: (customerIds: readonly string[]) => Promise<void>;
  /** Lets the orders of that customer through. @throws while the store is down */
  permit: (customerId: string) => Promise<void>;
  close: () => Promise<void>;
};

export type SqliteStore = Store & { kind: 'sqlite'; open: () => DatabaseSync };
export type PostgresStore = Store & { kind: 'postgres'; server: PostgresServer; database: string };

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
      const rows = using(open(), (db) => db.prepare('SELECT order_id, data FROM orders').all());
      return rows.map((row) => toFound(String(row['order_id']), String(row['data'])));
    },
    refuse: async (customerIds) =>
      using(open(), (db) => {
        db.exec(`
          CREATE TABLE refused (customer_id TEXT PRIMARY KEY) STRICT;
          CREATE TRIGGER refused BEFORE INSERT ON orders
          WHEN EXISTS (SELECT 1 FROM refused WHERE customer_id = NEW.customer_id)
          BEGIN SELECT RAISE(ABORT, 'refused by the campaign'); END`);
        for (const each of customerIds) db.prepare('INSERT INTO refused VALUES (?)').run(each);
      }),
    // Without a wait, which would hold up the fault that has locked the file.
    permit: async (customerId) =>
      using(open(0), (db) => {
        db.prepare('DELETE FROM refused WHERE customer_id = ?').run(customerId);
      }),
    close: async () => {},
  };
}

export async function openPostgresStore(server: PostgresServer): Promise<PostgresStore> {
  const database = `trial_${randomUUID().replaceAll('-', '')}`;
  const url = await server.createDatabase(database);
  return {
    kind: 'postgres',
    url,
    server,
    database,
    rows: async () => {
      const lines = await server.sql(
        `SELECT json_build_object('orderId', order_id, 'data', data::text) FROM orders`,
        database,
      );
      return lines.map((line) => {
        const { orderId, data } = JSON.parse(line) as { orderId: string; data: string };
        return toFound(orderId, data);
      });
    },
    refuse: async (customerIds) => {
      const values = customerIds.map((each) => `('${each}')`).join(', ');
      await server.sql(
        `CREATE TABLE refused (customer_id text PRIMARY KEY);
         INSERT INTO refused VALUES ${values};
         CREATE FUNCTION refuse_order() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
           IF EXISTS (SELECT 1 FROM refused WHERE customer_id = NEW.customer_id) THEN
             RAISE EXCEPTION 'refused by the campaign';
           END IF;
           RETURN NEW;
         END $$;
         CREATE TRIGGER refused BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse_order()`,
        database,
      );
    },
    permit: async (customerId) => {
      await server.sql(`DELETE FROM refused WHERE customer_id = '${customerId}'`, database);
    },
    close: () => server.dropDatabase(database),
  };
}

function toFound(orderId: string, data: string): FoundOrder {
  return found(JSON.parse(data) as Record<string, unknown>, orderId);
}

/** An order that was found somewhere, traced back to its submission. */
export function found(order: Record<string, unknown>, orderId = String(order['orderId'])): FoundOrder {
  const metadata = order['metadata'] as Record<string, string> | undefined;
  return { tag: metadata?.[TAG], orderId, order };
}
