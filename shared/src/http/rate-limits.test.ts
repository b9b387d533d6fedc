import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createTestHttpApp } from '../../testing/http-app.ts';
import { createApiKey } from '../auth/api-keys.ts';
import type { RateLimitsConfig } from './rate-limits.ts';

const [shop, other] = [createApiKey(), createApiKey()];

function keysFile(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'rate-limits-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'api-keys');
  writeFileSync(file, `shop orders:write ${shop.digest}\nother orders:write ${other.digest}\n`);
  return file;
}

async function serverWith(
  rateLimits: Partial<RateLimitsConfig>,
  options: Parameters<typeof createTestHttpApp>[0] = {},
) {
  const test = await createTestHttpApp({
    auth: { AUTH: ['api-key'], API_KEYS_FILE: keysFile() },
    bodyLimitBytes: 2_048,
    rateLimits,
    ...options,
  });
  const { app, metrics } = test;
  onTestFinished(() => app.close());
  app.post('/orders', { config: { access: 'orders:write' } }, async () => ({}));
  app.post('/batch', { config: { access: 'orders:write' } }, async (request, reply) => {
    app.chargeOrders(request, reply, (request.body as unknown[]).length);
    return {};
  });
  const send = (url: string, key: string | undefined, payload: unknown, more: object = {}) =>
    app.inject({
      method: 'POST',
      url,
      headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { 'x-api-key': key }) },
      payload: JSON.stringify(payload),
      ...more,
    });
  const order = (key: string | undefined = shop.key, more: object = {}) => send('/orders', key, {}, more);
  const batch = (count: number, key = shop.key) =>
    send(
      '/batch',
      key,
      Array.from({ length: count }, () => 1),
    );
  const statuses = async (count: number, one: () => Promise<{ statusCode: number }>) => {
    const found: number[] = [];
    for (let sent = 0; sent < count; sent++) found.push((await one()).statusCode);
    return found;
  };
  const refused = async () =>
    Object.fromEntries(
      (await metrics.rateLimited.get()).values.map(({ labels, value }) => [labels.limit, value]),
    );
  return { ...test, order, batch, send, statuses, refused };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('CLIENT_ORDERS_PER_SECOND', () => {
  it('lets each client send so many, whatever another sends, and refuses the next with when to come back', async () => {
    const { order, statuses, refused } = await serverWith({ CLIENT_ORDERS_PER_SECOND: 3 });
    expect(await statuses(4, order)).toEqual([200, 200, 200, 429]);
    const answer = await order();
    expect(answer.headers).toMatchObject({
      'content-type': 'application/problem+json',
      'retry-after': '1',
      'ratelimit-policy': '"orders";q=3;w=1',
      ratelimit: '"orders";r=0;t=1',
    });
    expect(answer.json()).toMatchObject({
      type: '/problems/rate-limited',
      status: 429,
      detail: 'the limit of orders is used up for now',
    });
    expect(await statuses(3, () => order(other.key))).toEqual([200, 200, 200]);
    vi.advanceTimersByTime(1_000);
    expect(await statuses(4, order)).toEqual([200, 200, 200, 429]);
    expect(await refused()).toEqual({ orders: 3, bytes: 0, 'failed-logins': 0 });
  });

  it('with a burst, lets a client send as many after a pause, and tells how many are left', async () => {
    const { order, statuses } = await serverWith({ CLIENT_ORDERS_PER_SECOND: 2, CLIENT_BURST_ORDERS: 10 });
    const { headers } = await order();
    expect(headers).toMatchObject({ 'ratelimit-policy': '"orders";q=10;w=5', ratelimit: '"orders";r=9;t=1' });
    expect(await statuses(10, order)).toEqual([...Array(9).fill(200), 429]);
    vi.advanceTimersByTime(1_000);
    expect(await statuses(3, order)).toEqual([200, 200, 429]);
  });

  it('a batch costs as many as it has orders, and nothing if it is refused', async () => {
    const { batch, order, statuses } = await serverWith({ CLIENT_ORDERS_PER_SECOND: 10 });
    expect((await batch(7)).statusCode).toBe(200);
    const refused = await batch(4);
    expect([refused.statusCode, refused.headers['ratelimit']]).toEqual([429, '"orders";r=3;t=1']);
    expect(await statuses(4, order)).toEqual([200, 200, 200, 429]);
  });

  it('a batch of more orders than the burst passes after a pause, and the next waits for what it cost', async () => {
    const { batch, order } = await serverWith({ CLIENT_ORDERS_PER_SECOND: 10 });
    expect((await batch(50)).statusCode).toBe(200);
    const refused = await order();
    expect([refused.statusCode, refused.headers['retry-after']]).toEqual([429, '5']);
    vi.advanceTimersByTime(4_100);
    expect((await order()).statusCode).toBe(200);
    expect((await batch(50)).statusCode).toBe(429);
    vi.advanceTimersByTime(2_000);
    expect((await batch(50)).statusCode).toBe(200);
  });

  it('leaves what is public alone, liveness and readiness first', async () => {
    const { app, health, order, statuses } = await serverWith({ CLIENT_ORDERS_PER_SECOND: 1 });
    health.setAccepting(true);
    await statuses(2, order);
    for (const url of ['/livez', '/readyz', '/actuator/health', '/metrics']) {
      const headers = { 'x-api-key': shop.key };
      const answer = await app.inject({ url, headers });
      expect([url, answer.statusCode, answer.headers['ratelimit']]).toEqual([url, 200, undefined]);
    }
  });

  it('where nobody is asked who they are, counts by address', async () => {
    const { order, statuses } = await serverWith(
      { CLIENT_ORDERS_PER_SECOND: 1 },
      { auth: { AUTH: ['none'] } },
    );
    const from = (remoteAddress: string) => () => order(undefined, { remoteAddress });
    expect(await statuses(2, from('192.0.2.1'))).toEqual([200, 429]);
    expect(await statuses(2, from('192.0.2.2'))).toEqual([200, 429]);
  });
});

describe('CLIENT_BYTES_PER_MINUTE', () => {
  const text = (bytes: number) => 'x'.repeat(bytes - 2);

  it('lets each client send so many, and refuses before a body is read', async () => {
    const { send, refused } = await serverWith({ CLIENT_BYTES_PER_MINUTE: 3_000 });
    const sendBytes = async (bytes: number) => (await send('/orders', shop.key, text(bytes))).statusCode;
    expect([await sendBytes(2_000), await sendBytes(1_001), await sendBytes(1_000)]).toEqual([200, 429, 200]);
    const answer = await send('/orders', shop.key, text(1_000));
    expect(answer.headers).toMatchObject({
      'retry-after': '20',
      'ratelimit-policy': '"bytes";q=3000;w=60',
      ratelimit: '"bytes";r=0;t=60',
    });
    vi.advanceTimersByTime(20_000);
    expect(await sendBytes(1_000)).toBe(200);
    expect(await refused()).toEqual({ orders: 0, bytes: 2, 'failed-logins': 0 });
  });

  it('reckons a body without a length at the most that its route takes, and none at more', async () => {
    const { app, send } = await serverWith({ CLIENT_BYTES_PER_MINUTE: 5_000 });
    const headers = {
      'content-type': 'application/json',
      'x-api-key': shop.key,
      'transfer-encoding': 'chunked',
    };
    const chunked = await app.inject({ method: 'POST', url: '/orders', headers, payload: '{}' });
    expect(chunked.headers['ratelimit']).toBe('"bytes";r=2952;t=25');
    const tooLarge = await send('/orders', shop.key, text(4_000));
    expect([tooLarge.statusCode, tooLarge.headers['ratelimit']]).toEqual([413, '"bytes";r=904;t=50']);
  });

  it('beside a limit of orders, both hold, and a refusal by one takes nothing of the other', async () => {
    const { send } = await serverWith({ CLIENT_BYTES_PER_MINUTE: 2_500, CLIENT_ORDERS_PER_SECOND: 2 });
    const answers = [];
    for (const bytes of [2_000, 600, 100, 100]) {
      const { statusCode, headers } = await send('/orders', shop.key, text(bytes));
      answers.push([statusCode, headers['ratelimit']]);
    }
    expect(answers).toEqual([
      [200, '"orders";r=1;t=1, "bytes";r=500;t=48'],
      [429, '"orders";r=1;t=1, "bytes";r=500;t=48'],
      [200, '"orders";r=0;t=1, "bytes";r=400;t=51'],
      [429, '"orders";r=0;t=1, "bytes";r=400;t=51'],
    ]);
  });
});

describe('FAILED_LOGINS_PER_MINUTE', () => {
  it('answers an address 429 after so many, without a log line, and still lets in who has a key', async () => {
    const { order, statuses, lines, refused } = await serverWith({ FAILED_LOGINS_PER_MINUTE: 3 });
    const wrong = () => order('order_wrong', { remoteAddress: '192.0.2.1' });
    expect(await statuses(5, wrong)).toEqual([401, 401, 401, 429, 429]);
    expect((await wrong()).headers['retry-after']).toBe('20');
    expect(lines.filter(({ message }) => message === 'access refused')).toHaveLength(3);
    expect(await refused()).toEqual({ orders: 0, bytes: 0, 'failed-logins': 3 });
    expect((await order(shop.key, { remoteAddress: '192.0.2.1' })).statusCode).toBe(200);
    expect((await order('order_wrong', { remoteAddress: '192.0.2.2' })).statusCode).toBe(401);
    vi.advanceTimersByTime(20_000);
    expect(await statuses(2, wrong)).toEqual([401, 429]);
  });

  it.each([
    ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', 429],
    ['2001:db8::1', '2001:db8:0:0:5::', 429],
    ['2001:db8:1:2::1', '2001:db8:1:3::1', 401],
    ['::1', '::2:0:0:0:1', 401],
    // IPv4 addresses in the form of a socket that takes both.
    ['::ffff:192.0.2.1', '::ffff:192.0.2.2', 401],
    ['fe80::1%eth0', 'fe80::2%eth0', 429],
  ])(
    'counts IPv6 by the /64 that one host has: after %s, %s is answered %s',
    async (first, second, status) => {
      const { order } = await serverWith({ FAILED_LOGINS_PER_MINUTE: 1 });
      const from = async (remoteAddress: string) =>
        (await order('order_wrong', { remoteAddress })).statusCode;
      expect([await from(first), await from(second)]).toEqual([401, status]);
    },
  );

  const behind = (remoteAddress: string, forwardedFor: string) => ({
    remoteAddress,
    headers: { 'x-api-key': 'order_wrong', 'x-forwarded-for': forwardedFor },
  });

  it('behind a proxy that is trusted, counts by the address that the proxy saw, and not by what a client claims', async () => {
    const { order, statuses } = await serverWith(
      { FAILED_LOGINS_PER_MINUTE: 1 },
      { trustedProxies: ['10.0.0.0/16'] },
    );
    const first = () => order(undefined, behind('10.0.1.5', '203.0.113.9, 198.51.100.1'));
    expect(await statuses(2, first)).toEqual([401, 429]);
    expect((await order(undefined, behind('10.0.1.5', '203.0.113.9, 198.51.100.2'))).statusCode).toBe(401);
    expect((await order(undefined, behind('10.0.1.6', '1.1.1.1, 198.51.100.1'))).statusCode).toBe(429);
  });

  it('of a sender that is no trusted proxy, believes no X-Forwarded-For', async () => {
    const { order } = await serverWith({ FAILED_LOGINS_PER_MINUTE: 1 }, { trustedProxies: ['10.0.0.0/16'] });
    const codes = [];
    for (const claimed of ['198.51.100.1', '198.51.100.2'])
      codes.push((await order(undefined, behind('192.0.2.1', claimed))).statusCode);
    expect(codes).toEqual([401, 429]);
  });
});

it('without limits, nothing is counted and no header is sent', async () => {
  const { order, batch, statuses } = await serverWith({});
  expect(new Set(await statuses(50, order))).toEqual(new Set([200]));
  const { statusCode, headers } = await batch(100);
  expect([statusCode, headers['ratelimit'], headers['ratelimit-policy']]).toEqual([
    200,
    undefined,
    undefined,
  ]);
});
