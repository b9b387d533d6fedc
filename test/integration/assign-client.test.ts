import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { openOldOrders } from '@orders/consumer/adapters/old-orders.ts';
import { openSqliteOrderRepository } from '@orders/consumer/adapters/sqlite-order-repository.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';

const script = path.join(import.meta.dirname, '..', '..', 'scripts', 'assign-client.ts');
const run = promisify(execFile);

let folder: string;
let store: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'assign-client-'));
  store = path.join(folder, 'orders.db');
});
afterEach(() => rm(folder, { recursive: true }));

const assignClient = (...args: string[]) =>
  run(process.execPath, [script, ...args], {
    env: { PATH: process.env['PATH'], DATABASE_URL: `sqlite:${store}` },
  });

/** So many orders of each customer, without an owner or of that one. */
async function storeOrders(counts: Readonly<Record<string, number>>, clientId?: string): Promise<void> {
  const repository = openSqliteOrderRepository(store);
  for (const [customerId, count] of Object.entries(counts)) {
    const orders = Array.from({ length: count }, () => anOrder({ customerId, orderId: randomUUID() }));
    await repository.saveAll(
      orders.map((order) => ({ order, contentHash: contentHash(order), traceId: 'a'.repeat(32), clientId })),
    );
  }
  await repository.close();
}

/** How many orders of that customer that client sees. */
async function seenBy(ownedBy: string, customerId: string): Promise<number> {
  const repository = openSqliteOrderRepository(store);
  const found = await repository.findByCustomer(customerId, { limit: 5_000, ownedBy });
  await repository.close();
  return found.length;
}

test('assign-client, told a customer, gives its orders of nobody to the client and leaves all others', async () => {
  await storeOrders({ 'C-1': 2_500, 'C-2': 3 });
  await storeOrders({ 'C-1': 4 }, 'other-shop');
  const { stdout: told } = await assignClient('web-shop', '--customer=C-1', '--dry-run');
  expect(told).toBe("2500 orders of nobody would be given to web-shop; 3 others would stay nobody's\n");
  expect(await seenBy('web-shop', 'C-1')).toBe(0);
  const { stdout } = await assignClient('web-shop', '--customer=C-1');
  expect(stdout).toBe("2500 orders of nobody were given to web-shop; 3 others are still nobody's\n");
  expect(await seenBy('web-shop', 'C-1')).toBe(2_500);
  expect(await seenBy('other-shop', 'C-1')).toBe(4);
  expect(await seenBy('web-shop', 'C-2')).toBe(0);
  const { stdout: again } = await assignClient('web-shop', '--customer=C-1');
  expect(again).toBe("0 orders of nobody were given to web-shop; 3 others are still nobody's\n");
});

test('assign-client, told a prefix, takes it to the letter', async () => {
  await storeOrders({ 'shop%1': 2, shop_1: 3, 'SHOP%1': 5 });
  await assignClient('web-shop', '--customer-prefix=shop%');
  expect(await Promise.all(['shop%1', 'shop_1', 'SHOP%1'].map((id) => seenBy('web-shop', id)))).toEqual([
    2, 0, 0,
  ]);
});

test('assign-client, not told which orders, or told twice, does nothing and exits with 2', async () => {
  await storeOrders({ 'C-1': 1 });
  for (const wrong of [[], ['--all', '--customer=C-1'], ['--customer='], ['--all', 'production']])
    await expect(assignClient('web-shop', ...wrong)).rejects.toMatchObject({ code: 2 });
  await expect(assignClient('no name', '--all')).rejects.toMatchObject({ code: 2 });
  expect(await seenBy('web-shop', 'C-1')).toBe(0);
});

test('assign-client, while retention is at work, refuses, and the reverse', async () => {
  await storeOrders({ 'C-1': 1 });
  const old = await openOldOrders(`sqlite:${store}`, 30);
  await expect(assignClient('web-shop', '--all')).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('another run of retention or of assign-client is at work there'),
  });
  await old.close();
  await assignClient('web-shop', '--all');
  expect(await seenBy('web-shop', 'C-1')).toBe(1);
});

test('assign-client, of a store that is not there, says so and makes none', async () => {
  await expect(assignClient('web-shop', '--all')).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('cannot open'),
  });
});
