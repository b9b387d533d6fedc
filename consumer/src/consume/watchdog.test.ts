import { afterEach, expect, test, vi } from 'vitest';
import { Watchdog } from './watchdog.ts';

afterEach(() => void vi.useRealTimers());

test('watchdog, when an activity misses its deadline, names it until it moves or ends', () => {
  vi.useFakeTimers();
  const watchdog = new Watchdog();
  watchdog.expect('poller-0', 1_000);
  watchdog.expect('batch-7', 5_000);
  vi.advanceTimersByTime(1_001);
  expect(watchdog.overdue()).toEqual(['poller-0']);
  watchdog.expect('poller-0', 1_000);
  expect(watchdog.overdue()).toEqual([]);
  vi.advanceTimersByTime(6_000);
  watchdog.done('poller-0');
  watchdog.done('batch-7');
  expect(watchdog.overdue()).toEqual([]);
});
