import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { WorkLimit } from './work-limit.ts';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

/** Lets batches of ten through a store, as many at once as the limit allows. @returns messages a second */
function work(limit: WorkLimit, seconds: number, latencyMs: (batches: number) => number): number {
  const end = performance.now() + seconds * 1_000;
  let messages = 0;
  while (performance.now() < end) {
    const batches = Math.max(1, Math.floor(limit.value / 10));
    vi.advanceTimersByTime(latencyMs(batches) / batches);
    limit.recordWait();
    limit.recordStored(10);
    messages += 10;
  }
  return messages / seconds;
}

/** Up to the knee all are as fast as one; beyond, they are in each other's way. */
const storeOf = (baseMs: number, knee: number) => (batches: number) =>
  baseMs * Math.max(1, batches / knee) ** 1.5;

test('work limit, of least and most alike, stays', () => {
  const limit = new WorkLimit(10, 10);
  work(limit, 2, storeOf(5, 4));
  expect(limit.value).toBe(10);
});

test('work limit, when the store becomes slow and quick again, processes more than any fixed limit', () => {
  const steps = [storeOf(5, 4), storeOf(50, 20), storeOf(5, 4)];
  const backlog = 20_000;
  /** How long it takes to process the backlog in each state of the store. */
  const timeOf = (limit: WorkLimit) => {
    let seconds = 0;
    for (const store of steps) {
      let left = backlog;
      while (left > 0) {
        left -= work(limit, 0.1, store) * 0.1;
        seconds += 0.1;
      }
    }
    return seconds;
  };
  const fixed = [10, 20, 40, 60, 80, 100, 150, 200, 400].map((most) => timeOf(new WorkLimit(most, most)));
  expect(timeOf(new WorkLimit(10, 500))).toBeLessThan(Math.min(...fixed));
});

test('work limit, while it is not reached, stays where it is', () => {
  const limit = new WorkLimit(10, 500);
  work(limit, 2, storeOf(5, 4));
  const before = limit.value;
  for (let n = 0; n < 100; n++) {
    vi.advanceTimersByTime(50);
    limit.recordStored(1);
  }
  // What was under way in the first window still counts.
  expect(Math.abs(limit.value / before - 1)).toBeLessThan(0.3);
});

test('work limit, never leaves its bounds', () => {
  const limit = new WorkLimit(10, 100);
  const seen: number[] = [];
  for (let n = 0; n < 200; n++) {
    work(limit, 0.1, storeOf(5 + (n % 7) * 10, 1 + (n % 5) * 10));
    seen.push(limit.value);
  }
  expect(Math.min(...seen)).toBeGreaterThanOrEqual(10);
  expect(Math.max(...seen)).toBeLessThanOrEqual(100);
});

test('work limit, of a store whose every answer takes seconds, climbs all the same', () => {
  const limit = new WorkLimit(10, 100);
  work(limit, 600, storeOf(5_000, 20));
  expect(limit.value).toBeGreaterThan(50);
});
