import { createTestHttpApp } from '@orders/shared/testing/http-app.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
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

  it('GET /orders, with as many at work as there is room for, answers 429 with Retry-After', async () => {
    const found = Promise.withResolvers<FoundOrder[]>();
    findByCustomer.mockReturnValueOnce(found.promise);
    const first = get('/orders?customerId=C');
    await vi.waitFor(() => expect(findByCustomer).toHaveBeenCalledOnce());
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
