import { describe, expect, test } from 'vitest';
import { PollerScale } from './poller-scale.ts';

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
    for (const poll of polls) scale.recordPoll(poll);
    expect([0, 1, 2].filter((poller) => scale.wants(poller))).toHaveLength(active);
  });
});
