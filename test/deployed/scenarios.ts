import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { getJson, post } from '../support/pair.ts';

/** Where order-producer and order-consumer answer. */
export type Deployed = { producerUrl: string; consumerUrl: string };

const STORED_WITHIN_MS = 60_000;

/** Costs nothing, is nobody's, and says so: reports leave it out by `metadata.synthetic`. */
const synthetic = (change: object = {}) => ({
  customerId: 'SYNTHETIC-CHECK',
  items: [{ productId: 'SYNTHETIC', name: 'deployment check', quantity: 1, unitPrice: 0 }],
  currency: 'USD',
  totalAmount: 0,
  createdAt: new Date().toISOString(),
  metadata: { synthetic: 'deployed-scenarios' },
  ...change,
});

/**
 * What clients do, for services that run somewhere and with however many pods: nothing is stopped, nothing is counted
 * that others count too, and nothing is sent that would end in the dead-letter queue.
 */
export function describeDeployed(deployed: () => Deployed): void {
  const placeOrder = (body: unknown, headers?: Record<string, string>) =>
    post(`${deployed().producerUrl}/orders`, body, headers);
  const stored = (orderId: string) =>
    eventually(async () => {
      const { status, body } = await getJson(`${deployed().consumerUrl}/orders/${orderId}`);
      expect(status).toBe(200);
      return body;
    }, STORED_WITHIN_MS);

  it.each(['producerUrl', 'consumerUrl'] as const)('%s: up, and says what it is', async (which) => {
    const url = deployed()[which];
    expect(await getJson(`${url}/actuator/health`)).toMatchObject({ status: 200, body: { status: 'UP' } });
    expect((await getJson(`${url}/actuator/info`)).body.build.version).toBeTypeOf('string');
    const metrics = await fetch(`${url}/actuator/prometheus`);
    // In production they are on a port that no Service shows.
    if (metrics.status === 404)
      expect(await metrics.json()).toMatchObject({ type: '/problems/on-management-port' });
    else expect(await metrics.text()).toContain('sqs');
  });

  it('an order: accepted, told where it will be, and stored as it was placed', async () => {
    const order = synthetic();
    const { status, headers, body } = await placeOrder(order);
    expect(status).toBe(202);
    expect(headers.get('location')).toMatch(new RegExp(`/orders/${body.orderId}$`));
    const { customerId, totalAmount, items } = order;
    expect(await stored(body.orderId)).toMatchObject({ customerId, totalAmount, items, state: 'STORED' });
  });

  it('an order that is placed again with its key, as after a lost answer: one order', async () => {
    const order = synthetic();
    const headers = { 'idempotency-key': randomUUID() };
    const answers = await Promise.all([1, 2, 3].map(() => placeOrder(order, headers)));
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202]);
    const ids = new Set(answers.map(({ body }) => body.orderId as string));
    expect(ids.size).toBe(1);
    for (const id of ids) await stored(id);
  });

  it('a batch: each order is answered on its own, and the good ones are stored', async () => {
    const good = [synthetic({ orderId: randomUUID() }), synthetic({ orderId: randomUUID() })];
    const { status, body } = await post(`${deployed().producerUrl}/orders/batch`, [
      good[0],
      synthetic({ totalAmount: 1 }),
      good[1],
    ]);
    expect(status).toBe(207);
    expect(body.results.map(({ status }: { status: number }) => status)).toEqual([202, 422, 202]);
    for (const { orderId } of body.results.filter(({ status }: { status: number }) => status === 202))
      await stored(orderId);
  });

  it.each([
    ['no JSON', 400, '{"customerId":', {}],
    ['an unknown field', 400, synthetic({ extra: 1 }), {}],
    ['a total that does not match', 422, synthetic({ totalAmount: 1 }), {}],
    ['XML', 415, '<order/>', { 'content-type': 'application/xml' }],
  ])('%s: refused with %d and the problem', async (_what, expected, order, headers) => {
    const { status, headers: answered, body } = await placeOrder(order, headers);
    expect(status).toBe(expected);
    expect(answered.get('content-type')).toContain('application/problem+json');
    expect(body).toMatchObject({ status: expected, title: expect.any(String) });
  });

  it('an order that nobody placed: not found', async () => {
    const { status } = await getJson(`${deployed().consumerUrl}/orders/${randomUUID()}`);
    expect(status).toBe(404);
  });
}
