import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { createTestHttpApp } from '@orders/shared/testing/http-app.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
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

describe('orderRoutes', () => {
  let test: Awaited<ReturnType<typeof createTestHttpApp>>;
  const findById = vi.fn<OrderRepository['findById']>();
  const findByIds = vi.fn<OrderRepository['findByIds']>();
  const findByCustomer = vi.fn<OrderRepository['findByCustomer']>();
  beforeEach(async () => {
    vi.resetAllMocks();
    findByIds.mockResolvedValue([]);
    findByCustomer.mockResolvedValue([]);
    test = await createTestHttpApp({ maxBytesInWork: 3 * MiB });
    const repository = { findById, findByIds, findByCustomer } as Partial<OrderRepository> as OrderRepository;
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
      expect(findById).toHaveBeenCalledWith(idOf(1), whose);
      expect(findByIds).toHaveBeenCalledWith([idOf(1)], { maxBytes: MiB, ...whose });
      const after = { createdAtMs: 5, orderId: idOf(2) };
      expect(findByCustomer).toHaveBeenCalledWith('C', { limit: 3, after, maxBytes: MiB, ...whose });
    });

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
