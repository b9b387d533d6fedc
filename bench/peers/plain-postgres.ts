import type { OrderToStore } from '@orders/consumer/domain/order-repository.ts';
import { Pool } from 'pg';
import { count } from '../probe.ts';

const INSERT = `
  INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
  SELECT order_id, customer_id, created_at_ms, content_hash, trace_id, data::json
  FROM json_to_recordset($1) AS given (
    order_id uuid, customer_id text, created_at_ms bigint, content_hash text, trace_id text, data text)
  ORDER BY order_id
  ON CONFLICT (order_id) DO NOTHING
  RETURNING order_id`;

/** What a batch handler does that stores in PostgreSQL once, in one statement, and asks no more. */
export function saverOf(connectionString: string, max: number) {
  const pool = new Pool({ connectionString, max });
  return async (orders: readonly OrderToStore[]): Promise<void> => {
    const rows = orders.map(({ order, contentHash, traceId }) => ({
      order_id: order.orderId,
      customer_id: order.customerId,
      created_at_ms: Math.floor(Date.parse(order.createdAt)),
      content_hash: contentHash,
      trace_id: traceId,
      data: JSON.stringify(order),
    }));
    const { rowCount } = await pool.query(INSERT, [JSON.stringify(rows)]);
    if (rowCount !== orders.length) throw new Error(`${rowCount} of ${orders.length} orders were inserted`);
    count('handled', orders.length);
  };
}
