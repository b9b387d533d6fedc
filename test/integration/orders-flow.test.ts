import { randomUUID } from 'node:crypto';
import { SendMessageCommand } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { getJson, type Pair, post, startPair } from '../support/pair.ts';
import { type FoundQueues, findQueues } from '../support/queues.ts';

const eventually = <T>(assertion: () => T | Promise<T>) =>
  vi.waitFor(assertion, { timeout: 30_000, interval: 20 });

let pair: Pair;
let queues: FoundQueues;

beforeAll(async () => {
  pair = await startPair();
  queues = await findQueues(pair.endpoint);
});
afterAll(async () => {
  queues?.[Symbol.dispose]();
  await pair?.[Symbol.asyncDispose]();
});

const isStored = (orderId: string) =>
  eventually(async () => {
    const { status, body } = await getJson(`${pair.consumerUrl}/orders/${orderId}`);
    expect(status).toBe(200);
    return body;
  });

describe('the way of an order', () => {
  test('order, posted to the producer, can be looked up where Location says', async () => {
    const { status, headers, body } = await post(`${pair.producerUrl}/orders`, anOrderRequest());
    expect(status).toBe(202);
    expect(headers.get('location')).toBe(`${pair.consumerUrl}/orders/${body.orderId}`);
    expect(await isStored(body.orderId)).toMatchObject({
      ...anOrderRequest(),
      orderId: body.orderId,
      state: 'STORED',
    });
  });

  test('trace of the client, goes through the message into the log lines of the consumer', async () => {
    const traceId = 'c'.repeat(32);
    const { body } = await post(`${pair.producerUrl}/orders`, anOrderRequest(), {
      traceparent: `00-${traceId}-${'d'.repeat(16)}-01`,
    });
    expect(body.traceId).toBe(traceId);
    expect(await isStored(body.orderId)).toMatchObject({ traceId });
    await eventually(() =>
      expect(pair.lines.some((line) => line.message === 'order settled' && line['traceId'] === traceId)).toBe(
        true,
      ),
    );
  });

  test('order, sent again with the same idempotency key, is stored once under one id', async () => {
    const key = randomUUID();
    const first = await post(`${pair.producerUrl}/orders`, anOrderRequest(), { 'idempotency-key': key });
    const again = await post(
      `${pair.producerUrl}/orders`,
      anOrderRequest({ createdAt: '2026-11-22T10:00:00Z' }),
      {
        'idempotency-key': `"${key}"`,
      },
    );
    expect(again.body.orderId).toBe(first.body.orderId);
    expect(await isStored(first.body.orderId)).toMatchObject({ createdAt: '2026-11-22T09:00:00Z' });
  });

  test('order of 200 KB, is packed, and comes out as it went in', async () => {
    const items = Array.from({ length: 1_000 }, (_, n) => ({
      productId: `SKU-${n}`,
      name: `${'CD '.repeat(60)}${n}`,
      quantity: 1,
      unitPrice: 1,
    }));
    const { status, body } = await post(
      `${pair.producerUrl}/orders`,
      anOrderRequest({ items, totalAmount: 1_000 }),
    );
    expect(status).toBe(202);
    expect((await isStored(body.orderId)).items).toEqual(items);
  });

  test('batch of 500 orders with some bad ones, is answered per order, and the good ones are stored', async () => {
    const orders = Array.from({ length: 500 }, (_, n) =>
      anOrderRequest({
        customerId: 'C-BATCH',
        orderId: randomUUID(),
        ...(n % 100 === 7 ? { totalAmount: 1 } : {}),
      }),
    );
    const { status, body } = await post(`${pair.producerUrl}/orders/batch`, { orders });
    expect(status).toBe(207);
    expect(body).toMatchObject({ accepted: 495, refused: 5 });
    expect(body.results[107]).toMatchObject({ index: 107, status: 422 });
    await eventually(async () => {
      const page = await getJson(`${pair.consumerUrl}/orders?customerId=C-BATCH&limit=500`);
      expect(page.body.orders).toHaveLength(495);
    });
  });

  test("customer's orders, come newest first, page by page, each once", async () => {
    const ids = await Promise.all(
      Array.from({ length: 7 }, async (_, n) => {
        const createdAt = `2026-11-0${1 + Math.floor(n / 2)}T00:00:00Z`;
        return (
          await post(`${pair.producerUrl}/orders`, anOrderRequest({ customerId: 'C-PAGED', createdAt }))
        ).body.orderId;
      }),
    );
    await Promise.all(ids.map(isStored));
    const seen: { orderId: string; createdAt: string }[] = [];
    let after: string | undefined;
    do {
      const { body } = await getJson(
        `${pair.consumerUrl}/orders?customerId=C-PAGED&limit=3${after ? `&after=${after}` : ''}`,
      );
      seen.push(...body.orders);
      after = body.next;
    } while (after);
    expect(new Set(seen.map(({ orderId }) => orderId))).toEqual(new Set(ids));
    expect(seen).toHaveLength(7);
    expect(seen.map(({ createdAt }) => createdAt)).toEqual(
      seen
        .map(({ createdAt }) => createdAt)
        .sort()
        .reverse(),
    );
  });
});

describe('look-up', () => {
  test.each([
    ['an id that is none', '/orders/nonsense', 400],
    ['an unknown id', `/orders/${'0'.repeat(8)}-0000-4000-8000-${'0'.repeat(12)}`, 404],
    ['neither customer nor ids', '/orders', 400],
    ['a limit of 0', '/orders?customerId=C&limit=0', 400],
    ['a garbled cursor', '/orders?customerId=C&after=garbled', 400],
    ['an unknown parameter', '/orders?customerId=C&x=1', 400],
  ])('of %s, is a problem', async (_name, path, status) => {
    const answer = await fetch(pair.consumerUrl + path);
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
  });
});

describe('dead-letter queue', () => {
  const sendRaw = (MessageBody: string) =>
    queues.client.send(new SendMessageCommand({ QueueUrl: queues.urls.queueUrl, MessageBody }));

  test('messages that nobody can read, end in the DLQ with their reason, can be looked at and come back by redrive', async () => {
    await sendRaw('not json');
    await sendRaw(
      JSON.stringify({
        specversion: '1.0',
        type: 'order.placed.v1',
        id: '1',
        source: '/x',
        data: { customerId: '' },
      }),
    );
    const deadLetterQueue = new DeadLetterQueue(queues.client, queues.urls);
    const seen = await eventually(async () => {
      const messages = await deadLetterQueue.peek(10);
      expect(messages).toHaveLength(2);
      return messages;
    });
    expect(seen.map(({ deadLetter }) => deadLetter?.reason).sort()).toEqual(['INVALID_ORDER', 'NOT_JSON']);

    expect(await deadLetterQueue.redrive({ dryRun: true })).toBe(2);
    const moved: string[] = [];
    expect(
      await deadLetterQueue.redrive({ limit: 1, onMoved: ({ message }) => moved.push(message.body) }),
    ).toBe(1);
    // Still unreadable, it comes back: nothing got lost, and nothing multiplied.
    await eventually(async () =>
      expect((await deadLetterQueue.peek(10)).map(({ message }) => message.body)).toContain(moved[0]),
    );
    expect(await deadLetterQueue.peek(10)).toHaveLength(2);
  });
});

describe('operations', () => {
  test.each(['producerUrl', 'consumerUrl'] as const)(
    'health, info and metrics of %s, have the shapes that tools expect',
    async (service) => {
      const url = pair[service];
      for (const path of ['/livez', '/readyz', '/actuator/health/liveness', '/actuator/health/readiness']) {
        expect(await getJson(url + path)).toEqual({ status: 200, body: { status: 'UP' } });
      }
      expect((await getJson(`${url}/actuator/health`)).body).toMatchObject({
        status: 'UP',
        components: { sqs: { status: 'UP' } },
      });
      expect((await getJson(`${url}/actuator/metrics/process.memory.used`)).body).toMatchObject({
        name: 'process.memory.used',
        measurements: [{ statistic: 'VALUE', value: expect.any(Number) }],
        availableTags: expect.any(Array),
      });
      expect(await (await fetch(`${url}/actuator/prometheus`)).text()).toMatch(
        /^sqs_request_duration_seconds_count\{/m,
      );
      expect((await getJson(`${url}/openapi.json`)).body).toMatchObject({
        openapi: expect.stringMatching(/^3\.1/),
        paths: { '/orders': {} },
      });
      expect((await fetch(`${url}/docs`)).status).toBe(200);
    },
  );

  test('consumer, stopped and started again while orders come in, stores every accepted order', async () => {
    const accepted: string[] = [];
    const posting = Promise.all(
      Array.from({ length: 200 }, async () => {
        const { status, body } = await post(
          `${pair.producerUrl}/orders`,
          anOrderRequest({ customerId: 'C-RESTART' }),
        );
        if (status === 202) accepted.push(body.orderId);
      }),
    );
    await pair.stopConsumer();
    await posting;
    expect(accepted).toHaveLength(200);
    await pair.startConsumerAgain();
    await eventually(async () => {
      const page = await getJson(`${pair.consumerUrl}/orders?customerId=C-RESTART&limit=500`);
      expect(new Set(page.body.orders.map(({ orderId }: { orderId: string }) => orderId))).toEqual(
        new Set(accepted),
      );
    });
  });

  test('log lines of an order that was stored, and of one that was rejected, hold no customer and no order', async () => {
    const orderId = randomUUID();
    const { body } = await post(`${pair.producerUrl}/orders`, anOrderRequest({ orderId }));
    await isStored(body.orderId);
    const other = anOrderRequest({ orderId, customerId: 'C-BATCH' });
    await post(`${pair.producerUrl}/orders`, other);
    const told = () => pair.lines.filter((line) => line['orderId'] === orderId).map(({ message }) => message);
    await eventually(() =>
      expect(told()).toEqual(
        expect.arrayContaining(['order settled', 'message sent to the dead-letter queue']),
      ),
    );
    expect(/C-1001|C-BATCH|SKU-1/.exec(JSON.stringify(pair.lines))).toBeNull();
  });
});
