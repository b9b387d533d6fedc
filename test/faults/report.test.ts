import { describe, expect, test } from 'vitest';
import { renderReport } from './report.ts';
import type { RecordedMutation, RecordedTrial } from './results.ts';

const trial = (overrides: Partial<RecordedTrial> = {}): RecordedTrial => ({
  at: '2026-11-23T00:00:00.000Z',
  seed: 1,
  trial: 0,
  faults: ['consumer killed'],
  store: 'sqlite',
  consumers: 1,
  skipped: ['clock jump'],
  orders: 250,
  accepted: 200,
  unknown: 40,
  stored: 195,
  deadLettered: 17,
  failures: 15,
  violations: [],
  recoveryMs: 1_000,
  settledMs: 4_000,
  durationMs: 12_000,
  openFilesGrowth: 3,
  ...overrides,
});
const mutation: RecordedMutation = {
  at: '2026-11-23T00:00:00.000Z',
  name: 'delete before commit',
  expected: 'LOST',
  caughtBy: ['LOST'],
  trials: 1,
  seed: 1,
  trial: 0,
  fault: 'disk full',
};

describe('renderReport', () => {
  test('of several runs, adds them up', () => {
    const report = renderReport(
      [
        trial(),
        trial({ seed: 2, recoveryMs: 3_000, durationMs: 21_000 }),
        trial({ seed: 2, trial: 1, recoveryMs: 2_000, durationMs: 15_000 }),
      ],
      [],
    );
    expect(report).toContain('| trials | 3 |');
    expect(report).toContain('| orders accepted (202) | 600 |');
    expect(report).toContain('that the database refused | 45 |');
    expect(report).toContain('| both services ready | 2.0 s | 3.0 s | 3.0 s |');
    expect(report).toContain('start to verdict | 15.0 s | 21.0 s | 21.0 s |');
    expect(report).toContain('| consumer killed | 0 | 0 | 3 | 0 |');
    expect(report).toContain('clock jump (in 3 trials)');
    expect(report).toContain('Seeds: 1 (1 trials), 2 (2 trials).');
    expect(report).not.toContain('## Broken promises');
  });

  test('of runs on several backends, tells them apart', () => {
    const report = renderReport(
      [trial(), trial({ backend: 'elasticmq' }), trial({ backend: 'elasticmq' })],
      [],
    );
    expect(report).toContain('| embedded | 1 | 0 | 200 | 4.0 s |');
    expect(report).toContain('| elasticmq | 2 | 0 | 400 | 4.0 s |');
  });

  test('of faults, counts those that struck, and apart from them those that did not and those of old lines', () => {
    const faults = ['consumer killed', 'redrive killed'];
    const struck = { 'consumer killed': 1, 'redrive killed': 0 };
    const violations = [{ code: 'LEAK' as const, detail: '' }];
    const report = renderReport(
      [trial({ faults }), trial({ faults, struck, violations }), trial({ faults, struck })],
      [],
    );
    expect(report).toContain('| consumer killed | 2 | 0 | 1 | 1 |');
    expect(report).toContain('| redrive killed | 0 | 2 | 1 | 1 |');
  });

  test('of runs of which some looked at the journal, says how many', () => {
    const violations = [{ code: 'NOT_JOURNALED' as const, detail: '' }];
    const report = renderReport(
      [trial(), trial({ unjournaled: 0, violations }), trial({ unjournaled: 2 })],
      [],
    );
    expect(report).toContain('acceptance journal, in 2 trials that checked it | 1 |');
    expect(report).toContain('logged by the producer itself | 2 |');
  });

  test('of runs on several commits, tells them apart', () => {
    const violations = [{ code: 'LEAK' as const, detail: '' }];
    const report = renderReport(
      [
        trial(),
        trial({ commit: 'abc1234' }),
        trial({ commit: 'abc1234', violations }),
        trial({ commit: 'abc1234+' }),
      ],
      [],
    );
    expect(report).toContain('| not recorded | 1 | 0 | 200 |');
    expect(report).toContain('| abc1234 | 2 | 1 | 400 |');
    expect(report).toContain('| abc1234+ | 1 | 0 | 200 |');
  });

  test('of a trial that broke a promise, says which and how to repeat it', () => {
    const violations = [{ code: 'LOST' as const, detail: 'order x' }];
    const report = renderReport([trial({ seed: 7, trial: 3, violations })], []);
    expect(report).toContain('| of them with a broken promise | 1 |');
    expect(report).toContain('| accepted and lost | 1 |');
    expect(report).toContain('- 7/3, embedded, consumer killed: LOST');
  });

  test('of a soak, shows what it compared and what was wrong', () => {
    const figures = {
      residentBytes: { before: 100e6, last: 102e6 },
      heapUsedBytes: { before: 40e6, last: 30e6 },
      handles: { before: 60, last: 66 },
      openFiles: { before: 80, last: 80 },
    };
    const soak = {
      at: '2026-11-25T00:00:00.000Z',
      minutes: 30,
      topRate: 1_800,
      rate: 900,
      reachedRate: 899,
      accepted: 1_000,
      refused: {},
      windows: { producer: figures, consumer: figures },
      reconcile: { accepted: 1_000, stored: 999, deadLettered: 0, missing: 1, storedTwice: 0 },
      problems: ['reconcile: wrong'],
    };
    const report = renderReport([], [], soak);
    expect(report).toContain('| producer | resident memory | 100.0 MB | 102.0 MB | 2.0 % |');
    expect(report).toContain('| consumer | handles | 60 | 66 | +6 |');
    expect(report).toContain('| consumer | open files | 80 | 80 | 0 |');
    expect(report).toContain('open files grow by more than 3 and by more than 5 %');
    expect(report).toContain('1 lost and 0 stored');
    expect(report).toContain('**Problems**: reconcile: wrong.');
    expect(renderReport([], [])).not.toContain('## Soak');
  });

  test('of mutations, tells those that were caught from those that were not', () => {
    const report = renderReport([], [mutation, { ...mutation, name: 'missed', caughtBy: [], trials: 8 }]);
    expect(report).toContain('| delete before commit | `LOST` | disk full | 1/0 |');
    expect(report).toContain('| missed | **not caught** in 8 trials');
  });

  test('of a mutation that another check caught, says so', () => {
    const report = renderReport([], [{ ...mutation, caughtBy: ['CRASHED'] }]);
    expect(report).toContain(
      '| delete before commit | `CRASHED`, **not by `LOST`**, which should catch it | disk full | 1/0 |',
    );
  });
});
