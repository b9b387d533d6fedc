import { describe, expect, test } from 'vitest';
import { Judge } from '../judge.ts';
import { LIMITS, MIN_HANDLED, type Seen } from './limits.ts';
import { type Figures, NO_FIGURES } from './pod-figures.ts';

const of = (figures: Partial<Figures>): Figures => ({ ...NO_FIGURES, ...figures });
const steady = of({ handled: 1_000, seconds: 10, measured: 1_000 });

/** The limits that pods do not keep. */
function breached(trial: Partial<Figures>, seen: Partial<Seen> = {}, overSeconds = 10): string[] {
  const all: Seen = { trial: { ...of(trial), overSeconds }, reference: steady, ...seen };
  const { breaches } = new Judge(LIMITS).look(LIMITS.map(({ of }) => of(all)));
  return breaches.map(({ limit }) => limit.name);
}

const FAILED = 'share that failed, beyond the reference';
const DEAD = 'share that was dead-lettered, beyond the reference';
const SLOW = 'mean handling time, as a multiple of the reference';

describe('pods on trial', () => {
  test.each<[string, Partial<Figures>, Figures, string[]]>([
    ['as good as those they are compared with', { handled: 100, seconds: 1, measured: 100 }, steady, []],
    ['without work', {}, steady, []],
    ['with a failure or two, which may be chance', { handled: 30, failed: 2 }, steady, []],
    ['with failures', { handled: 100, failed: 3 }, steady, [FAILED]],
    ['with failures before they have the work to pass', { handled: 3, failed: 3 }, steady, [FAILED]],
    ['with as many failures', { handled: 100, failed: 30 }, of({ handled: 1_000, failed: 300 }), []],
    ['with dead letters', { handled: 1_000, deadLettered: 3 }, steady, [DEAD]],
    [
      'with as many dead letters',
      { handled: 1_000, deadLettered: 3 },
      of({ handled: 1_000, deadLettered: 3 }),
      [],
    ],
    ['that died once', { handled: 100, restarts: 1 }, steady, ['restarts']],
    [
      'that take three times as long',
      { handled: 100, seconds: 90, measured: 100 },
      of({ handled: 100, seconds: 30, measured: 100 }),
      [SLOW],
    ],
    [
      'that take three times as long, of next to nothing',
      { handled: 100, seconds: 3, measured: 100 },
      steady,
      [],
    ],
    [
      'that are slow, with nothing to compare',
      { handled: 100, seconds: 30, measured: 100 },
      NO_FIGURES,
      [SLOW],
    ],
    [
      'that are slow, with too little work to tell',
      { handled: MIN_HANDLED - 1, seconds: 30, measured: 19 },
      steady,
      [],
    ],
  ])('%s', (_which, trial, reference, expected) => expect(breached(trial, { reference })).toEqual(expected));
});

describe('pods of before', () => {
  const before = of({ handled: 1_000, failed: 10 });
  test.each<[string, Partial<Figures>, string[]]>([
    ['that are as they were', { handled: 100, failed: 2 }, []],
    ['without work', {}, []],
    [
      'that fail now',
      { handled: 100, failed: 50 },
      ['share that failed at the pods of before, beyond what it was'],
    ],
    [
      'that dead-letter now',
      { handled: 100, deadLettered: 3 },
      ['share dead-lettered by the pods of before, beyond what it was'],
    ],
  ])('%s', (_which, now, expected) =>
    expect(breached({}, { others: { now: of(now), before } })).toEqual(expected),
  );
});

describe('pods with all the traffic', () => {
  const many = of({ handled: 1_000 });
  test.each<[string, number, number, Figures, string[]]>([
    ['that do as much as was done before', 1_000, 10, many, []],
    ['that get a third of the orders, as the other connections are still elsewhere', 330, 10, many, []],
    ['that have only just got it', 0, 5, many, []],
    ['that answer next to nobody', 5, 10, many, ['handled, as a share of what was done before in the time']],
    ['that had little to do before', 0, 10, of({ handled: 10 }), []],
  ])('%s', (_which, handled, seconds, before, expected) =>
    expect(breached({ handled }, { displaced: { ...before, overSeconds: 10 } }, seconds)).toEqual(expected),
  );
});
