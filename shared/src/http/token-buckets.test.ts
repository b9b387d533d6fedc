import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TokenBuckets } from './token-buckets.ts';

describe('TokenBuckets', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** Takes one token after the other for as long as there is one. */
  const drain = (buckets: TokenBuckets, key: string) => {
    let taken = 0;
    while (buckets.waitMs(key, 1) === 0 && taken < 100_000) {
      buckets.take(key, 1);
      taken++;
    }
    return taken;
  };

  it.each([
    [1, 1],
    [3, 3],
    [7, 20],
    [1_000, 500],
  ])('%d per second with room for %d, hold as many and fill at that rate', (perSecond, capacity) => {
    const buckets = new TokenBuckets({ capacity, perSecond });
    expect(drain(buckets, 'a')).toBe(capacity);
    expect(buckets.waitMs('a', 1)).toBeCloseTo(1_000 / perSecond);
    vi.advanceTimersByTime(1_000);
    expect(drain(buckets, 'a')).toBe(Math.min(capacity, perSecond));
    vi.advanceTimersByTime(3_600_000);
    expect(drain(buckets, 'a')).toBe(capacity);
  });

  it('one key does not take from another', () => {
    const buckets = new TokenBuckets({ capacity: 2, perSecond: 1 });
    drain(buckets, 'a');
    expect(buckets.waitMs('b', 2)).toBe(0);
  });

  it('more than a bucket holds, are taken from a full one, which owes the rest', () => {
    const buckets = new TokenBuckets({ capacity: 10, perSecond: 10 });
    expect(buckets.waitMs('a', 50)).toBe(0);
    buckets.take('a', 50);
    expect(buckets.state('a')).toEqual({ left: 0, fullInSeconds: 5 });
    expect(buckets.waitMs('a', 1)).toBeCloseTo(4_100);
    expect(buckets.waitMs('a', 50)).toBeCloseTo(5_000);
    vi.advanceTimersByTime(4_100);
    expect(buckets.waitMs('a', 1)).toBe(0);
  });

  it('more than are left, are taken none, and waited for', () => {
    const buckets = new TokenBuckets({ capacity: 10, perSecond: 10 });
    buckets.take('a', 8);
    expect(buckets.state('a')).toEqual({ left: 2, fullInSeconds: 1 });
    expect(buckets.waitMs('a', 5)).toBeCloseTo(300);
    expect(buckets.waitMs('a', 2)).toBe(0);
  });

  it('what is given back, can be taken again, and does not fill a bucket beyond its size', () => {
    const buckets = new TokenBuckets({ capacity: 10, perSecond: 10 });
    buckets.take('a', 10);
    buckets.take('a', -1);
    expect(drain(buckets, 'a')).toBe(1);
    buckets.take('b', -5);
    expect(drain(buckets, 'b')).toBe(10);
  });

  it('of any number of keys, remember a bounded number, those used last', () => {
    const buckets = new TokenBuckets({ capacity: 1, perSecond: 1 });
    for (let key = 0; key < 50_000; key++) buckets.take(`address ${key}`, 1);
    expect(buckets.size).toBeLessThanOrEqual(10_000);
    expect(buckets.waitMs('address 49999', 1)).toBeGreaterThan(0);
    expect(buckets.waitMs('address 0', 1)).toBe(0);
  });
});
