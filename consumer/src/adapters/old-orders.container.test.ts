import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { type StartedTestContainer, Wait } from 'testcontainers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { containersAvailable, LoopbackContainer } from '../../../test/containers.ts';
import { openOldOrders } from './old-orders.ts';
import { openOrderRepository } from './open-order-repository.ts';
import { anOrder } from './order-repository.contract.ts';

const PASSWORD = 's3cret-p4ssword';
const DAY_MS = 24 * 60 * 60 * 1_000;
const engine = await containersAvailable('postgres:17');

describe.skipIf(!engine.available)(`openOldOrders of PostgreSQL 17 (${engine.reason})`, () => {
  let container: StartedTestContainer;
  let url: string;
  beforeAll(async () => {
    container = await new LoopbackContainer('postgres:17')
      .withEnvironment({ POSTGRES_PASSWORD: PASSWORD })
      .withExposedPorts(5432)
      .withWaitStrategy(Wait.forSuccessfulCommand('pg_isready -h 127.0.0.1 -U postgres'))
      .start();
    url = `postgres://postgres:${PASSWORD}@127.0.0.1:${container.getMappedPort(5432)}/postgres`;
  });
  afterAll(async () => {
    await container?.stop();
  });

  it('pages, while what they give is removed, give every old order once and no fresh one', async () => {
    const limits = { poolSize: 2, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 };
    const repository = await openOrderRepository(url, limits);
    const [old, fresh] = [25, 5].map((count) =>
      Array.from({ length: count }, () => anOrder({ orderId: randomUUID() })),
    ) as [ReturnType<typeof anOrder>[], ReturnType<typeof anOrder>[]];
    await repository.saveAll(old);
    const admin = new Client(url);
    await admin.connect();
    await admin.query("UPDATE orders SET stored_at = now() - interval '40 days'");
    await admin.end();
    await repository.saveAll(fresh);

    const orders = await openOldOrders(url, new Date(Date.now() - 30 * DAY_MS));
    const seen: string[] = [];
    for await (const page of orders.pages(10)) {
      expect(page.length).toBeLessThanOrEqual(10);
      const ids = page.map(({ order }) => order.orderId);
      expect(await orders.remove(ids)).toBe(ids.length);
      seen.push(...ids);
    }
    await orders.close();
    expect(seen.toSorted()).toEqual(old.map(({ order }) => order.orderId).toSorted());
    const left = await repository.findByIds([...seen, ...fresh.map(({ order }) => order.orderId)]);
    expect(left).toHaveLength(5);
    await repository.close();
  });
});
