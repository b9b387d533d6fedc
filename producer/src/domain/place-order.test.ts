import type { OrderMessage } from '@orders/shared/order/message.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { AN_ORDER_ID, anOrderRequest } from '@orders/shared/testing/orders.ts';
import { describe, expect, it, vi } from 'vitest';
import type { AcceptanceJournal, AcceptedOrder } from './acceptance-journal.ts';
import { QueueUnavailableError } from './errors.ts';
import { orderIdOfKey } from './order-id.ts';
import type { OrderPublisher } from './order-publisher.ts';
import { createPlaceOrder, type PlaceOrderOptions } from './place-order.ts';

class FakePublisher implements OrderPublisher {
  readonly published: OrderMessage[] = [];
  failure: Error | undefined;

  async publish(message: OrderMessage): Promise<{ messageId: string }> {
    if (this.failure) throw this.failure;
    this.published.push(message);
    return { messageId: `m-${this.published.length}` };
  }
}

class FakeJournal implements AcceptanceJournal {
  readonly recorded: AcceptedOrder[] = [];
  held: Promise<void> | undefined;

  async record(order: AcceptedOrder): Promise<void> {
    this.recorded.push(order);
    await this.held;
  }
}

const trace = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7', flags: '01' };

function subject(publisher = new FakePublisher(), options: PlaceOrderOptions = { keyOwner: 'customer' }) {
  const journal = new FakeJournal();
  const placeOrder = createPlaceOrder(publisher, journal, options);
  const withKey = (
    idempotencyKey: string,
    fields: Parameters<typeof anOrderRequest>[0] = {},
    clientId?: string,
  ) => placeOrder(anOrderRequest(fields), { trace, idempotencyKey, clientId });
  return { publisher, journal, placeOrder, withKey };
}

const otherContent = { items: [{ productId: 'SKU-2', name: 'LP', quantity: 1, unitPrice: 2998 }] };

describe('placeOrder', () => {
  it('placeOrder, given an order without identity, gives it a new id', async () => {
    const { publisher, placeOrder } = subject();
    const [first, second] = [
      await placeOrder(anOrderRequest(), { trace }),
      await placeOrder(anOrderRequest(), { trace }),
    ];
    expect(first.orderId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    expect(second.orderId).not.toBe(first.orderId);
    expect(publisher.published.map(({ order }) => order.orderId)).toEqual([first.orderId, second.orderId]);
    expect(first.messageId).toBe('m-1');
  });

  it('placeOrder, given an order with an id, keeps that', async () => {
    const { placeOrder } = subject();
    expect((await placeOrder(anOrderRequest({ orderId: AN_ORDER_ID }), { trace })).orderId).toBe(AN_ORDER_ID);
  });

  it('placeOrder, given any order, publishes it with its hash and its trace', async () => {
    const { publisher, placeOrder } = subject();
    const { orderId } = await placeOrder(anOrderRequest(), { trace });
    expect(publisher.published).toEqual([
      {
        order: { ...anOrderRequest(), orderId },
        contentHash: contentHash(anOrderRequest()),
        traceparent: `00-${trace.traceId}-${trace.spanId}-01`,
      },
    ]);
  });

  it('placeOrder, given an order that the queue confirmed, resolves only when the journal has it', async () => {
    const { journal, placeOrder } = subject();
    const held = Promise.withResolvers<void>();
    journal.held = held.promise;
    const placed = vi.fn();
    const before = Date.now();
    const placing = placeOrder(anOrderRequest({ orderId: AN_ORDER_ID }), { trace }).then(placed);
    await vi.waitFor(() => expect(journal.recorded).toHaveLength(1), { timeout: 30_000 });
    await new Promise(setImmediate);
    expect(placed).not.toHaveBeenCalled();
    held.resolve();
    await placing;
    const { acceptedAt, ...rest } = journal.recorded[0] as AcceptedOrder;
    expect(rest).toEqual({
      orderId: AN_ORDER_ID,
      contentHash: contentHash(anOrderRequest()),
      messageId: 'm-1',
      traceId: trace.traceId,
    });
    expect(acceptedAt.getTime()).toBeGreaterThanOrEqual(before);
  });

  it('placeOrder, given the same key twice, records each acceptance under the one id', async () => {
    const { journal, withKey } = subject();
    const { orderId } = await withKey('key-1');
    await withKey('key-1');
    expect(journal.recorded).toMatchObject([
      { orderId, messageId: 'm-1' },
      { orderId, messageId: 'm-2' },
    ]);
  });

  it('placeOrder, given the same key and order, publishes again under the same id', async () => {
    const { publisher, withKey } = subject();
    const first = await withKey('key-1');
    const retry = await withKey('key-1', { createdAt: '2026-11-22T09:00:05Z' });
    expect(retry.orderId).toBe(first.orderId);
    expect(publisher.published).toHaveLength(2);
    expect(first.orderId).toBe(orderIdOfKey({ customerId: 'C-1001' }, 'key-1'));
  });

  // What is stored under a key, no producer knows: whatever it remembers, another one, or it itself before a restart, may
  // have accepted something else first, and a 422 would tell the owner of the stored order that it was refused.
  it('placeOrder, given a key that another producer accepted with another order, publishes for both to the end', async () => {
    const queue = new FakePublisher();
    const [first, second] = [subject(queue), subject(queue)];
    const { orderId } = await first.withKey('key-1');
    await second.withKey('key-1', otherContent);
    expect(await second.withKey('key-1')).toMatchObject({ orderId });
    expect(await first.withKey('key-1', otherContent)).toMatchObject({ orderId });
    expect(queue.published.map(({ order }) => order.orderId)).toEqual(Array(4).fill(orderId));
  });

  it('placeOrder, given a key with two orders at once, publishes both for the consumer to judge', async () => {
    const { publisher, withKey } = subject();
    const placed = await Promise.all([withKey('key-1'), withKey('key-1', otherContent), withKey('key-1')]);
    expect(new Set(placed.map(({ orderId }) => orderId)).size).toBe(1);
    expect(publisher.published).toHaveLength(3);
  });

  it('placeOrder, given the same key by another customer, is another order', async () => {
    const { withKey } = subject();
    const [first, second] = [await withKey('key-1'), await withKey('key-1', { customerId: 'C-1002' })];
    expect(second.orderId).not.toBe(first.orderId);
  });

  it('placeOrder, of a client, publishes and records whose order it is', async () => {
    const { publisher, journal, placeOrder } = subject();
    await placeOrder(anOrderRequest(), { trace, clientId: 'shop-a' });
    expect([publisher.published[0], journal.recorded[0]]).toMatchObject([
      { clientId: 'shop-a' },
      { clientId: 'shop-a' },
    ]);
  });

  const clients = [undefined, 'shop-a', 'shop-b'];

  it('placeOrder, given the same key by other clients, is the same order while keys are the customer’s', async () => {
    const { withKey } = subject(undefined, { keyOwner: 'customer' });
    const ids = await Promise.all(clients.map((client) => withKey('key-1', {}, client)));
    expect(new Set(ids.map(({ orderId }) => orderId)).size).toBe(1);
  });

  it('placeOrder, given the same key by other clients or for other customers, is another order each once keys are the client’s', async () => {
    const { withKey } = subject(undefined, { keyOwner: 'client' });
    const ids = await Promise.all(
      clients.flatMap((client) =>
        ['C-1', 'C-2'].map((customerId) => withKey('key-1', { customerId }, client)),
      ),
    );
    expect(new Set(ids.map(({ orderId }) => orderId)).size).toBe(6);
  });

  // What an operator must know before the switch (docs/security.md): no store tells that the two are one.
  it('placeOrder, given a retry across the switch, is a second order of a client, and the same one where nobody was asked', async () => {
    const queue = new FakePublisher();
    const [before, after] = [
      subject(queue, { keyOwner: 'customer' }),
      subject(queue, { keyOwner: 'client' }),
    ];
    const tries = async (clientId?: string) => [
      (await before.withKey('key-1', {}, clientId)).orderId,
      (await after.withKey('key-1', {}, clientId)).orderId,
      (await after.withKey('key-1', {}, clientId)).orderId,
    ];
    const [first, retry, next] = await tries('shop-a');
    expect(retry).not.toBe(first);
    expect(next).toBe(retry);
    expect(new Set(await tries()).size).toBe(1);
  });

  it('placeOrder, that could not publish, passes the failure on and records nothing', async () => {
    const { publisher, journal, withKey } = subject();
    publisher.failure = new QueueUnavailableError('down');
    await expect(withKey('key-1')).rejects.toBe(publisher.failure);
    expect(journal.recorded).toEqual([]);
  });
});
