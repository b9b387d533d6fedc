import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { StoredOrder } from '@orders/consumer/domain/order-repository.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { archiveOfRun, archivesOf, readArchive, salvageArchive, writeArchive } from './archive.ts';

const BEGAN = new Date('2026-11-27T00:15:00.123Z');

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'archive-'));
});
afterEach(() => rm(folder, { recursive: true }));

const at = (name: string) => path.join(folder, name);
const idOf = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const orders = (from: number, to: number): StoredOrder[] =>
  Array.from({ length: to - from }, (_, n) => ({
    order: anOrder({ orderId: idOf(from + n) }),
    contentHash: `v1:${'0'.repeat(64)}`,
    traceId: '',
    storedAt: BEGAN,
  }));
async function* pagesOf(...pages: StoredOrder[][]) {
  yield* pages;
}
const member = (from: number, to: number) =>
  gzipSync(
    orders(from, to)
      .map((order) => `${JSON.stringify(order)}\n`)
      .join(''),
  );
const range = (from: number, to: number) => orders(from, to).map(({ order }) => order.orderId);

/** The ids that can be read, and what cannot be. */
async function salvage(file: string) {
  const found = { ids: [] as string[], garbled: 0, unreadableBytes: 0 };
  const lines = salvageArchive(file, (bytes) => {
    found.unreadableBytes += bytes;
  });
  for await (const some of lines)
    for (const line of some) {
      try {
        found.ids.push(JSON.parse(line).order.orderId);
      } catch {
        found.garbled++;
      }
    }
  return found;
}

describe('archives', () => {
  it.each([
    ['old.gz', 'old-20261127T001500123Z.gz'],
    ['a/old.orders.ndjson.gz', 'a/old-20261127T001500123Z.orders.ndjson.gz'],
    ['plain', 'plain-20261127T001500123Z'],
    ['.hidden.gz', '.hidden-20261127T001500123Z.gz'],
    ['there', 'there/orders-20261127T001500123Z.ndjson.gz'],
  ])('archiveOfRun, of %s, is %s', async (archive, expected) => {
    await mkdir(at('there'));
    expect(archiveOfRun(at(archive), BEGAN)).toBe(at(expected));
  });

  it('archivesOf, of a name, gives the file of each run, and no others', async () => {
    for (const name of [
      'old.gz',
      'old-20261127T001500123Z.gz',
      'old-20251127T001500123Z.gz',
      'old-20261127T001500123Z.gz.part',
      'old-letters.gz',
      'older-20261127T001500123Z.gz',
    ])
      await writeFile(at(name), '');
    const expected = ['old.gz', 'old-20251127T001500123Z.gz', 'old-20261127T001500123Z.gz'].map(at);
    expect(archivesOf(at('old.gz'))).toEqual(expected);
    expect(archivesOf(at('old-20261127T001500123Z.gz'))).toEqual(expected.slice(2));
    expect(archivesOf(at('none.gz'))).toEqual([]);
  });

  it('writeArchive, of pages of orders, leaves one file under its name that holds them all', async () => {
    const file = at('old.gz');
    expect(await writeArchive(file, pagesOf(orders(0, 1_000), orders(1_000, 1_500)))).toBe(1_500);
    expect(await readdir(folder)).toEqual(['old.gz']);
    const lines: string[] = [];
    for await (const some of readArchive(file)) lines.push(...some);
    expect(lines.map((line) => JSON.parse(line).order.orderId)).toEqual(range(0, 1_500));
  });

  it('writeArchive, of a file that is there, refuses and leaves it as it was', async () => {
    await writeFile(at('old.gz'), 'precious');
    await expect(writeArchive(at('old.gz'), pagesOf(orders(0, 1)))).rejects.toThrow('is there already');
    expect(await readFile(at('old.gz'), 'utf8')).toBe('precious');
  });

  it('writeArchive, when the store fails half-way, leaves no file', async () => {
    async function* failing() {
      yield orders(0, 1_000);
      throw new Error('the store is gone');
    }
    await expect(writeArchive(at('old.gz'), failing())).rejects.toThrow('the store is gone');
    expect(await readdir(folder)).toEqual([]);
  });

  it('salvageArchive, of a part that was cut and others behind it, reads all but the line that was cut', async () => {
    const cut = member(1_000, 2_000);
    await writeFile(
      at('old.gz'),
      Buffer.concat([member(0, 1_000), cut.subarray(0, cut.length / 2), member(2_000, 3_000)]),
    );
    expect(() => gunzipSync(Buffer.concat([cut.subarray(0, cut.length / 2), member(0, 1)]))).toThrow();
    const { ids, garbled } = await salvage(at('old.gz'));
    expect(ids).toEqual(expect.arrayContaining([...range(0, 1_000), ...range(2_000, 3_000)]));
    expect(ids.length).toBeGreaterThan(2_100);
    expect(new Set(ids).size).toBe(ids.length);
    expect(garbled).toBe(1);
  });

  it('salvageArchive, of a part in which bytes changed, tells how many it could not read, and reads the others', async () => {
    const damaged = member(0, 1_000);
    damaged.fill(0xff, 200, 300);
    await writeFile(at('old.gz'), Buffer.concat([damaged, member(1_000, 1_010)]));
    const { ids, unreadableBytes } = await salvage(at('old.gz'));
    expect(ids.slice(-10)).toEqual(range(1_000, 1_010));
    expect(unreadableBytes).toBeGreaterThan(0);
  });
});
