import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const BUCKET_BITS = 10;
export const BUCKETS = 2 ** BUCKET_BITS;
const BLOCK_BYTES = 12 * 1024;

/** Which bucket an id belongs to. The same for all that share it; ids that somebody chose do not crowd one bucket. */
export type BucketOf = (record: Buffer) => number;

export function createBucketOf(): BucketOf {
  const seed = randomBytes(16);
  const [a, b, c, d] = [0, 4, 8, 12].map((at) => seed.readUInt32LE(at) | 1) as [
    number,
    number,
    number,
    number,
  ];
  return (record) => {
    const sum =
      Math.imul(record.readUInt32LE(0), a) +
      Math.imul(record.readUInt32LE(4), b) +
      Math.imul(record.readUInt32LE(8), c) +
      Math.imul(record.readUInt32LE(12), d);
    return Math.imul(sum ^ (sum >>> 16), 0x9e3779b1) >>> (32 - BUCKET_BITS);
  };
}

/**
 * Records of one size, each beginning with an id of 16 bytes, kept on disk in {@link BUCKETS} parts: those of one id
 * are in one part, and a part fits into memory where the whole does not. The file has no name once it is open, so
 * nothing of it stays behind, however the process ends.
 */
export class RecordBuckets {
  readonly #recordBytes: number;
  readonly #bucketOf: BucketOf;
  readonly #file: number;
  readonly #buffers: Buffer[];
  readonly #used = new Uint32Array(BUCKETS);
  readonly #blocks: { at: number; bytes: number }[][] = Array.from({ length: BUCKETS }, () => []);
  #read = Buffer.alloc(0);
  #end = 0;

  constructor(recordBytes: number, bucketOf: BucketOf) {
    this.#recordBytes = recordBytes;
    this.#bucketOf = bucketOf;
    const blockBytes = Math.floor(BLOCK_BYTES / recordBytes) * recordBytes;
    this.#buffers = Array.from({ length: BUCKETS }, () => Buffer.allocUnsafeSlow(blockBytes));
    const folder = mkdtempSync(path.join(tmpdir(), 'order-reconcile-'));
    this.#file = openSync(path.join(folder, 'records'), 'wx+', 0o600);
    rmSync(folder, { recursive: true });
  }

  /** The record is copied. */
  add(record: Buffer): void {
    const bucket = this.#bucketOf(record);
    const buffer = this.#buffers[bucket] as Buffer;
    const used = this.#used[bucket] as number;
    record.copy(buffer, used, 0, this.#recordBytes);
    this.#used[bucket] = used + this.#recordBytes;
    if (this.#used[bucket] === buffer.length) this.#flush(bucket);
  }

  /** Writes out what is still in memory, which then is free for others. To be called before the first {@link read}. */
  finish(): void {
    for (let bucket = 0; bucket < BUCKETS; bucket++) this.#flush(bucket);
    this.#buffers.length = 0;
  }

  /** All records of a bucket, in the order in which they came. They are valid until the next call. */
  read(bucket: number): Buffer {
    const blocks = this.#blocks[bucket] ?? [];
    const bytes = blocks.reduce((sum, block) => sum + block.bytes, 0);
    if (this.#read.length < bytes) this.#read = Buffer.allocUnsafeSlow(Math.ceil(bytes * 1.25));
    const records = this.#read.subarray(0, bytes);
    let at = 0;
    for (const block of blocks) {
      for (let read = 0; read < block.bytes; )
        read += readSync(this.#file, records, at + read, block.bytes - read, block.at + read);
      at += block.bytes;
    }
    return records;
  }

  close(): void {
    closeSync(this.#file);
  }

  #flush(bucket: number): void {
    const bytes = this.#used[bucket] as number;
    if (bytes === 0) return;
    const buffer = this.#buffers[bucket] as Buffer;
    for (let written = 0; written < bytes; )
      written += writeSync(this.#file, buffer, written, bytes - written, this.#end + written);
    this.#blocks[bucket]?.push({ at: this.#end, bytes });
    this.#end += bytes;
    this.#used[bucket] = 0;
  }
}
