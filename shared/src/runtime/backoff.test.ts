import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { backoffMs, randomBetween } from './backoff.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('backoffMs', () => {
  it.each([
    [0, 50],
    [1, 100],
    [3, 400],
    [5, 1_000],
    [10_000, 1_000],
  ])('backoffMs, of attempt %i, lies between half and all of %i ms', (attempt, ceilingMs) => {
    const random = vi.spyOn(Math, 'random');
    random.mockReturnValue(0);
    expect(backoffMs(attempt, { baseMs: 50, maxMs: 1_000 })).toBe(ceilingMs / 2);
    random.mockReturnValue(1 - Number.EPSILON / 2);
    expect(backoffMs(attempt, { baseMs: 50, maxMs: 1_000 })).toBeCloseTo(ceilingMs, 6);
  });

  it('backoffMs, of anything, never exceeds its maximum and never is zero', () => {
    const milliseconds = fc.integer({ min: 1, max: 1_000_000 });
    fc.assert(
      fc.property(fc.nat(), milliseconds, milliseconds, (attempt, baseMs, maxMs) => {
        const delayMs = backoffMs(attempt, { baseMs, maxMs });
        expect(delayMs).toBeGreaterThanOrEqual(Math.min(baseMs, maxMs) / 2);
        expect(delayMs).toBeLessThanOrEqual(maxMs);
      }),
    );
  });

  it('backoffMs, given many callers at once, spreads them', () => {
    const delays = new Set(Array.from({ length: 20 }, () => backoffMs(3, { baseMs: 50, maxMs: 1_000 })));
    expect(delays.size).toBeGreaterThan(1);
  });
});

describe('randomBetween', () => {
  it('randomBetween, given two bounds, stays between them', () => {
    const random = vi.spyOn(Math, 'random').mockReturnValue(0);
    expect(randomBetween(30, 60)).toBe(30);
    random.mockReturnValue(0.5);
    expect(randomBetween(30, 60)).toBe(45);
  });
});
