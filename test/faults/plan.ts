import type { Fault } from './fault.ts';
import { FAULTS } from './faults.ts';
import { createRandom } from './random.ts';
import { REFUSALS, type Store } from './store.ts';
import type { TrialPlan } from './trial.ts';

/** What a machine has. */
export type Means = {
  postgres: string | undefined;
  libfaketime: string | undefined;
  pgbouncer: string | undefined;
};

export type PlanOptions = {
  seed: number;
  /** Only these faults, in that order. Empty: what is drawn. */
  only: readonly string[];
  /** Instead of the one that is drawn, unless a fault needs it. */
  store?: Store['kind'] | undefined;
};

/** Why a fault cannot be done on such a machine, or undefined when it can. */
export function obstacle({ needs }: Fault, { postgres, libfaketime, pgbouncer }: Means): string | undefined {
  if (needs.store === 'postgres' && postgres === undefined) return 'no PostgreSQL server binaries';
  if (needs.pooler && pgbouncer === undefined) return 'no PgBouncer';
  if (needs.clock && libfaketime === undefined) return 'no libfaketime';
  return undefined;
}

/** What an operator may choose, and the promises must not depend on. */
const VARIANTS: readonly Record<string, string>[] = [
  { PUBLISH_PACKING: 'on' },
  { SQS_CLIENT: 'plain' },
  { MAX_IN_WORK: '60' },
  { MIN_IN_WORK: '10', MAX_IN_WORK: '60' },
  { POLLERS: '4' },
  { MESSAGE_ENCRYPTION: 'local' },
  // An Idempotency-Key that two clients use is each one's own.
  { AUTH: 'api-key', IDEMPOTENCY_KEY_OWNER: 'client' },
  // By themselves, these seldom meet. The linger is long enough for what two clients send at once to wait together.
  {
    AUTH: 'api-key',
    IDEMPOTENCY_KEY_OWNER: 'client',
    PUBLISH_PACKING: 'on',
    PUBLISH_LINGER_MS: '100',
  },
];
const VARIANT_SHARE = 0.3;
const BARE: Means = { postgres: undefined, libfaketime: undefined, pgbouncer: undefined };

/**
 * Draws the same from a seed and a number on every machine: each fault is the first of a trial in turn, up to two others
 * that go with it are drawn. Then leaves out, and says so, what this machine has no means for; a trial that would have no
 * fault left gets the first one drawn that every machine can do.
 */
export function planTrial(trial: number, { seed, only, store }: PlanOptions, means: Means): TrialPlan {
  const random = createRandom(seed, trial, 0);
  const order = createRandom(seed).shuffle(FAULTS);
  const first = order[trial % order.length] as Fault;
  const others = random.integer(0, 2);
  const candidates = random.shuffle(FAULTS);
  const drawnStore = random.chance(0.3) ? 'postgres' : 'sqlite';
  const twoConsumers = random.chance(0.3);
  const settings = Object.assign({}, ...VARIANTS.filter(() => random.chance(VARIANT_SHARE)));
  const refusal = random.pick(REFUSALS);

  const drawn =
    only.length > 0
      ? only.flatMap((name) => FAULTS.find((fault) => fault.name === name) ?? [])
      : compatible([first, ...candidates], 1 + others);
  const faults = drawn.filter((fault) => obstacle(fault, means) === undefined);
  const leftOut = drawn.filter((fault) => !faults.includes(fault)).map(({ name }) => name);
  if (faults.length === 0)
    faults.push(candidates.find((fault) => obstacle(fault, BARE) === undefined) as Fault);

  const needed = faults.map(({ needs }) => needs.store).find((kind) => kind && kind !== 'either');
  const chosen = store ?? (means.postgres === undefined ? 'sqlite' : drawnStore);
  return {
    seed,
    trial,
    faults,
    leftOut,
    consumers: twoConsumers || faults.some(({ needs }) => needs.consumers === 2) ? 2 : 1,
    store: needed === undefined || needed === 'either' ? chosen : needed,
    settings,
    refusal,
  };
}

/** The first of them that can be done in one trial. */
function compatible(candidates: readonly Fault[], most: number): Fault[] {
  const faults: Fault[] = [];
  for (const candidate of candidates) {
    if (faults.length === most) break;
    const ofStore = [...faults, candidate].filter(({ needs }) => needs.store !== undefined);
    const needed = [...faults, candidate].map(({ needs }) => needs);
    const fits = !needed.some(({ room }) => room) || !needed.some(({ limitedDisk }) => limitedDisk);
    if (!faults.includes(candidate) && ofStore.length < 2 && fits) faults.push(candidate);
  }
  return faults;
}

/** The options that repeat a trial on any machine that has the means for its faults, with the same code. */
export function repeatOptions(
  { seed, trial, faults, store }: TrialPlan,
  backend: string,
  { libfaketime }: Means,
): string {
  return [
    `--seed=${seed} --trial=${trial} --store=${store}`,
    ...faults.map(({ name }) => `--only='${name}'`),
    ...(backend === 'embedded' ? [] : [`--backend=${backend}`]),
    ...(faults.some(({ needs }) => needs.clock) ? [`--libfaketime='${libfaketime}'`] : []),
  ].join(' ');
}
