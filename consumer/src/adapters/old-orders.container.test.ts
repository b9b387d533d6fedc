import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { type StartedTestContainer, Wait } from 'testcontainers';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { containersAvailable, LoopbackContainer } from '../../../test/support/containers.ts';
import { eventually } from '../../../test/support/eventually.ts';
import { openOldOrders } from './old-orders.ts';
import { openOrderRepository } from './open-order-repository.ts';
import { aFate, anOrder } from './order-repository.contract.ts';
import { openOwnerlessOrders } from './ownerless-orders.ts';

const PASSWORD = 's3cret-p4ssword';
const DAY_MS = 24 * 60 * 60 * 1_000;
const engine = await containersAvailable('postgres:17');

describe.skipIf(!engine.available)(`openOldOrders of PostgreSQL 17 (${engine.reason})`, () => {
  let container: StartedTestContainer;
  let url: string;
  let admin: Client;
  beforeAll(async () => {
    container = await new LoopbackContainer('postgres:17')
      .withEnvironment({ POSTGRES_PASSWORD: PASSWORD })
      .withExposedPorts(5432)
      .withWaitStrategy(Wait.forSuccessfulCommand('pg_isready -h 127.0.0.1 -U postgres'))
      .start();
    url = `postgres://postgres:${PASSWORD}@127.0.0.1:${container.getMappedPort(5432)}/postgres`;
    admin = new Client(url);
    await admin.connect();
  });
  afterAll(async () => {
    await admin?.end();
    await container?.stop();
  });

  it('pages, while their orders are removed, return every old order once and no fresh one', async () => {
    const limits = { poolSize: 2, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 };
    const repository = await openOrderRepository(url, limits);
    const [old, fresh] = [25, 5].map((count) =>
      Array.from({ length: count }, () => anOrder({ orderId: randomUUID() })),
    ) as [ReturnType<typeof anOrder>[], ReturnType<typeof anOrder>[]];
    await repository.saveAll(old);
    await admin.query("UPDATE orders SET stored_at = now() - interval '40 days'");
    await repository.saveAll(fresh);

    const orders = await openOldOrders(url, 30);
    const seen: string[] = [];
    for await (const page of orders.pages(10)) {
      expect(page.length).toBeLessThanOrEqual(10);
      const ids = page.map(({ order }) => order.orderId);
      expect(await orders.remove(ids)).toBe(ids.length);
      // Whoever keeps a snapshot keeps vacuum from what was removed.
      const { rows } = await admin.query(
        "SELECT state, backend_xmin FROM pg_stat_activity WHERE application_name = 'order-retention'",
      );
      expect(rows).toEqual([{ state: 'idle', backend_xmin: null }]);
      seen.push(...ids);
    }
    const fates = [-1_000, 1_000].map((ms) => aFate({ at: new Date(orders.before.getTime() + ms) }));
    await repository.recordFates(fates);
    expect(await orders.removeFates()).toBe(1);
    expect(await repository.findFates(fates[1]?.orderId ?? '')).toEqual([fates[1]]);
    await orders.close();
    expect(seen.toSorted()).toEqual(old.map(({ order }) => order.orderId).toSorted());
    const left = await repository.findByIds([...seen, ...fresh.map(({ order }) => order.orderId)]);
    expect(left).toHaveLength(5);
    await repository.close();
  });

  it('openOwnerlessOrders, page by page, assigns what a rule chooses and nobody owns, beside a consumer', async () => {
    const limits = { poolSize: 2, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 };
    const repository = await openOrderRepository(url, limits);
    const mine = { customerId: 'owner%1' };
    const orders = Array.from({ length: 2_500 }, () => anOrder({ ...mine, orderId: randomUUID() }));
    const owned = { ...anOrder({ ...mine, orderId: randomUUID() }), clientId: 'other-shop' };
    const other = anOrder({ customerId: 'owner_2', orderId: randomUUID() });
    await repository.saveAll([...orders, owned, other]);
    const ownerless = await openOwnerlessOrders(url);
    await expect(openOldOrders(url, 0)).rejects.toThrow(/assign-client is at work there$/);
    const rule = { prefix: 'owner%' };
    const { others } = await ownerless.count(rule);
    expect(others).toBeGreaterThan(0);
    const [assigned, saved] = await Promise.all([
      ownerless.assign('web-shop', rule),
      repository.saveAll([{ ...anOrder({ ...mine, orderId: randomUUID() }), clientId: 'other-shop' }]),
    ]);
    expect(assigned).toEqual({ chosen: 2_500, others });
    expect(saved[0]?.[1]).toBe('stored');
    expect(await ownerless.assign('web-shop', { customer: 'owner%1' })).toEqual({
      chosen: 0,
      others: others,
    });
    await ownerless.close();
    const seen = await repository.findByCustomer('owner%1', { limit: 5_000, ownedBy: 'web-shop' });
    expect(seen).toHaveLength(2_500);
    await admin.query("DELETE FROM orders WHERE customer_id LIKE 'owner%'");
    await repository.close();
  });

  it('pages, of large orders, hold some megabytes of them each, whatever their number may be', async () => {
    const orders = await openOldOrders(url, 30);
    await admin.query(
      `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data, stored_at)
       SELECT gen_random_uuid(), '', 0, '', '', json_build_object('n', n, 'text', repeat('x', 1000000)),
         now() - interval '40 days' FROM generate_series(1, 20) AS n`,
    );
    const pages: number[][] = [];
    for await (const page of orders.pages(8))
      pages.push(page.map(({ order }) => (order as unknown as { n: number }).n));
    await orders.close();
    await admin.query("DELETE FROM orders WHERE customer_id = ''");
    expect(pages.flat()).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(Math.max(...pages.map((page) => page.length))).toBe(5);
  });

  it('openOldOrders, on a host whose clock is a year ahead, finds old what the database calls old', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 365 * DAY_MS });
    const orders = await openOldOrders(url, 30);
    vi.useRealTimers();
    await orders.close();
    expect(Math.abs(Date.now() - 30 * DAY_MS - orders.before.getTime())).toBeLessThan(DAY_MS);
  });

  it('openOldOrders, while another one is at work, refuses, and not when that one was killed', async () => {
    await using first = await openOldOrders(url, 0).then((orders) => ({
      ...orders,
      [Symbol.asyncDispose]: orders.close,
    }));
    await expect(openOldOrders(url, 0)).rejects.toThrow(
      /another run of retention or of assign-client is at work there$/,
    );
    await admin.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'order-retention%'",
    );
    await eventually(async () => (await openOldOrders(url, 0)).close());
    expect(await first.pages(1).next().catch(String)).toMatch(/terminat|not queryable/);
  });

  it('pages, of a table that takes far longer to read than a statement may, return every old order', async () => {
    await admin.query(
      `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
       SELECT gen_random_uuid(), '', 0, '', '', to_json(repeat('x', 300)) FROM generate_series(1, 300000)`,
    );
    const old = anOrder({ orderId: randomUUID() });
    const repository = await openOrderRepository(url, {
      poolSize: 2,
      connectTimeoutMs: 5_000,
      statementTimeoutMs: 5_000,
    });
    await repository.saveAll([old]);
    await repository.close();
    const id = old.order.orderId;
    await admin.query("UPDATE orders SET stored_at = now() - interval '40 days' WHERE order_id = $1", [id]);
    await admin.query('SET max_parallel_workers_per_gather = 0');
    const before = new Date(Date.now() - 30 * DAY_MS);
    const readWhole = () => admin.query('SELECT data::text FROM orders WHERE stored_at < $1', [before]);
    // The first to read rows after their commit marks them.
    await readWhole();
    const startedAt = performance.now();
    await readWhole();
    const wholeMs = performance.now() - startedAt;

    // It comes in some 70 parts.
    const orders = await openOldOrders(url, 30, { statementTimeoutMs: Math.ceil(wholeMs / 2) });
    const seen: string[] = [];
    for await (const page of orders.pages(1_000)) seen.push(...page.map(({ order }) => order.orderId));
    await orders.close();
    expect(seen).toEqual([id]);
  });
});
