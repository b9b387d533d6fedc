import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { createTestHttpApp } from '@orders/shared/testing/http-app.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { OrderFate } from '../domain/order-fate.ts';
import type { FoundOrder, OrderRepository } from '../domain/order-repository.ts';
import { orderRoutes } from './order-routes.ts';

const MiB = 1_024 * 1_024;
const idOf = (n: number) => `019b0000-0000-7000-8000-${String(n).padStart(12, '0')}`;
const stored = (n: number, sizeBytes: number): FoundOrder => ({
  order: anOrder({ orderId: idOf(n) }),
  contentHash: 'v1:',
  traceId: 'a'.repeat(32),
  storedAt: new Date(0),
  sizeBytes,
});

const aFate = (overrides: Partial<OrderFate> = {}): OrderFate => ({
  kind: 'REJECTED',
  orderId: idOf(1),
  messageId: 'm-1',
  contentHash: 'v1:abc',
  clientId: 'shop',
  reason: 'INVALID_ORDER',
  detail: 'items: too few',
  attempts: 1,
  failures: 0,
  firstSeenAt: new Date('2026-03-01T00:00:00Z'),
  at: new Date('2026-03-01T00:00:01Z'),
  release: '1.2.3',
  traceId: 'a'.repeat(32),
  ...overrides,
});

describe('orderRoutes', () => {
  let test: Awaited<ReturnType<typeof createTestHttpApp>>;
  const findById = vi.fn<OrderRepository['findById']>();
  const findFates = vi.fn<OrderRepository['findFates']>();
  const findByIds = vi.fn<OrderRepository['findByIds']>();
  const findByCustomer = vi.fn<OrderRepository['findByCustomer']>();
  beforeEach(async () => {
    vi.resetAllMocks();
    findByIds.mockResolvedValue([]);
    findFates.mockResolvedValue([]);
    findByCustomer.mockResolvedValue([]);
    test = await createTestHttpApp({ maxBytesInWork: 3 * MiB });
    const repository = {
      findById,
      findByIds,
      findByCustomer,
      findFates,
    } as Partial<OrderRepository> as OrderRepository;
    await test.app.register(orderRoutes, { repository });
  });
  afterEach(() => test.app.close());
  const get = (url: string) => test.app.inject(url);

  it.each(['0x10', '1e2', '+5', ' 5', '5.0', '-1', '0', '501', '', '10&limit=20'])(
    'GET /orders, with the limit %j, answers 400',
    async (limit) => {
      const answer = await get(`/orders?customerId=C&limit=${encodeURI(limit)}`);
      expect(answer.json()).toMatchObject({ status: 400, errors: [{ pointer: '/querystring/limit' }] });
    },
  );

  it.each([
    ['', 50],
    ['&limit=1', 1],
    ['&limit=500', 500],
  ])('GET /orders, with the limit %j, asks the store for %i orders of a megabyte', async (query, limit) => {
    expect((await get(`/orders?customerId=C${query}`)).json()).toEqual({ orders: [] });
    expect(findByCustomer).toHaveBeenCalledWith('C', { limit, maxBytes: MiB });
  });

  it.each(['limit=5', `after=1_${idOf(1)}`])('GET /orders, of ids with %s, answers 400', async (query) => {
    const answer = await get(`/orders?orderIds=${idOf(1)}&${query}`);
    expect(answer.json()).toMatchObject({ status: 400, type: '/problems/validation' });
    expect(findByIds).not.toHaveBeenCalled();
  });

  it('GET /orders, of a page that is full by its bytes, says where the next one begins', async () => {
    findByCustomer.mockResolvedValue([stored(1, MiB / 2), stored(2, MiB / 2)]);
    const { orders, next } = (await get('/orders?customerId=C')).json();
    expect(orders).toHaveLength(2);
    expect(next).toBe(`${Date.parse(anOrder().createdAt)}_${idOf(2)}`);
    findByCustomer.mockResolvedValue([stored(1, MiB / 2), stored(2, MiB / 2 - 1)]);
    expect((await get('/orders?customerId=C')).json()).not.toHaveProperty('next');
  });

  it('GET /orders, of ids that fill a page, says which were not looked up', async () => {
    findByIds.mockResolvedValue([stored(1, 1), stored(3, MiB)]);
    const list = [1, 2, 3, 4, 3, 5].map(idOf).join(',').toUpperCase();
    expect((await get(`/orders?orderIds=${list}`)).json().remaining).toEqual([idOf(4), idOf(5)]);
    expect(findByIds).toHaveBeenCalledWith([1, 2, 3, 4, 5].map(idOf), { maxBytes: MiB });
    findByIds.mockResolvedValue([stored(1, 1), stored(3, 1)]);
    expect((await get(`/orders?orderIds=${list}`)).json()).not.toHaveProperty('remaining');
  });

  it('GET /orders/{id}, of a stored order, asks for nothing else', async () => {
    findById.mockResolvedValue(stored(1, 1));
    expect((await get(`/orders/${idOf(1)}`)).json()).toMatchObject({ state: 'STORED', orderId: idOf(1) });
    expect(findFates).not.toHaveBeenCalled();
  });

  it('GET /orders/{id}, of an order that was rejected, answers 200 with REJECTED and the reason', async () => {
    findFates.mockResolvedValue([aFate()]);
    const answer = await get(`/orders/${idOf(1)}`);
    expect(answer.statusCode).toBe(200);
    expect(answer.json()).toEqual({
      orderId: idOf(1),
      state: 'REJECTED',
      contentHash: 'v1:abc',
      reason: 'INVALID_ORDER',
      detail: 'items: too few',
      attempts: 1,
      firstSeenAt: '2026-03-01T00:00:00.000Z',
      rejectedAt: '2026-03-01T00:00:01.000Z',
      traceId: 'a'.repeat(32),
    });
  });

  it('GET /orders/{id}, of an order whose message was moved back, answers REDRIVEN, until it is rejected again', async () => {
    const redriven = aFate({ kind: 'REDRIVEN', at: new Date('2026-03-02T00:00:00Z') });
    findFates.mockResolvedValue([aFate(), redriven]);
    expect((await get(`/orders/${idOf(1)}`)).json()).toMatchObject({
      state: 'REDRIVEN',
      reason: 'INVALID_ORDER',
      redrivenAt: '2026-03-02T00:00:00.000Z',
    });
    // By a consumer whose clock is behind.
    const again = aFate({ messageId: 'm-2', reason: 'MAX_FAILURES', at: new Date('2026-03-01T23:00:00Z') });
    findFates.mockResolvedValue([aFate(), again, redriven]);
    expect((await get(`/orders/${idOf(1)}`)).json()).toMatchObject({
      state: 'REJECTED',
      reason: 'MAX_FAILURES',
    });
  });

  it.each(['', '/history'])(
    'GET /orders/{id}%s, of an order that nobody knows, answers 404',
    async (path) => {
      const answer = await get(`/orders/${idOf(1)}${path}`);
      expect(answer.json()).toMatchObject({ status: 404, type: '/problems/order-not-found' });
    },
  );

  it('GET /orders/{id}/history, of an order that was rejected, redriven and stored, tells all in the order of their times', async () => {
    findById.mockResolvedValue({ ...stored(1, 1), storedAt: new Date('2026-03-03T00:00:00Z') });
    findFates.mockResolvedValue([
      aFate({ failures: 3 }),
      aFate({ kind: 'REDRIVEN', at: new Date('2026-03-02T00:00:00Z') }),
    ]);
    const { orderId, events } = (await get(`/orders/${idOf(1)}/history`)).json();
    expect(orderId).toBe(idOf(1));
    expect(events.map(({ event, at }: Record<string, string>) => [event, at])).toEqual([
      ['RECEIVED', '2026-03-01T00:00:00.000Z'],
      ['REJECTED', '2026-03-01T00:00:01.000Z'],
      ['REDRIVEN', '2026-03-02T00:00:00.000Z'],
      ['STORED', '2026-03-03T00:00:00.000Z'],
    ]);
    expect(events[1]).toMatchObject({
      reason: 'INVALID_ORDER',
      failures: 3,
      release: '1.2.3',
      messageId: 'm-1',
    });
  });

  describe('with AUTH=api-key', () => {
    const keys = { shop: createApiKey(), auditor: createApiKey(), sender: createApiKey() };
    const file = path.join(mkdtempSync(path.join(tmpdir(), 'order-routes-')), 'api-keys');
    writeFileSync(
      file,
      `shop orders:read ${keys.shop.digest}
       auditor orders:read:all ${keys.auditor.digest}
       sender orders:write ${keys.sender.digest}`,
    );
    afterAll(() => rmSync(path.dirname(file), { recursive: true }));
    beforeEach(async () => {
      await test.app.close();
      test = await createTestHttpApp({
        maxBytesInWork: 3 * MiB,
        auth: { AUTH: ['api-key'], API_KEYS_FILE: file },
      });
      const repository = {
        findById,
        findByIds,
        findByCustomer,
        findFates,
      } as Partial<OrderRepository> as OrderRepository;
      await test.app.register(orderRoutes, { repository });
    });
    const getAs = (client: keyof typeof keys, url: string) =>
      test.app.inject({ url, headers: { 'x-api-key': keys[client].key } });

    it.each([
      ['shop', { ownedBy: 'shop' }],
      ['auditor', {}],
    ] as const)('look-ups of %s ask the store for %j', async (client, whose) => {
      await getAs(client, `/orders/${idOf(1)}`);
      await getAs(client, `/orders?orderIds=${idOf(1)}`);
      await getAs(client, `/orders?customerId=C&after=5_${idOf(2)}&limit=3`);
      await getAs(client, `/orders/${idOf(3)}/history`);
      expect(findById).toHaveBeenCalledWith(idOf(1), whose);
      expect(findFates).toHaveBeenCalledWith(idOf(1), whose);
      expect(findFates).toHaveBeenCalledWith(idOf(3), whose);
      expect(findByIds).toHaveBeenCalledWith([idOf(1)], { maxBytes: MiB, ...whose });
      const after = { createdAtMs: 5, orderId: idOf(2) };
      expect(findByCustomer).toHaveBeenCalledWith('C', { limit: 3, after, maxBytes: MiB, ...whose });
    });

    it.each([
      ['INVALID_ORDER', 'items: too few', 'items: too few'],
      ['MAX_FAILURES', 'of a trigger', 'failed MAX_FAILURES times'],
      ['FORGED', 'of whoever', ''],
    ])(
      'GET /orders/{id}, of a rejection with %s, tells its client %j as %j, and operators all',
      async (reason, detail, seen) => {
        findFates.mockResolvedValue([aFate({ reason, detail })]);
        expect((await getAs('shop', `/orders/${idOf(1)}`)).json()).toMatchObject({ reason, detail: seen });
        const history = (await getAs('shop', `/orders/${idOf(1)}/history`)).json();
        expect(history.events[1]).toMatchObject({ reason, detail: seen });
        expect((await getAs('auditor', `/orders/${idOf(1)}`)).json()).toMatchObject({ detail });
      },
    );

    it('look-ups of a client without a scope for them are refused', async () => {
      const refused = await getAs('sender', `/orders/${idOf(1)}`);
      expect(refused.json()).toMatchObject({ status: 403, detail: 'this needs the scope orders:read' });
      expect(findById).not.toHaveBeenCalled();
    });
  });

  it('GET /orders, with as many at work as there is room for, answers 429 with Retry-After', async () => {
    const found = Promise.withResolvers<FoundOrder[]>();
    findByCustomer.mockReturnValueOnce(found.promise);
    const first = get('/orders?customerId=C');
    await vi.waitFor(() => expect(findByCustomer).toHaveBeenCalledOnce(), { timeout: 30_000 });
    for (const url of ['/orders?customerId=C', `/orders?orderIds=${idOf(1)}`]) {
      const refused = await get(url);
      expect(refused.statusCode).toBe(429);
      expect(refused.headers['retry-after']).toBe('1');
    }
    found.resolve([]);
    expect((await first).statusCode).toBe(200);
    expect((await get('/orders?customerId=C')).statusCode).toBe(200);
  });

  it('POST /orders/{id}, answers 405 and what the path takes', async () => {
    const answer = await test.app.inject({ method: 'POST', url: `/orders/${idOf(1)}` });
    expect(answer.statusCode).toBe(405);
    expect(answer.headers['allow']).toBe('GET, HEAD');
  });

  it('OpenAPI, of the list, shows the limit as a number', async () => {
    const api = (await get('/openapi.json')).json();
    const limit = api.paths['/orders'].get.parameters.find(({ name }: { name: string }) => name === 'limit');
    expect(limit.schema).toEqual({ type: 'integer', minimum: 1, maximum: 500 });
    expect(Object.keys(api.paths['/orders'].get.responses)).toContain('429');
  });
});
