import { expect, test } from 'vitest';
import { Places } from './places.ts';
import { WorkLimit } from './work-limit.ts';

test('places, when two wait for the same free ones, go to one of them and the other goes on waiting', async () => {
  const places = new Places(new WorkLimit(10, 10));
  const stop = new AbortController();
  expect(await places.take(10, stop.signal)).toBe(10);
  const first = places.take(10, stop.signal);
  const second = places.take(10, stop.signal);
  places.give(10);
  expect(await first).toBe(10);
  places.give(3);
  expect(await second).toBe(3);
  const third = places.take(1, stop.signal);
  stop.abort();
  expect(await third).toBe(0);
});
