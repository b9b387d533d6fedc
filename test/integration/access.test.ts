import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { type Pair, startPair } from '../support/pair.ts';

const [shop, audit, next] = [createApiKey(), createApiKey(), createApiKey()];

describe('both services with AUTH=api-key', () => {
  let pair: Pair;
  let folder: string;
  let file: string;
  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'access-'));
    file = path.join(folder, 'api-keys');
    writeFileSync(file, `shop orders:write ${shop.digest}\naudit orders:read:all ${audit.digest}\n`);
    // As in production, and less than that: neither takes an audit line away.
    pair = await startPair({
      AUTH: 'api-key',
      API_KEYS_FILE: file,
      LIBRARY_LOG_LEVEL: 'warn',
      LOG_LEVEL: 'error',
    });
  });
  afterAll(async () => {
    await pair[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const headers = (key?: string): Record<string, string> => (key === undefined ? {} : { 'x-api-key': key });
  const order = {
    customerId: 'C-1',
    items: [{ productId: 'P-1', name: 'compact disc', quantity: 1, unitPrice: 1_499 }],
    currency: 'USD',
    totalAmount: 1_499,
    createdAt: '2026-11-22T09:00:00Z',
  };
  const post = (url: string, body: unknown, key?: string) =>
    fetch(`${pair.producerUrl}${url}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers(key) },
      body: JSON.stringify(body),
    });
  const get = (url: string, key?: string) => fetch(`${pair.consumerUrl}${url}`, { headers: headers(key) });

  test('an order is placed with the one key and looked up with the other', async () => {
    const placed = await post('/orders', order, shop.key);
    expect(placed.status).toBe(202);
    const { orderId } = (await placed.json()) as { orderId: string };
    await eventually(async () => expect((await get(`/orders/${orderId}`, audit.key)).status).toBe(200));
    expect((await get(`/orders/${orderId}`, shop.key)).status).toBe(403);
    expect((await get(`/orders/${orderId}`)).status).toBe(401);
  });

  test.each([
    ['POST /orders', () => post('/orders', order), () => post('/orders', order, audit.key)],
    [
      'POST /orders/batch',
      () => post('/orders/batch', [order]),
      () => post('/orders/batch', [order], audit.key),
    ],
    ['GET /orders', () => get('/orders?customerId=C-1'), () => get('/orders?customerId=C-1', shop.key)],
    ['GET /orders by ids', () => get('/orders?orderIds=x'), () => get('/orders?orderIds=x', shop.key)],
  ])('%s is refused without a key, and to a client without the scope', async (_route, stranger, client) => {
    expect([(await stranger()).status, (await client()).status]).toEqual([401, 403]);
  });

  test('who was refused, and who looked at orders of others, stands in the log, with what and the result', async () => {
    const placed = (await (await post('/orders', order, shop.key)).json()) as { orderId: string };
    const { orderId } = placed;
    await eventually(async () => expect((await get(`/orders/${orderId}`, audit.key)).status).toBe(200));
    pair.lines.length = 0;
    await post('/orders', order, 'order_wrong');
    await get(`/orders/${orderId}`, shop.key);
    await get(`/orders/${orderId}`, audit.key);
    await get('/orders?customerId=C-1', audit.key);
    await get('/orders/Not-An-Id', audit.key);
    await eventually(() => {
      const lines = pair.lines.filter((line) => 'audit' in line);
      expect(
        lines.map(({ audit, client, route, status, orderId }) => [audit, client, route, status, orderId]),
      ).toEqual([
        ['refused', undefined, '/orders', 401, undefined],
        ['refused', 'shop', '/orders/:orderId', 403, orderId],
        ['granted', 'audit', '/orders/:orderId', 200, orderId],
        ['granted', 'audit', '/orders', 200, undefined],
        ['granted', 'audit', '/orders/:orderId', 400, undefined],
      ]);
      expect(lines.every(({ level, traceId }) => level === 'INFO' && typeof traceId === 'string')).toBe(true);
      expect(JSON.stringify(lines)).not.toMatch(/C-1|compact disc|Not-An-Id|order_/);
    });
  });

  test('a key that is added to the file is good without a restart, and one that is taken out is not', async () => {
    writeFileSync(file, `shop orders:write ${next.digest}\n`);
    await eventually(async () => expect((await post('/orders', order, next.key)).status).toBe(202), 10_000);
    expect((await post('/orders', order, shop.key)).status).toBe(401);
  });
});
