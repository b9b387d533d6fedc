import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { type StartedTestContainer, Wait } from 'testcontainers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { containersAvailable, LoopbackContainer } from '../../../test/support/containers.ts';
import { openOrderRepository } from './open-order-repository.ts';
import { readOrderIds } from './order-ids.ts';
import { anOrder } from './order-repository.contract.ts';

const PASSWORD = 's3cret-p4ssword';
const engine = await containersAvailable('postgres:17');

describe.skipIf(!engine.available)(`readOrderIds of PostgreSQL 17 (${engine.reason})`, () => {
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
  const read = async (databaseUrl: string, pageOrders: number) => {
    const rows = [];
    for await (const page of readOrderIds(databaseUrl, { pageOrders })) rows.push(...page);
    return rows;
  };

  it('readOrderIds, of a database where no consumer ever ran, says so and makes no schema', async () => {
    await expect(read(url, 10)).rejects.toThrow(
      /^DATABASE_URL: cannot open postgres:.*"orders" does not exist/,
    );
    expect((await admin.query("SELECT to_regclass('orders') AS found")).rows).toEqual([{ found: null }]);
    await expect(read(url, 10)).rejects.not.toThrow(PASSWORD);
  });

  it('readOrderIds, as a role that may only read, returns every id once, in order, with its time', async () => {
    const repository = await openOrderRepository(url, {
      poolSize: 2,
      connectTimeoutMs: 5_000,
      statementTimeoutMs: 5_000,
    });
    const ids = [
      '0'.repeat(8),
      'f'.repeat(8),
      ...Array.from({ length: 5 }, () => randomUUID().slice(0, 8)),
    ].map((start) => `${start}-0000-0000-0000-000000000000`);
    await repository.saveAll(ids.map((orderId) => anOrder({ orderId })));
    await repository.close();
    await admin.query(`CREATE ROLE auditor LOGIN PASSWORD '${PASSWORD}'; GRANT SELECT ON orders TO auditor`);
    for (const pageOrders of [1, 3, 7, 100]) {
      const rows = await read(url.replace('postgres:s', 'auditor:s'), pageOrders);
      expect(rows.map(({ orderId }) => orderId)).toEqual(ids.toSorted());
      for (const { storedAtMs } of rows) expect(Math.abs(Date.now() - storedAtMs)).toBeLessThan(60_000);
    }
  });
});
