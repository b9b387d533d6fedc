import { DatabaseSync } from 'node:sqlite';
import { NIL_UUID } from '@orders/shared/runtime/uuid.ts';
import { openDatabase } from './open-order-repository.ts';
import { connectTool, runStatement, withSessionSettings } from './postgres-connection.ts';

/** An order that is stored. The id is as it is in the database. */
export type StoredOrderId = {
  orderId: string;
  storedAtMs: number;
  contentHash: string;
  /** Whose it is; absent where nobody said so. */
  clientId?: string | undefined;
};

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
    // A store of an earlier release does not have it yet.
    const hasClient = db.prepare(`SELECT 1 FROM pragma_table_info('orders') WHERE name = 'client_id'`).get();
    const read = db.prepare(`
      SELECT order_id, stored_at, content_hash, ${hasClient ? 'client_id' : 'NULL'}
      FROM orders WHERE order_id > ? ORDER BY order_id LIMIT ?`);
    read.setReturnArrays(true);
    return {
      page: async (after, limit) =>
        (read.all(after ?? '', limit) as unknown as [string, string, string, string | null][]).map(
          ([orderId, storedAt, contentHash, clientId]) => ({
            orderId,
            storedAtMs: Date.parse(storedAt),
            contentHash,
            clientId: clientId ?? undefined,
          }),
        ),
      close: async () => db.close(),
    };
  } catch (error) {
    db.close();
    throw error;
  }
}

type Row = Omit<StoredOrderId, 'clientId'> & { clientId: string | null };
const HAS_CLIENT = `
  SELECT 1 FROM pg_attribute
  WHERE attrelid = 'orders'::regclass AND attname = 'client_id' AND NOT attisdropped`;
const readPage = (hasClient: boolean, from: '>' | '>=') => `
  SELECT order_id AS "orderId", (extract(epoch FROM stored_at) * 1000)::float8 AS "storedAtMs",
    content_hash AS "contentHash", ${hasClient ? 'client_id' : 'NULL'} AS "clientId"
  FROM orders
  WHERE order_id ${from} $1 ORDER BY order_id LIMIT $2`;

async function openPostgresReader(url: string): Promise<OrderIdReader> {
  const readOnly = withSessionSettings(url, '-c default_transaction_read_only=on');
  const client = await connectTool(readOnly, { name: 'order-reconcile' });
  try {
    // A store of an earlier release does not have it yet.
    const hasClient = (await runStatement(client, HAS_CLIENT, [])).rows.length > 0;
    const page = async (after: string | undefined, limit: number) => {
      const sql = readPage(hasClient, after === undefined ? '>=' : '>');
      const { rows } = await runStatement<Row>(client, sql, [after ?? NIL_UUID, limit]);
      return rows.map((row) => ({ ...row, clientId: row.clientId ?? undefined }));
    };
    await page(undefined, 0);
    return { page, close: () => client.end() };
  } catch (error) {
    await client.end();
    throw error;
  }
}
