import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { FoundOrder } from './invariants.ts';
import type { PostgresServer } from './postgres-server.ts';
import { TAG } from './workload.ts';

/** The consumers' store, seen from outside: not through the product's code. */
export type Store = {
  kind: 'sqlite' | 'postgres';
  url: string;
  /** Everything in the table of orders. */
  rows: () => Promise<FoundOrder[]>;
  close: () => Promise<void>;
};

export type SqliteStore = Store & { kind: 'sqlite'; open: () => DatabaseSync };
export type PostgresStore = Store & { kind: 'postgres'; server: PostgresServer; database: string };

export function openSqliteStore(folder: string): SqliteStore {
  const file = path.join(folder, 'orders.db');
  const open = () => new DatabaseSync(file, { timeout: 5_000 });
  return {
    kind: 'sqlite',
    url: `sqlite:${file}`,
    open,
    rows: async () => {
      const db = open();
      try {
        const rows = db.prepare('SELECT order_id, data FROM orders').all();
        return rows.map((row) => toFound(String(row['order_id']), String(row['data'])));
      } finally {
        db.close();
      }
    },
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
