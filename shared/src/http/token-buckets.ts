import { LRUCache } from 'lru-cache';

/** Those used longest ago are forgotten, that is full again. One takes about 100 bytes. */
const MAX_BUCKETS = 10_000;
/** Less is a rounding error. */
const MIN_WAIT_MS = 0.001;

/**
 * A bucket of tokens per key. It fills at a steady rate, and whoever takes more than it holds waits. One number is kept per
 * bucket, the time at which it is full, as by the generic cell rate algorithm (ITU-T I.371).
 */
export class TokenBuckets {
  readonly #fullAtMs = new LRUCache<string, number>({ max: MAX_BUCKETS });
  readonly #msPerToken: number;
  readonly #fillMs: number;

  constructor({ capacity, perSecond }: { capacity: number; perSecond: number }) {
    this.#msPerToken = 1_000 / perSecond;
    this.#fillMs = capacity * this.#msPerToken;
  }

  /**
   * How long until so many can be taken; 0 for now. More than a bucket holds can be taken from a full one, which then owes
   * the rest.
   */
  waitMs(key: string, tokens: number): number {
    const neededMs = Math.min(tokens * this.#msPerToken, this.#fillMs);
    const waitMs = neededMs - (this.#fillMs - this.#missingMs(key));
    return waitMs < MIN_WAIT_MS ? 0 : waitMs;
  }

  /** @param tokens less than 0 gives them back */
  take(key: string, tokens: number): void {
    this.#fullAtMs.set(key, performance.now() + this.#missingMs(key) + tokens * this.#msPerToken);
  }

  /** What is left, and after how many seconds the bucket is full. */
  state(key: string): { left: number; fullInSeconds: number } {
    const missingMs = this.#missingMs(key);
    return {
      left: Math.max(0, Math.floor((this.#fillMs - missingMs + MIN_WAIT_MS) / this.#msPerToken)),
      fullInSeconds: Math.ceil(missingMs / 1_000),
    };
  }

  get size(): number {
    return this.#fullAtMs.size;
  }

  #missingMs(key: string): number {
    return Math.max(0, (this.#fullAtMs.get(key) ?? 0) - performance.now());
  }
}
