import type { Client } from 'pg';
import type { StoredOrder } from '../domain/order-repository.ts';
import { openDatabase } from './open-order-repository.ts';
import { fromRow, POSTGRES_STORED_AT, type ReadRow } from './order-row.ts';
import { runStatement } from './postgres-connection.ts';
import { connectAlone, openSqliteAlone } from './store-lock.ts';

/** So much of the table is looked at in one statement: 2 MB, in blocks of 8 KiB. */
const BLOCKS = 256;
/** Of the orders of a page, as JSON: an order alone may have a megabyte. */
const PAGE_BYTES = 4 * 1024 * 1024;
const DAY_MS = 24 * 60 * 60 * 1_000;

/** The orders that were stored before some moment, for archiving and removing them. */
export type OldOrders = {
  /** That moment, by the clock of the database, which also says when an order was stored: ours may be wrong. */
  before: Date;
  /**
   * All of them in one pass, at most `limit` per page, and about 4 MB. What is removed meanwhile does not disturb it.
   */
  pages: (limit: number) => AsyncGenerator<StoredOrder[]>;
  /** Of those given, what was stored before that moment, in one transaction. @returns how many there were */
  remove: (orderIds: readonly string[]) => Promise<number>;
  /** What became of messages before that moment: removed, and archived nowhere. @returns how many fates there were */
  removeFates: () => Promise<number>;
  close: () => Promise<void>;
};

/**
 * Over a connection of its own. The schema has no index by time, since every insert would pay for it: a pass reads the
 * table once, as it lies on the disk, in statements that take no longer when the table grows. No transaction stays open
 * between them: one that did would keep vacuum from the room of what is removed, in every table. Until it is closed, or
 * its process ends in whatever way, another one of the same store is refused.
 * @param keepDays only what was stored longer ago is old
 * @param options.statementTimeoutMs limit of one statement in PostgreSQL; by default a minute
 * @throws {StartupError} when the database cannot be opened, or another one is at work there
 */
export function openOldOrders(
  databaseUrl: string,
  keepDays: number,
  options: { statementTimeoutMs?: number } = {},
): Promise<OldOrders> {
  return openDatabase<OldOrders>(databaseUrl, {
    sqlite: async (path) => openSqlite(path, new Date(Date.now() - keepDays * DAY_MS)),
    postgres: async (url) => {
      const { client, close } = await connectAlone(url, { name: 'order-retention', ...options });
      try {
        const { rows } = await runStatement<{ nowMs: number }>(client, READ_CLOCK, []);
        const before = new Date((rows[0]?.nowMs ?? 0) - keepDays * DAY_MS);
        return overPostgres(client, close, before);
      } catch (error) {
        await close();
        throw error;
      }
    },
  });
}

function openSqlite(path: string, before: Date): OldOrders {
  const { db, close } = openSqliteAlone(path);
  // Rows are numbered in the order of their insertion.
  const read = db.prepare(
    `SELECT rowid, data, content_hash, trace_id, client_id, stored_at FROM orders WHERE rowid > ? AND stored_at < ? ORDER BY rowid LIMIT ?`,
  );
  const remove = db.prepare(
    'DELETE FROM orders WHERE order_id IN (SELECT value FROM json_each(?)) AND stored_at < ?',
  );
  return {
    before,
    async *pages(limit) {
      for (let last = 0, more = true; more; ) {
        const rows: (ReadRow & { rowid: number })[] = [];
        let bytes = 0;
        more = false;
        for (const row of read.iterate(last, before.toISOString(), limit) as Iterable<(typeof rows)[0]>) {
          rows.push(row);
          bytes += Buffer.byteLength(row.data);
          more = rows.length === limit || bytes >= PAGE_BYTES;
          if (more) break;
        }
        if (rows.length > 0) yield rows.map(fromRow);
        last = rows.at(-1)?.rowid ?? last;
      }
    },
    removeFates: async () =>
      Number(db.prepare('DELETE FROM order_fates WHERE occurred_at_ms < ?').run(before.getTime()).changes),
    remove: async (orderIds) => Number(remove.run(JSON.stringify(orderIds), before.toISOString()).changes),
    close,
  };
}

// By place (PostgreSQL, 5.6: ctid), since a row stays where it is: only what has the same lock updates orders.
const READ_PLACES = `
  SELECT ctid::text AS place, octet_length(data::text) AS bytes FROM orders
  WHERE ctid > $1::tid AND ctid < $2::tid AND stored_at < $3 ORDER BY ctid LIMIT $4`;
const READ = `
  SELECT data::text, content_hash, trace_id, client_id, ${POSTGRES_STORED_AT} FROM orders
  WHERE ctid > $1::tid AND ctid <= $2::tid AND stored_at < $3 ORDER BY ctid`;
const READ_CLOCK = 'SELECT (extract(epoch FROM now()) * 1000)::float8 AS "nowMs"';
const REMOVE = 'DELETE FROM orders WHERE order_id = ANY ($1::uuid[]) AND stored_at < $2';
/** So many at a time, so that none takes long. */
const REMOVE_FATES = `
  DELETE FROM order_fates WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM order_fates WHERE occurred_at_ms < $1 LIMIT 10000))`;
const COUNT_BLOCKS = `
  SELECT (pg_relation_size('orders') / current_setting('block_size')::int)::int AS blocks`;
const firstOf = (block: number) => `(${block},0)`;

/** How many of the first make a page. */
function countOfPage(places: readonly { bytes: number }[]): number {
  let bytes = 0;
  const last = places.findIndex((place) => {
    bytes += place.bytes;
    return bytes >= PAGE_BYTES;
  });
  return last === -1 ? places.length : last + 1;
}

function overPostgres(client: Client, close: () => Promise<void>, before: Date): OldOrders {
  type Place = { place: string; bytes: number };
  const readPlaces = async (after: string, end: string, limit: number) =>
    (await runStatement<Place>(client, READ_PLACES, [after, end, before, limit])).rows;
  return {
    before,
    async *pages(limit) {
      const { rows: sizes } = await runStatement<{ blocks: number }>(client, COUNT_BLOCKS, []);
      const blocks = sizes[0]?.blocks ?? 0;
      for (let block = 0; block < blocks; block += BLOCKS) {
        const end = firstOf(block + BLOCKS);
        for (let after = firstOf(block), more = true; more; ) {
          const places = await readPlaces(after, end, limit);
          more = places.length === limit;
          while (places.length > 0) {
            const last = places.splice(0, countOfPage(places)).at(-1)?.place ?? end;
            const { rows } = await runStatement<ReadRow>(client, READ, [after, last, before]);
            if (rows.length > 0) yield rows.map(fromRow);
            after = last;
          }
        }
      }
    },
    remove: async (orderIds) => {
      const result = await runStatement(client, REMOVE, [orderIds, before]);
      return result.rowCount ?? 0;
    },
    removeFates: async () => {
      for (let removed = 0; ; ) {
        const { rowCount } = await runStatement(client, REMOVE_FATES, [before.getTime()]);
        if (!rowCount) return removed;
        removed += rowCount;
      }
    },
    close,
  };
}
