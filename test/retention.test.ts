import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { openSqliteOrderRepository } from '@orders/consumer/adapters/sqlite-order-repository.ts';
import { contentHash } from '@orders/shared/order.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';

const script = path.join(import.meta.dirname, '..', 'scripts', 'retention.ts');

let folder: string;
let store: string;
let archive: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'retention-'));
  store = path.join(folder, 'orders.db');
  archive = path.join(folder, 'old.ndjson.gz');
});
afterEach(() => rm(folder, { recursive: true }));

const retention = (...args: string[]) =>
  promisify(execFile)(process.execPath, [script, ...args], {
    env: { PATH: process.env['PATH'], DATABASE_URL: `sqlite:${store}` },
  });

/** So many orders, stored so many days ago. */
async function storeOrders(count: number, days: number): Promise<string[]> {
  const repository = openSqliteOrderRepository(store);
  const orders = Array.from({ length: count }, () => anOrder({ orderId: randomUUID() }));
  await repository.saveAll(
    orders.map((order) => ({ order, contentHash: contentHash(order), traceId: 'a'.repeat(32) })),
  );
  await repository.close();
  const ids = orders.map(({ orderId }) => orderId);
  using db = new DatabaseSync(store);
  db.prepare(
    "UPDATE orders SET stored_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?) WHERE order_id IN (SELECT value FROM json_each(?))",
  ).run(`-${days} days`, JSON.stringify(ids));
  return ids;
}

function storedIds(): string[] {
  using db = new DatabaseSync(store);
  return db
    .prepare('SELECT order_id FROM orders')
    .all()
    .map((row) => String(row['order_id']));
}

const archivedIds = async () =>
  zlib
    .gunzipSync(await readFile(archive))
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).order.orderId as string);

test('retention, moves what is old into the archive and leaves the rest, also when run again', async () => {
  const old = await storeOrders(2_500, 40);
  const fresh = await storeOrders(300, 20);
  const { stdout } = await retention('--keep-days=30', `--archive=${archive}`);
  expect(stdout).toMatch(/^2500 orders of before .* moved to /);
  expect(storedIds().toSorted()).toEqual(fresh.toSorted());
  expect((await archivedIds()).toSorted()).toEqual(old.toSorted());

  const older = await storeOrders(10, 50);
  await retention('--keep-days=30', `--archive=${archive}`);
  expect(storedIds().toSorted()).toEqual(fresh.toSorted());
  expect((await archivedIds()).toSorted()).toEqual([...old, ...older].toSorted());
});

test('retention, where the archive cannot be written, or only asked, removes nothing', async () => {
  const old = await storeOrders(5, 40);
  await expect(retention('--keep-days=30', `--archive=${folder}/none/old.gz`)).rejects.toThrow('ENOENT');
  const { stdout } = await retention('--keep-days=30', `--archive=${archive}`, '--dry-run');
  expect(stdout).toMatch(/^5 orders of before .* would be moved/);
  expect(storedIds().toSorted()).toEqual(old.toSorted());
});

test('retention, asked to keep less than what finds duplicates, refuses', async () => {
  await expect(retention('--keep-days=29', `--archive=${archive}`)).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('at least 30'),
  });
});
