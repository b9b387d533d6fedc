import { packMessages } from '@orders/shared/order/packed-message.ts';
import { expect, test } from 'vitest';
import { anOrder, bodyOf } from '../../testing/orders.ts';
import { toReceivedMessage } from '../queue/received-message.ts';
import { Lease } from './lease.ts';
import { readMessages } from './read-messages.ts';

const leaseOf = (Body: string) => new Lease(toReceivedMessage({ Body }), performance.now(), 60);

test('readMessages, of a plain message, returns the order in it, which waits for the store', async () => {
  const order = anOrder();
  const body = await bodyOf(order);
  expect(await readMessages([leaseOf(body)])).toMatchObject([
    { orders: [{ body, order, outcome: { kind: 'released', cause: 'store-unavailable' } }] },
  ]);
});

test('readMessages, of a packed message, returns each order with its own line, and an outcome for what is none', async () => {
  const order = anOrder();
  const newer = (await bodyOf(anOrder())).replace('order.placed.v1', 'order.placed.v4');
  const lines = [await bodyOf(order), '{"truncated', newer];
  const [message] = await readMessages([leaseOf((await packMessages(lines)).body)]);
  expect(message?.orders.map(({ body }) => body)).toEqual(lines);
  expect(message?.orders).toMatchObject([
    { order, outcome: { kind: 'released', cause: 'store-unavailable' } },
    { outcome: { kind: 'rejected', reason: 'NOT_JSON' } },
    { outcome: { kind: 'released', cause: 'newer-version' } },
  ]);
});
