import { describe, expect, test } from 'vitest';
import { type Figures, judge, NO_FIGURES, stalled, worsened } from './judge.ts';
import { THRESHOLDS } from './thresholds.ts';

const of = (figures: Partial<Figures>): Figures => ({ ...NO_FIGURES, ...figures });
const steady = of({ handled: 1_000, seconds: 10, measured: 1_000 });
const verdict = (candidate: Partial<Figures>, stable = steady, watchIsOver = true) =>
  judge(of(candidate), stable, THRESHOLDS, watchIsOver).verdict;

describe('judge', () => {
  test.each<[string, Partial<Figures>, Figures, string]>([
    ['as good as stable', { handled: 100, seconds: 1, measured: 100 }, steady, 'go on'],
    ['without work', {}, steady, 'wait'],
    ['with less work than proves anything', { handled: THRESHOLDS.minHandled - 1 }, steady, 'wait'],
    ['with a failure or two, which may be chance', { handled: 30, failed: 2 }, steady, 'go on'],
    ['with failures', { handled: 100, failed: 3 }, steady, 'go back'],
    ['with failures before it has the work to pass', { handled: 3, failed: 3 }, steady, 'go back'],
    [
      'with as many failures as stable',
      { handled: 100, failed: 30 },
      of({ handled: 1_000, failed: 300 }),
      'go on',
    ],
    ['with dead letters', { handled: 1_000, deadLettered: 3 }, steady, 'go back'],
    [
      'with as many dead letters as stable',
      { handled: 1_000, deadLettered: 3 },
      of({ handled: 1_000, deadLettered: 3 }),
      'go on',
    ],
    ['that died once', { handled: 100, restarts: 1 }, steady, 'go back'],
    [
      'that takes three times as long',
      { handled: 100, seconds: 90, measured: 100 },
      of({ handled: 100, seconds: 30, measured: 100 }),
      'go back',
    ],
    [
      'that takes three times as long, of next to nothing',
      { handled: 100, seconds: 3, measured: 100 },
      steady,
      'go on',
    ],
    [
      'that is slow, with nothing to compare',
      { handled: 100, seconds: 30, measured: 100 },
      NO_FIGURES,
      'go back',
    ],
  ])('candidate %s: %j', (_name, candidate, stable, expected) => {
    expect(verdict(candidate, stable)).toBe(expected);
  });

  test('candidate, good so far, is watched to the end', () => {
    expect(verdict({ handled: 100 }, steady, false)).toBe('wait');
  });

  test('candidate, bad before the watch is over, goes back at once, with the reasons', () => {
    const { verdict, reasons } = judge(
      of({ handled: 10, failed: 10, deadLettered: 10 }),
      steady,
      THRESHOLDS,
      false,
    );
    expect(verdict).toBe('go back');
    expect(reasons).toEqual([
      '10 of 10 failed (100.0 %; stable 0.0 %)',
      '10 of 10 dead-lettered (100.0 %; stable 0.0 %)',
    ]);
  });
});

describe('worsened', () => {
  const before = of({ handled: 1_000, failed: 10 });
  test.each<[string, Partial<Figures>, string[]]>([
    ['as they were', { handled: 100, failed: 2 }, []],
    ['without work', {}, []],
    ['that fail now', { handled: 100, failed: 50 }, ['50 of 100 failed (50.0 %; before 1.0 %)']],
    [
      'that dead-letter now',
      { handled: 100, deadLettered: 3 },
      ['3 of 100 dead-lettered (3.0 %; before 0.0 %)'],
    ],
  ])('pods %s', (_which, now, reasons) => expect(worsened(of(now), before, THRESHOLDS)).toEqual(reasons));
});

describe('stalled', () => {
  const before = of({ handled: 1_000 });
  test.each<[string, number, number, Figures, string[]]>([
    ['that do as much as before', 1_000, 10, before, []],
    ['that get a third of the orders, as the other connections are still elsewhere', 330, 10, before, []],
    ['that have only just got the traffic', 0, 5, before, []],
    ['that answer next to nobody', 5, 10, before, ['5 handled in 10 s, where 1000 were to be expected']],
    ['that had little to do before', 0, 10, of({ handled: 10 }), []],
  ])('pods %s', (_which, handled, seconds, ofBefore, reasons) =>
    expect(stalled(of({ handled }), seconds, { ...ofBefore, overSeconds: 10 }, THRESHOLDS)).toEqual(reasons),
  );
});
