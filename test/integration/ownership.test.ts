import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { type Pair, startPair } from '../support/pair.ts';
import { findQueues } from '../support/queues.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const ORDERS = 10_000;
const ORDERS_PER_BATCH = 500;
const IDS_PER_LOOK_UP = 100;
const CUSTOMERS = ['C-1', 'C-2', 'C-3', 'C-4'];
const AT_ONCE = 16;

const keys = { alpha: createApiKey(), beta: createApiKey(), auditor: createApiKey() };
type Client = keyof typeof keys;
type Page = { orders: { orderId: string; customerId: string }[]; next?: string };

const chunksOf = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, n) => items.slice(n * size, (n + 1) * size));

/** The answers to all, a few at a time. */
async function inTurns<T, R>(items: readonly T[], ask: (item: T) => Promise<R>): Promise<R[]> {
  const answers: R[] = [];
  for (const some of chunksOf(items, AT_ONCE)) answers.push(...(await Promise.all(some.map(ask))));
  return answers;
}

describe('orders of two clients with the same customers', () => {
  let pair: Pair;
  let folder: string;
  const mine = new Set<string>();
  const theirs: string[] = [];

  const send = async (client: Client, url: string, body: unknown, headers: Record<string, string> = {}) => {
    const answer = await fetch(`${pair.producerUrl}${url}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': keys[client].key, ...headers },
      body: JSON.stringify(body),
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };
  const look = async (client: Client, url: string) => {
    const answer = await fetch(`${pair.consumerUrl}${url}`, { headers: { 'x-api-key': keys[client].key } });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };
  const place = async (client: Client, customers: readonly string[]) => {
    const orders = customers.map((customerId) => anOrderRequest({ orderId: randomUUID(), customerId }));
    const { status, body } = await send(client, '/orders/batch', orders);
    expect([status, body['accepted']]).toEqual([207, orders.length]);
    return orders.map(({ orderId }) => orderId ?? '');
  };
  /** All pages of a customer's orders. */
  const list = async (client: Client, customerId: string) => {
    const pages: Page[] = [];
    for (let next: string | undefined = ''; next !== undefined; next = pages.at(-1)?.next) {
      const after = next === '' ? '' : `&after=${next}`;
      const { body } = await look(client, `/orders?customerId=${customerId}&limit=500${after}`);
      pages.push(body as Page);
    }
    return pages;
  };
  const idsIn = (pages: readonly Page[]) =>
    pages.flatMap(({ orders }) => orders.map(({ orderId }) => orderId));
  const found = (client: Client, ids: readonly string[]) =>
    inTurns(chunksOf(ids, IDS_PER_LOOK_UP), async (some) =>
      idsIn([(await look(client, `/orders?orderIds=${some}`)).body as Page]),
    ).then((pages) => pages.flat());

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'ownership-'));
    const file = path.join(folder, 'api-keys');
    writeFileSync(
      file,
      `alpha orders:write,orders:read ${keys.alpha.digest}
       beta orders:write,orders:read ${keys.beta.digest}
       auditor orders:read:all ${keys.auditor.digest}`,
    );
    pair = await startPair({
      AUTH: 'api-key',
      API_KEYS_FILE: file,
      IDEMPOTENCY_KEY_OWNER: 'client',
      PUBLISH_PACKING: 'on',
      HTTP_MAX_BYTES_IN_WORK: String(256 * 1_024 * 1_024),
      HTTP_MAX_CONNECTIONS: '1000',
    });
    for (let n = 0; n < ORDERS / ORDERS_PER_BATCH; n++) {
      const customers = Array.from(
        { length: ORDERS_PER_BATCH },
        (_, i) => CUSTOMERS[i % CUSTOMERS.length] ?? '',
      );
      const [ofFirst, ofSecond] = await Promise.all([place('alpha', customers), place('beta', CUSTOMERS)]);
      theirs.push(...ofFirst);
      for (const id of ofSecond) mine.add(id);
    }
    await eventually(async () => expect(await found('auditor', [...mine])).toHaveLength(mine.size), 60_000);
    await eventually(async () => expect(await found('alpha', theirs)).toHaveLength(ORDERS), 120_000);
  });
  afterAll(async () => {
    await pair?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  test('by id, the second client gets for each of the 10,000 what it gets for an id that nobody has', async () => {
    const strip = ({ status, body }: { status: number; body: Record<string, unknown> }) => {
      const { traceId: _ofTheRequest, instance: _itsPath, ...rest } = body;
      return { status, rest };
    };
    const unknown = strip(await look('beta', `/orders/${randomUUID()}`));
    expect(unknown).toMatchObject({ status: 404, rest: { type: '/problems/order-not-found' } });
    const answers = await inTurns(theirs, async (id) =>
      JSON.stringify(strip(await look('beta', `/orders/${id}`))),
    );
    expect(answers).toHaveLength(ORDERS);
    expect([...new Set(answers)]).toEqual([JSON.stringify(unknown)]);
  });

  test('by batch look-up, also among its own, the second client gets its own alone', async () => {
    expect(await found('beta', theirs)).toEqual([]);
    const [own = ''] = mine;
    const asked = [...theirs.slice(0, 50), own, ...theirs.slice(50, 99)];
    expect((await look('beta', `/orders?orderIds=${asked}`)).body).toEqual({
      orders: [expect.objectContaining({ orderId: own })],
    });
  });

  test('by list, the second client gets its own orders of these customers alone', async () => {
    const listed = await inTurns(CUSTOMERS, async (customer) => idsIn(await list('beta', customer)));
    expect(new Set(listed.flat())).toEqual(mine);
  });

  test("by cursor, the second client goes on among its own orders from each of the first one's pages", async () => {
    const pages = (await inTurns(CUSTOMERS, (customer) => list('alpha', customer))).flat();
    expect(new Set(idsIn(pages))).toEqual(new Set(theirs));
    const cursors = pages.flatMap(({ next, orders: [order] }) =>
      next && order ? [{ next, customerId: order.customerId }] : [],
    );
    expect(cursors.length).toBeGreaterThanOrEqual(ORDERS / 500);
    for (const { next, customerId } of cursors) {
      const { status, body } = await look('beta', `/orders?customerId=${customerId}&after=${next}`);
      expect(status).toBe(200);
      for (const id of idsIn([body as Page])) expect(mine).toContain(id);
    }
  });

  test("an equal order under another client's id is accepted, dead-lettered as a conflict, and opens nothing", async () => {
    const order = anOrderRequest({ orderId: randomUUID(), metadata: { secret: 'nobody else’s' } });
    const other = { ...order, totalAmount: 1, adjustment: 1 - order.totalAmount };
    expect((await send('alpha', '/orders', order)).status).toBe(202);
    await eventually(async () => expect((await look('alpha', `/orders/${order.orderId}`)).status).toBe(200));
    const told = [await send('beta', '/orders', order), await send('beta', '/orders', other)];
    // What it would be told of an id that is free.
    for (const { status, body } of told)
      expect([status, body]).toEqual([
        202,
        {
          orderId: order.orderId,
          status: 'ACCEPTED',
          location: expect.any(String),
          traceId: expect.any(String),
        },
      ]);
    using queues = await findQueues(pair.endpoint);
    const deadLetters = new DeadLetterQueue(queues.client, queues.urls);
    await eventually(async () => {
      const letters = (await deadLetters.peek(10)).filter(({ message }) =>
        message.body.includes(order.orderId ?? ''),
      );
      expect(letters.map(({ deadLetter }) => deadLetter?.reason)).toEqual(['CONFLICT', 'CONFLICT']);
      // Whose it was travels on, for those who look at it, and through a redrive.
      for (const { message, deadLetter } of letters) {
        expect(JSON.parse(unpackMessages(message.body)[0] ?? '')).toMatchObject({ clientid: 'beta' });
        expect(JSON.stringify(deadLetter)).not.toContain('alpha');
      }
    });
    // Of its own order it is told that the id was taken, and nothing of what has it.
    await eventually(async () => {
      const { status, body } = await look('beta', `/orders/${order.orderId}`);
      expect(status).toBe(200);
      expect(body).toMatchObject({ state: 'REJECTED', reason: 'CONFLICT' });
      expect(JSON.stringify(body)).not.toMatch(/alpha|secret|totalAmount/);
    });
    expect((await look('alpha', `/orders/${order.orderId}`)).body).toMatchObject({
      totalAmount: order.totalAmount,
    });
  });

  test('the same Idempotency-Key for one customer is an order of each client, and the same order for each again', async () => {
    const order = anOrderRequest({ customerId: 'C-keys' });
    const key = { 'idempotency-key': randomUUID() };
    const ids: unknown[] = [];
    for (const client of ['alpha', 'beta', 'alpha', 'beta'] as const)
      ids.push((await send(client, '/orders', order, key)).body['orderId']);
    expect([ids[2], ids[3]]).toEqual([ids[0], ids[1]]);
    expect(ids[0]).not.toBe(ids[1]);
    await eventually(async () => {
      for (const [n, client] of (['alpha', 'beta'] as const).entries())
        expect(idsIn(await list(client, 'C-keys'))).toEqual([ids[n]]);
    });
  });
});
