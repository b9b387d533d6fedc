import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { PollerScale } from './poller-scale.ts';

const never = new AbortController().signal;
const full = { asked: 10, received: 10 };
const half = { asked: 10, received: 5 };
const few = { asked: 10, received: 4 };
const empty = { asked: 10, received: 0 };

describe('poller scale', () => {
  test.each([
    { polls: [], active: 1 },
    { polls: [full], active: 2 },
    { polls: [half], active: 2 },
    { polls: [few], active: 1 },
    { polls: [full, few, few], active: 2 },
    { polls: [full, full, full, full], active: 3 },
    { polls: [full, full, empty], active: 2 },
    { polls: [full, empty, empty, empty], active: 1 },
  ])('after $polls.length polls, $active are wanted', ({ polls, active }) => {
    const scale = new PollerScale(3);
    for (const poll of polls) scale.polled(poll);
    expect(scale.active).toBe(active);
  });

  test('a poller that is not wanted waits until polls come back full, or the end', async () => {
    const scale = new PollerScale(3);
    const stop = new AbortController();
    const admitted: string[] = [];
    const second = scale.wanted(1, never).then(() => admitted.push('second'));
    const third = scale.wanted(2, stop.signal).then(() => admitted.push('third'));
    await scale.wanted(0, never);
    scale.polled(few);
    await setImmediate();
    expect(admitted).toEqual([]);
    scale.polled(full);
    await second;
    expect(admitted).toEqual(['second']);
    stop.abort();
    await third;
  });
});
