import { NIL_UUID } from '@orders/shared/runtime/uuid.ts';
import { openDatabase } from './open-order-repository.ts';
import { runStatement } from './postgres-connection.ts';
import { connectAlone, openSqliteAlone } from './store-lock.ts';

/** In one transaction: some tens of milliseconds. */
const PAGE_ROWS = 1_000;

/** Which of them: all, those of one customer, or of customers whose id begins so. */
export type CustomerRule = { customer?: string | undefined; prefix?: string | undefined };

/** Of the orders that were looked at: how many the rule chose, and how many belong to nobody besides. */
export type OwnerlessCount = { chosen: number; others: number };

/** Orders that belong to nobody: stored before clients were asked who they are, or while nobody was asked. */
export type OwnerlessOrders = {
  count: (rule: CustomerRule) => Promise<OwnerlessCount>;
  /**
   * Makes that client their owner, in a transaction for each page; what was given an owner stays so when a later one fails.
   * An order that has an owner keeps it.
   */
  assign: (clientId: string, rule: CustomerRule) => Promise<OwnerlessCount>;
  close: () => Promise<void>;
};

/**
 * Over a connection of its own, page by page in the order of ids: no statement takes longer when the table grows, and
 * consumers store meanwhile. Retention of the same store is refused until it is closed, since it counts on rows that stay in
 * their place, and so is another one of these.
 * @throws {StartupError} when the database cannot be opened, or one of them is at work there
 */
export function openOwnerlessOrders(databaseUrl: string): Promise<OwnerlessOrders> {
  return openDatabase<OwnerlessOrders>(databaseUrl, {
    sqlite: async (path) => {
      const { db, close } = openSqliteAlone(path);
      const query = async (sql: string, values: unknown[]) => {
        const named = values.map((value, index) => [`$${index + 1}`, value as string | null]);
        return db.prepare(sql).all(Object.fromEntries(named)) as Row[];
      };
      return walking(SQLITE, query, close);
    },
    postgres: async (url) => {
      const { client, close } = await connectAlone(url, { name: 'order-assign-client' });
      const query = async (sql: string, values: unknown[]) =>
        (await runStatement<Row>(client, sql, values)).rows;
      return walking(POSTGRES, query, close);
    },
  });
}

type Row = Partial<Record<'order_id', string> & OwnerlessCount>;
type Query = (sql: string, values: unknown[]) => Promise<Row[]>;

/** `$1` is where a page begins, `$2` where the next one does, `$3` and `$4` are the rule; `$5` is the client. */
const statements = (uuid: string, text: string) => {
  const page = `order_id >= $1${uuid} AND ($2${uuid} IS NULL OR order_id < $2${uuid}) AND client_id IS NULL`;
  const chosen = `($3${text} IS NULL OR customer_id = $3${text}) AND ($4${text} IS NULL OR substr(customer_id, 1, length($4${text})) = $4${text})`;
  return {
    next: `SELECT order_id FROM orders WHERE order_id >= $1${uuid} ORDER BY order_id LIMIT 1 OFFSET ${PAGE_ROWS}`,
    count: `
      SELECT coalesce(sum(CASE WHEN ${chosen} THEN 1 ELSE 0 END), 0) AS chosen,
        coalesce(sum(CASE WHEN ${chosen} THEN 0 ELSE 1 END), 0) AS others
      FROM orders WHERE ${page}`,
    assign: `UPDATE orders SET client_id = $5 WHERE ${page} AND ${chosen} RETURNING order_id`,
  };
};
const POSTGRES = statements('::uuid', '::text');
const SQLITE = statements('', '');

function walking(
  { next, count, assign }: ReturnType<typeof statements>,
  query: Query,
  close: () => Promise<void>,
): OwnerlessOrders {
  const walk = async (
    { customer, prefix }: CustomerRule,
    look: (page: unknown[]) => Promise<OwnerlessCount>,
  ): Promise<OwnerlessCount> => {
    const sum = { chosen: 0, others: 0 };
    for (let start: string | undefined = NIL_UUID; start !== undefined; ) {
      const end: string | undefined = (await query(next, [start]))[0]?.order_id;
      const found = await look([start, end ?? null, customer ?? null, prefix ?? null]);
      sum.chosen += found.chosen;
      sum.others += found.others;
      start = end;
    }
    return sum;
  };
  const counted = async (page: unknown[]): Promise<OwnerlessCount> => {
    const [row] = await query(count, page);
    return { chosen: Number(row?.chosen), others: Number(row?.others) };
  };
  return {
    count: (rule) => walk(rule, counted),
    assign: (clientId, rule) =>
      walk(rule, async (page) => {
        const assigned = await query(assign, [...page, clientId]);
        return { chosen: assigned.length, others: (await counted(page)).others };
      }),
    close,
  };
}
