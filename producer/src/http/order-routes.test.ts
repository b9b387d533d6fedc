import { problemSchema } from '@orders/shared/http/problem.ts';
import { orderRequestSchema } from '@orders/shared/order/order.ts';
import { createTestHttpApp } from '@orders/shared/testing/http-app.ts';
import { AN_ORDER_ID, anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  BufferFullError,
  OrderNotSendableError,
  OrderTooLargeError,
  QueueUnavailableError,
} from '../domain/errors.ts';
import type { PlaceOrder } from '../domain/place-order.ts';
import { createProducerMetrics, type ProducerMetrics } from '../metrics.ts';
import { orderRoutes } from './order-routes.ts';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const otherId = (n: number) => `019b0000-0000-7000-8000-${String(n).padStart(12, '0')}`;

describe('orderRoutes', () => {
  let test: Awaited<ReturnType<typeof createTestHttpApp>>;
  let metrics: ProducerMetrics;
  const placeOrder = vi.fn<PlaceOrder>();

  beforeEach(async () => {
    placeOrder.mockReset();
    placeOrder.mockImplementation(async ({ orderId }) => ({
      orderId: orderId ?? AN_ORDER_ID,
      messageId: 'm-1',
    }));
    test = await createTestHttpApp({ maxBytesInWork: 4 * 1_024 * 1_024 + 1 });
    metrics = createProducerMetrics('1', () => 0);
    await test.app.register(orderRoutes, {
      placeOrder,
      metrics,
      statusBaseUrl: 'https://status.example',
      maxOrderBytes: 256 * 1_024,
      maxBatchBytes: 4 * 1_024 * 1_024,
    });
  });
  afterEach(() => test.app.close());

  const post = (url: string, payload: unknown, headers: Record<string, string> = {}) =>
    test.app.inject({
      method: 'POST',
      url,
      payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
      headers: { 'content-type': 'application/json', ...headers },
    });
  const refusedBy = async () =>
    Object.fromEntries(
      (await metrics.ordersRefused.get()).values
        // Every reason is there from the start, with 0.
        .filter(({ value }) => value > 0)
        .map(({ labels, value }) => [labels.reason, value]),
    );
  const acceptedCount = async () => (await metrics.ordersAccepted.get()).values[0]?.value;

  const refusals = [
    [new OrderNotSendableError('never'), 422, 'order-not-sendable', undefined],
    [new OrderTooLargeError('large'), 413, 'order-too-large', undefined],
    [new BufferFullError('full'), 429, 'buffer-full', '1'],
    [new QueueUnavailableError('away'), 503, 'queue-unavailable', '5'],
  ] as const;

  describe('POST /orders', () => {
    it('POST /orders, given a confirmed order, answers 202 with its id and an absolute Location', async () => {
      const answer = await post('/orders', anOrderRequest());
      expect(answer.statusCode).toBe(202);
      expect(answer.headers['location']).toBe(`https://status.example/orders/${AN_ORDER_ID}`);
      expect(answer.json()).toEqual({
        orderId: AN_ORDER_ID,
        status: 'ACCEPTED',
        location: `https://status.example/orders/${AN_ORDER_ID}`,
        traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
      });
      expect(await acceptedCount()).toBe(1);
    });

    it('POST /orders, given a producer that does not know where orders are found, tells no Location', async () => {
      const other = await createTestHttpApp({ maxBytesInWork: 4 * 1_024 * 1_024 });
      const options = {
        placeOrder,
        metrics,
        statusBaseUrl: undefined,
        maxOrderBytes: 1_024,
        maxBatchBytes: 1_024,
      };
      await other.app.register(orderRoutes, options);
      const request = { method: 'POST' as const, headers: { 'content-type': 'application/json' } };
      const answer = await other.app.inject({ ...request, url: '/orders', payload: anOrderRequest() });
      expect(answer.statusCode).toBe(202);
      expect(answer.headers).not.toHaveProperty('location');
      expect(answer.json()).not.toHaveProperty('location');
      const batch = await other.app.inject({ ...request, url: '/orders/batch', payload: [anOrderRequest()] });
      expect(batch.json().results).toEqual([{ index: 0, status: 202, orderId: AN_ORDER_ID }]);
      await other.app.close();
    });

    it('POST /orders, until the order is confirmed, does not answer', async () => {
      const confirmed = Promise.withResolvers<{ orderId: string; messageId: string }>();
      const called = Promise.withResolvers<void>();
      placeOrder.mockImplementation(() => {
        called.resolve();
        return confirmed.promise;
      });
      const answered = vi.fn();
      const answer = post('/orders', anOrderRequest()).then((answer) => {
        answered();
        return answer;
      });
      await called.promise;
      await new Promise(setImmediate);
      expect(answered).not.toHaveBeenCalled();
      confirmed.resolve({ orderId: AN_ORDER_ID, messageId: 'm-1' });
      expect((await answer).statusCode).toBe(202);
    });

    it.each(['"key-1"', 'key-1'])(
      'POST /orders, with the key %s, hands it on without quotes',
      async (header) => {
        expect((await post('/orders', anOrderRequest(), { 'idempotency-key': header })).statusCode).toBe(202);
        expect(placeOrder).toHaveBeenCalledWith(
          anOrderRequest(),
          expect.objectContaining({ idempotencyKey: 'key-1' }),
        );
      },
    );

    it('POST /orders, with a traceparent, carries the trace on', async () => {
      const answer = await post('/orders', anOrderRequest(), {
        traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01`,
      });
      expect(answer.json().traceId).toBe(TRACE_ID);
      expect(placeOrder.mock.calls[0]?.[1].trace).toMatchObject({ traceId: TRACE_ID, flags: '01' });
    });

    it('POST /orders, with an id in capitals, hands it on in lower case', async () => {
      await post('/orders', anOrderRequest({ orderId: AN_ORDER_ID.toUpperCase() }));
      expect(placeOrder.mock.calls[0]?.[0].orderId).toBe(AN_ORDER_ID);
    });

    it.each<[string, () => ReturnType<typeof post>, number, string]>([
      [
        'key and orderId',
        () => post('/orders', anOrderRequest({ orderId: AN_ORDER_ID }), { 'idempotency-key': 'k' }),
        400,
        'two-identities',
      ],
      [
        'a malformed key',
        () => post('/orders', anOrderRequest(), { 'idempotency-key': '"k' }),
        400,
        'idempotency-key-malformed',
      ],
      ['no JSON', () => post('/orders', '{"customerId":'), 400, 'malformed'],
      ['no body', () => post('/orders', ''), 400, 'malformed'],
      ['an unknown field', () => post('/orders', { ...anOrderRequest(), extra: 1 }), 400, 'validation'],
      [
        'NaN',
        () => post('/orders', JSON.stringify(anOrderRequest()).replace('2998', 'NaN')),
        400,
        'malformed',
      ],
      [
        '1e400',
        () => post('/orders', JSON.stringify(anOrderRequest()).replace('2998', '1e400')),
        400,
        'validation',
      ],
      [
        '100,000 levels',
        () => post('/orders', `${'['.repeat(100_000)}${']'.repeat(100_000)}`),
        400,
        'too-deep',
      ],
      [
        '30,000 empty items',
        () => post('/orders', { ...anOrderRequest(), items: Array(30_000).fill({}) }),
        400,
        'too-many-objects',
      ],
      [
        'a NUL in a text',
        () => post('/orders', anOrderRequest({ customerId: 'a\u0000' })),
        400,
        'validation',
      ],
      [
        'a lone surrogate',
        () => post('/orders', anOrderRequest({ customerId: '\uD800' })),
        400,
        'validation',
      ],
      ['an array', () => post('/orders', [anOrderRequest()]), 400, 'validation'],
      [
        'a total that does not match',
        () => post('/orders', anOrderRequest({ totalAmount: 1 })),
        422,
        'inconsistent-order',
      ],
      ['10 MB', () => post('/orders', `"${'x'.repeat(10_000_000)}"`), 413, 'too-large'],
      ['XML', () => post('/orders', '<order/>', { 'content-type': 'application/xml' }), 415, 'media-type'],
    ])(
      'POST /orders, of %s, answers the problem, places nothing and counts it as invalid',
      async (_what, request, status, kind) => {
        const answer = await request();
        expect(answer.headers['content-type']).toBe('application/problem+json');
        expect(problemSchema.parse(answer.json())).toMatchObject({ status, type: `/problems/${kind}` });
        expect(answer.statusCode).toBe(status);
        expect(placeOrder).not.toHaveBeenCalled();
        expect(await refusedBy()).toEqual({ invalid: 1 });
      },
    );

    it('POST /orders, of wrong fields, points at each', async () => {
      const { items, ...order } = anOrderRequest();
      const wrong = {
        ...order,
        items: [{ ...items[0], quantity: -1 }],
        currency: 'XYZ',
        createdAt: '2026-11-22T09:00:00',
      };
      const pointers = (await post('/orders', wrong))
        .json()
        .errors.map(({ pointer }: { pointer: string }) => pointer);
      expect(pointers).toEqual(expect.arrayContaining(['/items/0/quantity', '/currency', '/createdAt']));
    });

    it.each(refusals)(
      'POST /orders, refused with %s, answers %i',
      async (error, status, kind, retryAfter) => {
        placeOrder.mockRejectedValue(error);
        const answer = await post('/orders', anOrderRequest());
        expect(answer.statusCode).toBe(status);
        expect(answer.json()).toMatchObject({
          status,
          type: `/problems/${kind}`,
          traceId: expect.any(String),
        });
        expect(answer.json().detail).toContain(error.message);
        expect(answer.headers['retry-after']).toBe(retryAfter);
        expect(await refusedBy()).toEqual({ [error.code.toLowerCase()]: 1 });
        expect(await acceptedCount()).toBe(0);
      },
    );

    it('POST /orders, failing unexpectedly, answers 500 without the reason', async () => {
      placeOrder.mockRejectedValue(new Error('secret detail'));
      const answer = await post('/orders', anOrderRequest());
      expect(answer.json()).toMatchObject({ status: 500, type: '/problems/internal' });
      expect(answer.body).not.toContain('secret');
      expect(test.lines.some(({ message }) => message === 'request failed')).toBe(true);
    });
  });

  it('POST /orders, while there is no room for its body, answers 429 and counts it as busy', async () => {
    const confirmed = Promise.withResolvers<{ orderId: string; messageId: string }>();
    placeOrder.mockImplementation(() => confirmed.promise);
    const order = JSON.stringify(anOrderRequest()).padEnd(200 * 1_024);
    const held = Array.from({ length: 20 }, () => post('/orders', order));
    await vi.waitFor(() => expect(placeOrder).toHaveBeenCalledTimes(20), { timeout: 30_000 });
    const answer = await post('/orders', order);
    expect(answer.statusCode).toBe(429);
    expect(answer.headers['retry-after']).toBe('1');
    expect(await refusedBy()).toEqual({ busy: 1 });
    confirmed.resolve({ orderId: AN_ORDER_ID, messageId: 'm' });
    for (const { statusCode } of await Promise.all(held)) expect(statusCode).toBe(202);
  });

  describe('POST /orders/batch', () => {
    it.each([
      ['an array', (orders: unknown[]) => orders],
      ['an object with orders', (orders: unknown[]) => ({ orders })],
    ])('POST /orders/batch, of %s, places each order', async (_what, wrap) => {
      const orders = [anOrderRequest({ orderId: otherId(1) }), anOrderRequest({ orderId: otherId(2) })];
      const answer = await post('/orders/batch', wrap(orders));
      expect(answer.statusCode).toBe(207);
      expect(answer.json()).toEqual({
        accepted: 2,
        refused: 0,
        results: [1, 2].map((n) => ({
          index: n - 1,
          status: 202,
          orderId: otherId(n),
          location: `https://status.example/orders/${otherId(n)}`,
        })),
      });
      expect(await acceptedCount()).toBe(2);
    });

    it('POST /orders/batch, of good, bad and refused orders, answers each on its own and in order', async () => {
      placeOrder.mockImplementation(async ({ orderId }) => {
        if (orderId === otherId(3)) throw new BufferFullError('full');
        if (orderId === otherId(4)) throw new Error('secret detail');
        return { orderId: orderId ?? AN_ORDER_ID, messageId: 'm' };
      });
      const answer = await post('/orders/batch', [
        anOrderRequest({ orderId: otherId(1) }),
        { ...anOrderRequest(), items: [] },
        anOrderRequest({ orderId: otherId(3) }),
        anOrderRequest({ orderId: otherId(4) }),
        anOrderRequest({ totalAmount: 1 }),
        null,
        anOrderRequest(),
      ]);
      expect(answer.statusCode).toBe(207);
      const { accepted, refused, results } = answer.json();
      expect({ accepted, refused }).toEqual({ accepted: 2, refused: 5 });
      expect(results.map(({ index, status }: { index: number; status: number }) => [index, status])).toEqual([
        [0, 202],
        [1, 400],
        [2, 429],
        [3, 500],
        [4, 422],
        [5, 400],
        [6, 202],
      ]);
      expect(results[1].problem.errors).toMatchObject([{ pointer: '/items' }, { pointer: '/totalAmount' }]);
      expect(results[2].problem.type).toBe('/problems/buffer-full');
      expect(answer.body).not.toContain('secret');
      expect(test.lines.find(({ message }) => message === 'order failed')).toMatchObject({
        err: { message: 'secret detail' },
      });
      expect(await refusedBy()).toEqual({ invalid: 3, buffer_full: 1 });
      expect(await acceptedCount()).toBe(2);
    });

    it('POST /orders/batch, of orders refused for now, says when to send which again', async () => {
      placeOrder.mockImplementation(async ({ orderId }) => {
        if (orderId === otherId(1)) throw new BufferFullError('full');
        if (orderId === otherId(2)) throw new QueueUnavailableError('away');
        return { orderId: orderId ?? AN_ORDER_ID, messageId: 'm' };
      });
      const orders = [1, 2, 3].map((n) => anOrderRequest({ orderId: otherId(n) }));
      const answer = await post('/orders/batch', [...orders, {}]);
      expect(answer.headers['retry-after']).toBe('5');
      const waits = answer
        .json()
        .results.map(({ retryAfterSeconds }: { retryAfterSeconds?: number }) => retryAfterSeconds);
      expect(waits).toEqual([1, 5, undefined, undefined]);
      const good = await post('/orders/batch', [orders[2]]);
      expect(good.headers).not.toHaveProperty('retry-after');
    });

    it('POST /orders/batch, given an order larger than one may be alone, refuses that one', async () => {
      const items = Array(1_000).fill({ productId: 'P', name: '주'.repeat(100), quantity: 1, unitPrice: 1 });
      const answer = await post('/orders/batch', [
        anOrderRequest(),
        anOrderRequest({ items, totalAmount: 1_000 }),
      ]);
      expect(answer.json().results).toMatchObject([
        { status: 202 },
        { status: 413, problem: { type: '/problems/too-large' } },
      ]);
    });

    it('POST /orders/batch, with a traceparent, carries the trace on for each order', async () => {
      const headers = { traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01` };
      await post('/orders/batch', [anOrderRequest(), anOrderRequest()], headers);
      expect(placeOrder.mock.calls.map(([, { trace }]) => trace.traceId)).toEqual([TRACE_ID, TRACE_ID]);
    });

    it('POST /orders/batch, of 500 orders, places them all', async () => {
      expect((await post('/orders/batch', Array(500).fill(anOrderRequest()))).json()).toMatchObject({
        accepted: 500,
      });
    });

    it.each<[string, unknown]>([
      ['501 orders', Array(501).fill({})],
      ['501 orders in an object', { orders: Array(501).fill({}) }],
      ['no array', {}],
      ['a text', '"orders"'],
    ])('POST /orders/batch, of %s, is refused as a whole and says what is wanted', async (_what, body) => {
      const answer = await post('/orders/batch', body);
      expect(answer.json()).toMatchObject({
        status: 400,
        errors: [
          {
            pointer: '',
            detail: 'must be an array of 1 to 500 orders, or an object with such an array as orders',
          },
        ],
      });
      expect(placeOrder).not.toHaveBeenCalled();
    });

    it.each<[string, unknown, string]>([
      ['no orders', [], ''],
      ['an object of no orders', { orders: [] }, '/orders'],
      ['an unknown field beside the orders', { orders: [{}], dryRun: true }, ''],
    ])('POST /orders/batch, of %s, is refused as a whole', async (_what, body, pointer) => {
      const answer = await post('/orders/batch', body);
      expect(answer.json()).toMatchObject({ status: 400, errors: [{ pointer }] });
      expect(placeOrder).not.toHaveBeenCalled();
    });

    it.each([
      ['an array', (orders: unknown[]) => orders, ''],
      ['an object', (orders: unknown[]) => ({ orders }), '/orders'],
    ])(
      'POST /orders/batch, of repeated ids in %s, in capitals too, is refused as a whole',
      async (_what, wrap, prefix) => {
        const orders = [otherId(1), AN_ORDER_ID, otherId(2), AN_ORDER_ID.toUpperCase(), otherId(1)];
        const answer = await post(
          '/orders/batch',
          wrap(orders.map((orderId) => anOrderRequest({ orderId }))),
        );
        expect(answer.json()).toMatchObject({
          status: 400,
          type: '/problems/repeated-order-id',
          errors: [
            { pointer: `${prefix}/3/orderId`, detail: 'the same orderId as order 1' },
            { pointer: `${prefix}/4/orderId`, detail: 'the same orderId as order 0' },
          ],
        });
        expect(placeOrder).not.toHaveBeenCalled();
      },
    );

    it('POST /orders/batch, with an Idempotency-Key, is refused', async () => {
      const answer = await post('/orders/batch', [anOrderRequest()], { 'idempotency-key': 'k' });
      expect(answer.json()).toMatchObject({ status: 400, type: '/problems/idempotency-key-on-batch' });
      expect(placeOrder).not.toHaveBeenCalled();
    });

    it('POST /orders/batch, given more than 8 MiB, is refused', async () => {
      expect((await post('/orders/batch', `["${'x'.repeat(8 * 1024 * 1024)}"]`)).statusCode).toBe(413);
    });
  });

  it('with a limit per client, a batch costs as many as it has orders; what is refused is not placed', async () => {
    const limited = await createTestHttpApp({
      rateLimits: { CLIENT_ORDERS_PER_SECOND: 1, CLIENT_BURST_ORDERS: 3 },
    });
    try {
      const options = {
        placeOrder,
        metrics,
        statusBaseUrl: undefined,
        maxOrderBytes: 4_096,
        maxBatchBytes: 4_096,
      };
      await limited.app.register(orderRoutes, options);
      const batch = (...ids: number[]) =>
        limited.app.inject({
          method: 'POST',
          url: '/orders/batch',
          payload: ids.map((id) => anOrderRequest({ orderId: otherId(id) })),
        });
      expect((await batch(1, 2)).statusCode).toBe(207);
      const refused = await batch(3, 4);
      expect([refused.statusCode, refused.json().type]).toEqual([429, '/problems/rate-limited']);
      expect((await batch(5)).statusCode).toBe(207);
      expect(placeOrder.mock.calls.map(([{ orderId }]) => orderId)).toEqual([1, 2, 5].map(otherId));
      expect(await refusedBy()).toEqual({ rate_limited: 1 });
    } finally {
      await limited.app.close();
    }
  });

  it('OpenAPI, given an order, shows an example that is accepted as it stands, alone and in a batch', async () => {
    const api = (await test.app.inject('/openapi.json')).json();
    const [example] = api.components.schemas.OrderRequestInput.examples;
    expect((await post('/orders', example)).statusCode).toBe(202);
    expect((await post('/orders/batch', { orders: [example] })).json()).toMatchObject({ accepted: 1 });
  });

  it.each([
    ['/orders', '400', 'two-identities'],
    ['/orders', '503', 'queue-unavailable'],
    ['/orders/batch', '400', 'repeated-order-id'],
  ])('OpenAPI, of %s and %s, explains %s', async (path, status, kind) => {
    const { paths } = (await test.app.inject('/openapi.json')).json();
    const { description, content } = paths[path].post.responses[status];
    expect(description).toContain(`- \`${kind}\`: `);
    const { value } = content['application/problem+json'].examples[kind];
    expect(problemSchema.parse(value)).toMatchObject({ type: `/problems/${kind}`, status: Number(status) });
  });

  it('OpenAPI, given the routes, describes body and answers from the one schema', async () => {
    const api = (await test.app.inject('/openapi.json')).json();
    const { requestBody, responses } = api.paths['/orders'].post;
    const { $ref } = requestBody.content['application/json'].schema;
    expect($ref).toBe('#/components/schemas/OrderRequestInput');
    expect(Object.keys(responses)).toEqual(['202', '400', '413', '415', '422', '429', '503']);
    const { properties } = api.components.schemas.OrderRequestInput;
    expect(Object.keys(properties)).toEqual(Object.keys(orderRequestSchema.shape));
    expect(api.paths['/orders/batch'].post.responses).toHaveProperty('207');
    expect(responses['202'].headers.location.schema).toMatchObject({ format: 'uri' });
    for (const status of ['429', '503'])
      expect(responses[status].headers['retry-after'].schema).toMatchObject({ type: 'integer' });
    const batch = api.paths['/orders/batch'].post.requestBody.content['application/json'].schema;
    for (const list of [batch.anyOf[0].properties.orders, batch.anyOf[1]])
      expect(list.items).toEqual({ $ref });
  });
});
