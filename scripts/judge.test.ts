import { expect, it } from 'vitest';
import { BLIND_LOOKS, explain, type Figure, Judge, type Limit, LOOKS } from './judge.ts';

const errors: Limit = { name: 'errors', max: 0.01, absent: 'is fine' };
const instances: Limit = { name: 'instances', min: 1, absent: 'is a breach' };

function verdicts(limit: Limit, figures: Figure[]): string[] {
  const judge = new Judge([limit]);
  return figures.map((figure) => judge.look([figure]).verdict);
}
const blind = new Error('no answer');
const times = (count: number, figure: Figure) => Array.from({ length: count }, () => figure);

it('judge, of a figure at its limit, says that the release stays', () => {
  expect(verdicts(errors, [0.01])).toEqual(['stays']);
  expect(verdicts(instances, [1])).toEqual(['stays']);
});

it('judge, of a figure beyond its limit, doubts, and trips at the third look in a row', () => {
  expect(verdicts(errors, times(LOOKS, 0.02))).toEqual(['doubtful', 'doubtful', 'goes']);
  expect(verdicts(instances, times(LOOKS, 0))).toEqual(['doubtful', 'doubtful', 'goes']);
});

it('judge, of a breach that ends, counts anew', () => {
  expect(verdicts(errors, [0.02, 0.02, 0, 0.02, 0.02])).toEqual([
    'doubtful',
    'doubtful',
    'stays',
    'doubtful',
    'doubtful',
  ]);
});

it('judge, of no value, does what the limit says', () => {
  expect(verdicts(errors, times(LOOKS, undefined)).at(-1)).toBe('stays');
  expect(verdicts(instances, times(LOOKS, undefined)).at(-1)).toBe('goes');
});

it('judge, blind for a while, doubts; for long, trips', () => {
  const looks = verdicts(errors, times(BLIND_LOOKS, blind));
  expect(looks.slice(0, -1).every((verdict) => verdict === 'doubtful')).toBe(true);
  expect(looks.at(-1)).toBe('goes');
});

it('judge, blind amid a breach, forgets neither', () => {
  expect(verdicts(errors, [0.02, blind, 0.02, blind, 0.02]).at(-1)).toBe('goes');
});

it('judge, of several figures, trips for one of them, and names it', () => {
  const judge = new Judge([errors, instances]);
  judge.look([0, 0]);
  judge.look([0, 0]);
  const { verdict, breaches } = judge.look([0, 0]);
  expect(verdict).toBe('goes');
  expect(breaches.map(({ limit, looks }) => [limit.name, looks])).toEqual([['instances', 3]]);
});

it('judge, of a figure of which one look counts, trips at once, and says what it should have been', () => {
  const { verdict, breaches } = new Judge([{ ...errors, looks: 1 }]).look([0.123456]);
  expect(verdict).toBe('goes');
  expect(breaches.map(explain)).toEqual(['errors: 0.1235; must be at most 0.01']);
});

it('judge, of a share, speaks in percent', () => {
  const { breaches } = new Judge([{ ...errors, looks: 1, share: true }]).look([0.9924]);
  expect(breaches.map(explain)).toEqual(['errors: 99.24 %; must be at most 1 %']);
});
