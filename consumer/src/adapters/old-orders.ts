import { DatabaseSync } from 'node:sqlite';
import type { Client } from 'pg';
import type { StoredOrder } from '../domain/order-repository.ts';
import { openDatabase } from './open-order-repository.ts';
import { fromRow, type ReadRow } from './order-row.ts';
import { connectTool } from './postgres-connection.ts';

const BUSY_TIMEOUT_MS = 10_000;
/** So much of the table is looked at in one statement: 2 MB, in blocks of 8 KiB. */
const BLOCKS = 256;

/** The orders that were stored before some moment, for archiving and removing them. */
export type OldOrders = {
  /** All of them in one pass, at most `limit` a page. What is removed meanwhile does not disturb it. */
  pages: (limit: number) => AsyncGenerator<StoredOrder[]>;
  /** In one transaction. @returns how many there were */
  remove: (orderIds: readonly string[]) => Promise<number>;
  close: () => Promise<void>;
};

/**
 * Over a connection of its own. The schema has no index by time, since every insert would pay for it: a pass reads the
 * table once, as it lies on the disk, in statements that take no longer when the table grows. No transaction stays open
 * between them: one that did would keep vacuum from the room of what is removed, in every table.
 * @param options.statementTimeoutMs limit of one statement in PostgreSQL; by default a minute
 * @throws {StartupError} when the database cannot be opened
 */
export function openOldOrders(
  databaseUrl: string,
  before: Date,
  options: { statementTimeoutMs?: number } = {},
): Promise<OldOrders> {
  return openDatabase<OldOrders>(databaseUrl, {
    sqlite: async (path) => openSqlite(path, before),
    postgres: async (url) =>
      overPostgres(await connectTool(url, { name: 'order-retention', ...options }), before),
  });
}

function openSqlite(path: string, before: Date): OldOrders {
  const db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
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

// By place (PostgreSQL, 5.6: ctid), since a row stays where it is: an order is never updated.
const READ_PLACES = `
  SELECT ctid::text AS place, data::text, content_hash, trace_id, stored_at FROM orders
  WHERE ctid > $1::tid AND ctid < $2::tid AND stored_at < $3 ORDER BY ctid LIMIT $4`;
const COUNT_BLOCKS = `
  SELECT (pg_relation_size('orders') / current_setting('block_size')::int)::int AS blocks`;
const firstOf = (block: number) => `(${block},0)`;

function overPostgres(client: Client, before: Date): OldOrders {
  return {
    async *pages(limit) {
      const { rows: sizes } = await client.query<{ blocks: number }>(COUNT_BLOCKS);
      const blocks = sizes[0]?.blocks ?? 0;
      for (let block = 0; block < blocks; block += BLOCKS) {
        const end = firstOf(block + BLOCKS);
        for (let after: string | undefined = firstOf(block); after !== undefined; ) {
          const values: unknown[] = [after, end, before, limit];
          const { rows } = await client.query<ReadRow & { place: string }>(READ_PLACES, values);
          if (rows.length > 0) yield rows.map(fromRow);
          after = rows.length < limit ? undefined : rows.at(-1)?.place;
        }
      }
    },
    remove: async (orderIds) => {
      const result = await client.query('DELETE FROM orders WHERE order_id = ANY ($1::uuid[])', [orderIds]);
      return result.rowCount ?? 0;
    },
    close: () => client.end(),
  };
}
