import { describe, expect, test } from 'vitest';
import { FAULTS } from './faults.ts';
import { planTrial, repeatOptions } from './plan.ts';
import { REFUSALS } from './store.ts';

const ALL = { postgres: '/bin', libfaketime: '/lib/libfaketime.so.1', pgbouncer: '/bin/pgbouncer' };
const NONE = { postgres: undefined, libfaketime: undefined, pgbouncer: undefined };
const SEED = { seed: 7, only: [] };
const trials = Array.from({ length: 2 * FAULTS.length }, (_, trial) => trial);
const names = (faults: readonly { name: string }[]) => faults.map(({ name }) => name);

describe('planTrial', () => {
  test('over as many trials as there are faults, has each lead, and chooses each setting and way of refusing', () => {
    const plans = trials.map((trial) => planTrial(trial, SEED, ALL));
    expect(new Set(plans.map(({ faults }) => faults[0]?.name))).toEqual(new Set(names(FAULTS)));
    expect(new Set(plans.flatMap(({ settings }) => Object.keys(settings)))).toEqual(
      new Set([
        'PUBLISH_PACKING',
        'SQS_CLIENT',
        'MAX_IN_WORK',
        'MIN_IN_WORK',
        'POLLERS',
        'MESSAGE_ENCRYPTION',
        'AUTH',
        'IDEMPOTENCY_KEY_OWNER',
        'PUBLISH_LINGER_MS',
      ]),
    );
    expect(new Set(plans.map(({ refusal }) => refusal))).toEqual(new Set(REFUSALS));
    expect(new Set(plans.map(({ store }) => store))).toEqual(new Set(['sqlite', 'postgres']));
  });

  test('where means are missing, draws the same and leaves out what cannot be done', () => {
    let replaced = 0;
    for (const trial of trials) {
      const whole = planTrial(trial, SEED, ALL);
      const { faults, leftOut, settings, store } = planTrial(trial, SEED, NONE);
      const left = names(whole.faults).filter((name) => !leftOut.includes(name));
      const needy = FAULTS.filter(({ needs }) => needs.clock || needs.pooler || needs.store === 'postgres');
      expect(leftOut.every((name) => names(needy).includes(name))).toBe(true);
      if (left.length > 0) expect(names(faults)).toEqual(left);
      else replaced++;
      expect(faults.length).toBeGreaterThan(0);
      expect({ settings, store }).toEqual({ settings: whole.settings, store: 'sqlite' });
    }
    expect(replaced).toBeGreaterThan(0);
  });

  test.each([
    ['all means', ALL],
    ['none', NONE],
  ])('of a machine with %s, is repeated by what is printed, on one that has all', (_what, means) => {
    for (const trial of trials) {
      const plan = planTrial(trial, SEED, means);
      const only = names(plan.faults);
      const again = planTrial(trial, { seed: 7, only, store: plan.store }, ALL);
      expect(again).toEqual({ ...plan, leftOut: [] });
      const printed = repeatOptions(plan, 'elasticmq', means);
      for (const option of [`--trial=${trial}`, `--store=${plan.store}`, '--backend=elasticmq'])
        expect(printed).toContain(option);
      for (const name of only) expect(printed).toContain(`--only='${name}'`);
      expect(printed.includes(`--libfaketime='${means.libfaketime}'`)).toBe(only.includes('clock jump'));
    }
  });
});
