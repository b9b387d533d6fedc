import { expect, test } from 'vitest';
import { Ramp } from './ramp.ts';

/** Sends what there is room for until nothing is left or it closes; outcomes come in the order of the sends. */
function drive(ramp: Ramp, messages: number, isBad: (n: number) => boolean) {
  const rooms: number[] = [];
  let sent = 0;
  let settled = 0;
  while (settled < messages) {
    const room = Math.min(ramp.room(), messages - sent);
    if (room > 0) rooms.push(room);
    sent += room;
    ramp.sent(room);
    if (settled === sent) break;
    ramp.settled(isBad(settled++));
  }
  return { sent, rooms };
}

test('ramp, while all goes well, lets 1, 2, 5 and 20 through, then as many as one likes', () => {
  const { sent, rooms } = drive(new Ramp({ maxFailingShare: 0.1 }), 1_000, () => false);
  expect(sent).toBe(1_000);
  expect(rooms.slice(0, 4)).toEqual([1, 1, 3, 15]);
  expect(rooms[4]).toBe(500);
});

test('ramp, of a step of which an outcome is open, has no room', () => {
  const ramp = new Ramp({ maxFailingShare: 0.1 });
  ramp.sent(1);
  expect(ramp.room()).toBe(0);
  ramp.settled(false);
  expect(ramp.room()).toBe(1);
});

test.each([
  ['all fail', () => true, 1],
  ['the second half of a step fails', (n: number) => n >= 3, 5],
  ['every fifth fails', (n: number) => n % 5 === 4, 20],
])('ramp, when %s, closes after at most 20', (_, isBad, most) => {
  const ramp = new Ramp({ maxFailingShare: 0.1 });
  expect(drive(ramp, 1_000, isBad).sent).toBeLessThanOrEqual(most);
  expect(ramp.isFailing()).toBe(true);
  expect(ramp.room()).toBe(0);
});

test('ramp, when failures begin behind it, closes by the last outcomes, not by all', () => {
  const ramp = new Ramp({ maxFailingShare: 0.1 });
  const { sent } = drive(ramp, 100_000, (n) => n >= 10_000);
  expect(ramp.isFailing()).toBe(true);
  expect(sent).toBeLessThan(10_000 + 600);
});

test('ramp, with a share of single failures that is allowed, stays open', () => {
  const ramp = new Ramp({ maxFailingShare: 0.1 });
  expect(drive(ramp, 5_000, (n) => n > 20 && n % 20 === 0).sent).toBe(5_000);
  expect(drive(new Ramp({ maxFailingShare: 1 }), 100, () => true).sent).toBe(100);
});
