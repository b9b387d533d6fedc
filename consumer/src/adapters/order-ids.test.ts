import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readOrderIds, type StoredOrderId } from './order-ids.ts';
import { anOrder, resultsOf } from './order-repository.contract.ts';
import { openSqliteOrderRepository } from './sqlite-order-repository.ts';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'order-ids-'));
  file = path.join(folder, 'orders.db');
});
afterEach(() => rm(folder, { recursive: true }));

async function read(pageOrders = 10_000, databaseUrl = `sqlite:${file}`): Promise<StoredOrderId[][]> {
  const pages: StoredOrderId[][] = [];
  for await (const page of readOrderIds(databaseUrl, { pageOrders })) pages.push(page);
  return pages;
}

describe('readOrderIds of SQLite', () => {
  it.each([1, 3, 7, 8, 100])(
    'readOrderIds, in pages of %i, returns every id once, in order',
    async (size) => {
      const repository = openSqliteOrderRepository(file);
      const orders = Array.from({ length: 7 }, () => anOrder({ orderId: randomUUID() }));
      await repository.saveAll(orders);
      const pages = await read(size);
      await repository.close();
      expect(pages.flat().map(({ orderId }) => orderId)).toEqual(
        orders.map(({ order }) => order.orderId).sort(),
      );
      expect(Math.max(...pages.map(({ length }) => length))).toBe(Math.min(size, 7));
      for (const { storedAtMs } of pages.flat())
        expect(Math.abs(Date.now() - storedAtMs)).toBeLessThan(60_000);
    },
  );

  it('readOrderIds, of a store whose consumer has stopped, reads it', async () => {
    const repository = openSqliteOrderRepository(file);
    await repository.saveAll([anOrder()]);
    await repository.close();
    expect((await read()).flat()).toHaveLength(1);
  });

  it('readOrderIds, while orders are being stored, does not hold up the writer', async () => {
    const repository = openSqliteOrderRepository(file, { busyTimeoutMs: 1 });
    await repository.saveAll(Array.from({ length: 10 }, () => anOrder({ orderId: randomUUID() })));
    let seen = 0;
    for await (const page of readOrderIds(`sqlite:${file}`, { pageOrders: 4 })) {
      seen += page.length;
      expect(
        resultsOf(await repository.saveAll([anOrder({ orderId: `0${randomUUID().slice(1)}` })])),
      ).toEqual(['stored']);
    }
    await repository.close();
    expect(seen).toBeGreaterThanOrEqual(10);
  });

  it('readOrderIds, of a file that is not there, says so and creates none', async () => {
    await expect(read()).rejects.toThrow(StartupError);
    await expect(read()).rejects.toThrow(/^DATABASE_URL: cannot open sqlite:/);
    expect(existsSync(file)).toBe(false);
    expect(await readdir(folder)).toEqual([]);
  });

  it('readOrderIds, of a store of this release, says whose each order is; of an earlier one, that nobody said so', async () => {
    const repository = openSqliteOrderRepository(file);
    await repository.saveAll([anOrder({ orderId: randomUUID() }), { ...anOrder(), clientId: 'shop-a' }]);
    await repository.close();
    const clients = async () => (await read()).flat().map(({ clientId }) => clientId ?? 'nobody');
    expect((await clients()).sort()).toEqual(['nobody', 'shop-a']);
    const db = new DatabaseSync(file);
    const indexes = db
      .prepare(`SELECT name FROM sqlite_schema WHERE type = 'index' AND sql LIKE '%client_id%'`)
      .all();
    for (const { name } of indexes) db.exec(`DROP INDEX "${name}"`);
    db.exec('ALTER TABLE orders DROP COLUMN client_id');
    db.close();
    expect(await clients()).toEqual(['nobody', 'nobody']);
  });

  it('readOrderIds, of a store in memory, says that it cannot', async () => {
    await expect(read(1, 'sqlite::memory:')).rejects.toThrow(StartupError);
  });
});
