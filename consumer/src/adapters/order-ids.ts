import { DatabaseSync } from 'node:sqlite';
import { openDatabase } from './open-order-repository.ts';
import { connectTool, runStatement, withSessionSettings } from './postgres-connection.ts';

/** An order that is stored. The id is as it is in the database. */
export type StoredOrderId = { orderId: string; storedAtMs: number; contentHash: string };

type OrderIdReader = {
  /** Orders behind `after` in the order of their ids, at most `limit`; `undefined` begins. */
  page: (after: string | undefined, limit: number) => Promise<StoredOrderId[]>;
  close: () => Promise<void>;
};

const PAGE_ORDERS = 500;
const BUSY_TIMEOUT_MS = 10_000;

/**
 * The ids of all stored orders, page by page in the order of their ids, over a connection of its own that can only
 * read: nothing is created and no schema brought up to date. Pages are read one after the other, so that no transaction
 * stays open: an order that is stored meanwhile may be among them or not.
 * @throws {StartupError} when the database cannot be opened
 */
export async function* readOrderIds(
  databaseUrl: string,
  { pageOrders = PAGE_ORDERS } = {},
): AsyncGenerator<StoredOrderId[]> {
  const reader = await openDatabase<OrderIdReader>(databaseUrl, {
    sqlite: openSqliteReader,
    postgres: openPostgresReader,
  });
  try {
    let last: string | undefined;
    do {
      const page = await reader.page(last, pageOrders);
      if (page.length > 0) yield page;
      last = page.at(-1)?.orderId;
    } while (last !== undefined);
  } finally {
    await reader.close();
  }
}

async function openSqliteReader(path: string): Promise<OrderIdReader> {
  if (path === ':memory:') throw new Error('a store in the memory of another process cannot be read');
  const db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
  try {
    const read = db.prepare(
      'SELECT order_id, stored_at, content_hash FROM orders WHERE order_id > ? ORDER BY order_id LIMIT ?',
    );
    read.setReturnArrays(true);
    return {
      page: async (after, limit) =>
        (read.all(after ?? '', limit) as unknown as [string, string, string][]).map(
          ([orderId, storedAt, contentHash]) => ({ orderId, storedAtMs: Date.parse(storedAt), contentHash }),
        ),
      close: async () => db.close(),
    };
  } catch (error) {
    db.close();
    throw error;
  }
}

const FIRST_ID = '00000000-0000-0000-0000-000000000000';
const READ_PAGE = `
  SELECT order_id AS "orderId", (extract(epoch FROM stored_at) * 1000)::float8 AS "storedAtMs",
    content_hash AS "contentHash"
  FROM orders
  WHERE order_id > $1 ORDER BY order_id LIMIT $2`;
const READ_FIRST_PAGE = READ_PAGE.replace('order_id > $1', 'order_id >= $1');

async function openPostgresReader(url: string): Promise<OrderIdReader> {
  const readOnly = withSessionSettings(url, '-c default_transaction_read_only=on');
  const client = await connectTool(readOnly, { name: 'order-reconcile' });
  const read = async (after: string | undefined, limit: number) => {
    const sql = after === undefined ? READ_FIRST_PAGE : READ_PAGE;
    return (await runStatement<StoredOrderId>(client, sql, [after ?? FIRST_ID, limit])).rows;
  };
  try {
    await read(undefined, 0);
  } catch (error) {
    await client.end();
    throw error;
  }
  return { page: read, close: () => client.end() };
}
