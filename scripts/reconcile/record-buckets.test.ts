import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BUCKETS, createBucketOf, RecordBuckets } from './record-buckets.ts';

const RECORD_BYTES = 57;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'record-buckets-'));
  vi.stubEnv('TMPDIR', folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

describe('RecordBuckets', () => {
  it('read, of a bucket of several blocks beside others, gives its records in the order in which they came', () => {
    const bucketOf = createBucketOf();
    const buckets = new RecordBuckets(RECORD_BYTES, bucketOf);
    const crowded = randomBytes(16);
    const added: Buffer[] = [];
    for (let n = 0; n < 3_000; n++) {
      const record = Buffer.concat([n % 3 === 0 ? randomBytes(16) : crowded, randomBytes(RECORD_BYTES - 16)]);
      buckets.add(record);
      added.push(record);
    }
    buckets.finish();
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const expected = Buffer.concat(added.filter((record) => bucketOf(record) === bucket));
      expect(buckets.read(bucket).equals(expected)).toBe(true);
    }
    buckets.close();
  });

  it('open, leaves nothing in the folder of temporary files, however the process ends', () => {
    const buckets = new RecordBuckets(RECORD_BYTES, createBucketOf());
    expect(existsSync(folder)).toBe(true);
    expect(readdirSync(folder)).toEqual([]);
    buckets.close();
  });

  it('bucketOf, of ids that follow one another, fills the buckets evenly', () => {
    const bucketOf = createBucketOf();
    const counts = new Uint32Array(BUCKETS);
    const record = Buffer.alloc(RECORD_BYTES);
    for (let n = 0; n < BUCKETS * 100; n++) {
      record.writeUInt32BE(n, 12);
      const bucket = bucketOf(record);
      counts[bucket] = (counts[bucket] as number) + 1;
    }
    expect(Math.max(...counts)).toBeLessThan(1_000);
  });
});
