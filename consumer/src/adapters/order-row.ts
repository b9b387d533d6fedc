import type { FoundOrder, OrderIdentity, OrderToStore, StoredOrder } from '../domain/order-repository.ts';

/** An order as the columns that both databases have. `data` is the whole order as JSON text, kept to the letter. */
export type OrderRow = {
  order_id: string;
  customer_id: string;
  created_at_ms: number;
  content_hash: string;
  trace_id: string;
  client_id: string | undefined;
  data: string;
};

/** One row an id, for the first order that has it. Ids are in lower case. */
export function toRows(orders: readonly OrderToStore[]): OrderRow[] {
  const rows = new Map<string, OrderRow>();
  for (const { order, contentHash, traceId, clientId } of orders) {
    const orderId = order.orderId.toLowerCase();
    if (rows.has(orderId)) continue;
    rows.set(orderId, {
      order_id: orderId,
      customer_id: order.customerId,
      created_at_ms: Math.floor(Date.parse(order.createdAt)),
      content_hash: contentHash,
      trace_id: traceId,
      client_id: clientId,
      data: JSON.stringify(order),
    });
  }
  return [...rows.values()];
}

export type IdentityRow = Pick<OrderRow, 'content_hash'> & { client_id: string | null };

export const toIdentity = ({ content_hash, client_id }: IdentityRow): OrderIdentity => ({
  contentHash: content_hash,
  clientId: client_id ?? undefined,
});

/** `stored_at` in milliseconds since 1970: how PostgreSQL writes a time depends on the session's `datestyle`. */
export const POSTGRES_STORED_AT = 'trunc(extract(epoch FROM stored_at) * 1000)::float8 AS stored_at';

/** SQLite has the time of storing as ISO 8601, PostgreSQL gives {@link POSTGRES_STORED_AT}. */
export type ReadRow = IdentityRow & Pick<OrderRow, 'data' | 'trace_id'> & { stored_at: string | number };

export function fromRow(row: ReadRow): StoredOrder {
  return {
    order: JSON.parse(row.data),
    ...toIdentity(row),
    traceId: row.trace_id,
    storedAt: new Date(row.stored_at),
  };
}

export function fromRowWithSize(row: ReadRow): FoundOrder {
  return { ...fromRow(row), sizeBytes: Buffer.byteLength(row.data) };
}
