import { hash, randomUUID } from 'node:crypto';
import { type EncodedMessage, encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash, type Order } from '@orders/shared/order/order.ts';
import { packMessages } from '@orders/shared/order/packed-message.ts';

/** The size of an order that all figures are for, unless they say otherwise. */
export const ORDER_BYTES = 500;

const FRAME_BYTES = 190;
const ITEM_FRAME_BYTES = 62;
const MAX_ITEM_BYTES = 250;

/** As hard to compress as names are: a half of it says something. Kept: who makes orders must not be what is measured. */
const names = new Map<string, string>();
function nameOf(n: number, bytes: number): string {
  const key = `${n} ${bytes}`;
  const kept = names.get(key);
  if (kept !== undefined) return kept;
  const words = `Compact disc, volume ${n} ${hash('sha512', String(n))}`;
  const name = words.padEnd(bytes, ' and so on').slice(0, bytes);
  names.set(key, name);
  return name;
}

/** A valid order of about that many bytes as JSON, most of them in its items. */
export function orderOf(orderId: string, bytes = ORDER_BYTES): Order {
  const count = Math.max(3, Math.ceil((bytes - FRAME_BYTES) / MAX_ITEM_BYTES));
  const nameBytes = Math.round((bytes - FRAME_BYTES) / count) - ITEM_FRAME_BYTES;
  const items = Array.from({ length: count }, (_, n) => ({
    productId: `SKU-${n}`,
    name: nameOf(n, nameBytes),
    quantity: 1 + (n % 3),
    unitPrice: 1_499,
  }));
  return {
    orderId,
    customerId: 'C-1001',
    items,
    currency: 'USD',
    totalAmount: items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0),
    createdAt: '2026-11-25T09:00:00.000Z',
    metadata: { channel: 'benchmark' },
  };
}

export const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

/** The message that order-producer makes of an order. */
export function messageOf(order: Order): Promise<EncodedMessage> {
  return encodeOrderMessage(
    { order, contentHash: contentHash(order), traceparent: TRACEPARENT },
    { version: 1, encoding: 'zstd', compressAboveBytes: 4_096 },
  );
}

export async function packedMessageOf(orders: Order[]): Promise<EncodedMessage> {
  const messages = await Promise.all(orders.map(messageOf));
  return packMessages(messages.map(({ body }) => body));
}

/** What an application without this project's codec would send for the same order: the same bytes. */
export function plainMessageOf(order: Order): string {
  return JSON.stringify({
    specversion: '1.0',
    id: order.orderId,
    type: 'order.placed.v1',
    source: '/order-producer',
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    contentencoding: 'identity',
    traceparent: TRACEPARENT,
    data: order,
  });
}

/** Ids that begin alike and count up, as those of UUIDv7 do: cheap to make, and no two processes make the same. */
export function orderIds(): () => string {
  const [first] = randomUUID().split('-');
  let count = 0;
  return () => `${first}-0000-7000-8000-${(count++).toString(16).padStart(12, '0')}`;
}
