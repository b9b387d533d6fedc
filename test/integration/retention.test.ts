import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { openOldOrders } from '@orders/consumer/adapters/old-orders.ts';
import { openSqliteOrderRepository } from '@orders/consumer/adapters/sqlite-order-repository.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';

const script = path.join(import.meta.dirname, '..', '..', 'scripts', 'retention.ts');

let folder: string;
let store: string;
let archive: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'retention-'));
  store = path.join(folder, 'orders.db');
  archive = path.join(folder, 'old.ndjson.gz');
});
afterEach(() => rm(folder, { recursive: true }));

const envOf = (overrides: Record<string, string | undefined> = {}) => ({
  PATH: process.env['PATH'],
  DATABASE_URL: `sqlite:${store}`,
  ...overrides,
});
const run = promisify(execFile);
const retention = (...args: string[]) => run(process.execPath, [script, ...args], { env: envOf() });

/** So many orders, stored so many days ago. */
async function storeOrders(
  count: number,
  days: number,
  fields: Parameters<typeof anOrder>[0] = {},
): Promise<string[]> {
  const repository = openSqliteOrderRepository(store);
  const orders = Array.from({ length: count }, () => anOrder({ ...fields, orderId: randomUUID() }));
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

/** The files of all runs, each read by itself: none may need another to be read. */
async function archivedIds(): Promise<string[]> {
  const files = (await readdir(folder)).filter((name) => name.endsWith('.gz'));
  const texts = await Promise.all(
    files.map(async (name) => zlib.gunzipSync(await readFile(path.join(folder, name))).toString()),
  );
  return texts.flatMap((text) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).order.orderId as string),
  );
}

test('retention, moves what is old into an archive of its own each run, and leaves the rest', async () => {
  const old = await storeOrders(2_500, 40);
  const fresh = await storeOrders(300, 20);
  const { stdout } = await retention('--keep-days=30', `--archive=${archive}`);
  expect(stdout).toMatch(/^2500 orders of before .* moved to \/.*\/old-\d{8}T\d{9}Z\.ndjson\.gz\n$/);
  expect(storedIds().toSorted()).toEqual(fresh.toSorted());
  expect((await archivedIds()).toSorted()).toEqual(old.toSorted());

  const older = await storeOrders(10, 50);
  await retention('--keep-days=30', `--archive=${archive}`);
  expect(storedIds().toSorted()).toEqual(fresh.toSorted());
  expect((await archivedIds()).toSorted()).toEqual([...old, ...older].toSorted());
  expect(await readdir(folder)).toEqual(
    expect.arrayContaining(Array(2).fill(expect.stringMatching(/^old-.*\.gz$/))),
  );
  expect((await readdir(folder)).filter((name) => name.includes('gz'))).toHaveLength(2);
});

test('retention, of nothing old, writes no archive', async () => {
  await storeOrders(3, 20);
  const { stdout } = await retention('--keep-days=30', `--archive=${folder}`);
  expect(stdout).toMatch(/^0 orders of before .*: nothing to move\n$/);
  expect((await readdir(folder)).filter((name) => name.includes('gz'))).toEqual([]);
});

test('retention, when the disk is full half-way, removes nothing, and the next run archives all', async () => {
  const old = await storeOrders(4_000, 40);
  // Files may have 64 KiB here, which the store has already and the archive has not.
  const limited = ['-c', `ulimit -f 64; exec "$@"`, 'bash', process.execPath, script];
  const args = ['--keep-days=30', `--archive=${archive}`];
  await expect(run('bash', [...limited, ...args], { env: envOf() })).rejects.toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/EFBIG.*nothing was removed.*run it again/s),
  });
  expect(storedIds()).toHaveLength(4_000);
  expect((await readdir(folder)).filter((name) => name.includes('gz'))).toEqual([]);

  await retention(...args);
  expect(storedIds()).toEqual([]);
  expect((await archivedIds()).toSorted()).toEqual(old.toSorted());
});

test("retention, while another one runs, is refused; killed, that one is in nobody's way", async () => {
  await storeOrders(5, 40);
  // It waits for the store with its archive written, and then stands still.
  using db = new DatabaseSync(store);
  db.exec('BEGIN IMMEDIATE');
  const args = ['--keep-days=30', `--archive=${archive}`];
  const first = spawn(process.execPath, [script, ...args], { env: envOf(), stdio: 'ignore' });
  const ended = once(first, 'exit');
  await eventually(async () => expect(await readdir(folder)).toContainEqual(expect.stringMatching(/\.gz$/)));
  first.kill('SIGSTOP');
  await expect(retention(...args)).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('another run of retention'),
  });
  first.kill('SIGKILL');
  await ended;
  db.exec('ROLLBACK');
  await retention(...args);
  expect(storedIds()).toEqual([]);
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
    stderr: expect.stringContaining('whole number from 30'),
  });
});

test('retention, of orders that together are larger than its memory, moves them', async () => {
  // One alone has 2 MB in memory, since Korean takes two bytes per character there.
  const name = '가'.repeat(256);
  const items = Array.from({ length: 1_000 }, (_, n) => ({
    productId: `${n}`,
    name,
    quantity: 1,
    unitPrice: 1,
  }));
  const old = await storeOrders(80, 40, { items, totalAmount: 1_000 });
  const limited = ['--max-old-space-size=96', script, '--keep-days=30', `--archive=${archive}`];
  await run(process.execPath, limited, { env: envOf() });
  expect(storedIds()).toEqual([]);
  expect((await archivedIds()).toSorted()).toEqual(old.toSorted());
});

test('retention, by a link to the store, is refused as well while another one runs', async () => {
  await storeOrders(5, 40);
  const link = path.join(folder, 'link.db');
  await symlink(store, link);
  const runs = await openOldOrders(`sqlite:${store}`, 30);
  const args = [script, '--keep-days=30', `--archive=${archive}`];
  const second = run(process.execPath, args, { env: envOf({ DATABASE_URL: `sqlite:${link}` }) });
  await expect(second).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('another run') });
  await runs.close();
});

test('retention, told a folder that is not there, refuses, and makes no file of that name', async () => {
  await storeOrders(5, 40);
  await expect(retention('--keep-days=30', `--archive=${folder}/missing/`)).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^--archive: there is no folder .*missing\n/),
  });
  expect(storedIds()).toHaveLength(5);
});

test('retention, of a store that is not there, refuses and creates none', async () => {
  await expect(retention('--keep-days=30', `--archive=${archive}`)).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^DATABASE_URL: cannot open sqlite:.*orders\.db/),
  });
  expect(await readdir(folder)).toEqual([]);
});

test('retention, outside of development and without DATABASE_URL, refuses', async () => {
  const env = envOf({ APP_ENV: 'production', DATABASE_URL: undefined });
  const args = [script, '--keep-days=30', `--archive=${archive}`];
  await expect(run(process.execPath, args, { env, cwd: folder })).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^DATABASE_URL is not set: .*production/),
  });
  expect(existsSync(path.join(folder, '.data'))).toBe(false);
});
