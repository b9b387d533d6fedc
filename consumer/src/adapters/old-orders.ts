import { DatabaseSync } from 'node:sqlite';
import { Client } from 'pg';
import type { StoredOrder } from '../domain/order-repository.ts';
import { openDatabase } from './open-order-repository.ts';
import { fromRow, type ReadRow } from './order-row.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 60_000;

/** The orders that were stored before some moment, for archiving and removing them. */
export type OldOrders = {
  /** All of them in one pass, at most `limit` a page. What is removed meanwhile does not disturb it. */
  pages: (limit: number) => AsyncGenerator<StoredOrder[]>;
  /** In one transaction. @returns how many there were */
  remove: (orderIds: readonly string[]) => Promise<number>;
  close: () => Promise<void>;
};

/**
 * Over connections of its own. The schema has no index by time, since every insert would pay for it: a pass reads the
 * table once, from its oldest end.
 * @throws {StartupError} when the database cannot be opened
 */
export function openOldOrders(databaseUrl: string, before: Date): Promise<OldOrders> {
  return openDatabase<OldOrders>(databaseUrl, {
    sqlite: async (path) => openSqlite(path, before),
    postgres: (url) => openPostgres(url, before),
  });
}

function openSqlite(path: string, before: Date): OldOrders {
  const db = new DatabaseSync(path, { timeout: CONNECT_TIMEOUT_MS });
  // Rows are numbered in the order of their insertion.
  const read = db.prepare(
    `SELECT rowid, data, content_hash, trace_id, stored_at FROM orders WHERE rowid > ? AND stored_at < ? ORDER BY rowid LIMIT ?`,
  );
  const remove = db.prepare('DELETE FROM orders WHERE order_id IN (SELECT value FROM json_each(?))');
  return {
    async *pages(limit) {
      for (let last = 0; ; ) {
        const rows = read.all(last, before.toISOString(), limit) as unknown as (ReadRow & {
          rowid: number;
        })[];
        if (rows.length > 0) yield rows.map(fromRow);
        if (rows.length < limit) return;
        last = rows.at(-1)?.rowid ?? last;
      }
    },
    remove: async (orderIds) => Number(remove.run(JSON.stringify(orderIds)).changes),
    close: async () => db.close(),
  };
}

async function openPostgres(url: string, before: Date): Promise<OldOrders> {
  const [reader, writer] = await Promise.all([connect(url), connect(url)]);
  return {
    async *pages(limit) {
      await reader.query('BEGIN READ ONLY');
      await reader.query(
        `DECLARE old_orders NO SCROLL CURSOR FOR
         SELECT data::text, content_hash, trace_id, stored_at FROM orders WHERE stored_at < '${before.toISOString()}'`,
      );
      for (;;) {
        const { rows } = await reader.query<ReadRow>(`FETCH ${Math.trunc(limit)} FROM old_orders`);
        if (rows.length === 0) break;
        yield rows.map(fromRow);
      }
      await reader.query('COMMIT');
    },
    remove: async (orderIds) => {
      const result = await writer.query('DELETE FROM orders WHERE order_id = ANY ($1::uuid[])', [orderIds]);
      return result.rowCount ?? 0;
    },
    close: async () => {
      await Promise.all([reader.end(), writer.end()]);
    },
  };
}

async function connect(connectionString: string): Promise<Client> {
  const client = new Client({
    connectionString,
    application_name: 'order-retention',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
  });
  // A lost connection rejects the query as well; an event that nobody listens to would end the process.
  client.on('error', () => {});
  await client.connect();
  return client;
}
