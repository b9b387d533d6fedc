import { appendFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Backend, RunningBackend } from '../backends.ts';
import { FAULTS, type Fault } from './faults.ts';
import { findPostgres, PostgresServer } from './postgres-server.ts';
import { createRandom } from './random.ts';
import type { RecordedTrial } from './results.ts';
import type { Store } from './store.ts';
import { runTrial, TrialError, type TrialPlan } from './trial.ts';

const USAGE = `usage: npm run test:faults -- [options]

  --trials=N      how many trials (10)
  --seed=S        what they are drawn from (1); the same seed draws the same trials
  --trial=K       only the trial of that number: repeats it
  --only=FAULT    only that fault, or those where it is given several times: ${FAULTS.map(({ name }) => name).join(', ')}
  --backend=NAME  the SQS behind the proxy: embedded (default), elasticmq, localstack (4.14) or localstack3 (3.4)
  --jobs=N        trials at a time (1)
  --verbose       prints what happened when, also of trials that pass
  --bail          ends with the first trial that fails
  --report=FILE   appends the results, a JSON line a trial, for test/faults/report.ts
  --libfaketime=FILE   the library that makes clocks jump, where it is not where Debian has it`;

type Options = {
  trials: number;
  seed: number;
  trial: number | undefined;
  only: string[];
  backend: keyof typeof BACKENDS;
  jobs: number;
  bail: boolean;
  verbose: boolean;
  report: string | undefined;
};

/** What this machine has. */
type Means = { postgres: string | undefined; libfaketime: string | undefined };

/** By the names of `test/backends.ts`, which is loaded only when it is needed; undefined: an emulator a trial. */
const BACKENDS = {
  embedded: undefined,
  elasticmq: 'elasticMq',
  localstack: 'localStack4',
  localstack3: 'localStack3',
} as const;

const FAKETIME_FOLDERS = ['x86_64-linux-gnu', 'aarch64-linux-gnu', '.'].map((triplet) =>
  path.join('/usr/lib', triplet, 'faketime', 'libfaketime.so.1'),
);

function readOptions(): { options: Options; means: Means } {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      trials: text,
      seed: text,
      trial: text,
      only: { ...text, multiple: true },
      backend: { ...text, default: 'embedded' },
      jobs: text,
      bail: { type: 'boolean' },
      verbose: { type: 'boolean' },
      report: text,
      libfaketime: text,
    },
  });
  const number = (name: 'trials' | 'seed' | 'trial' | 'jobs', fallback: number) => {
    const value = Number(values[name] ?? fallback);
    if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} must be a whole number`);
    return value;
  };
  const { only = [] } = values;
  const backend = values.backend as keyof typeof BACKENDS;
  if (!Object.hasOwn(BACKENDS, backend)) throw new Error(`no backend is called ${backend}`);
  const unknown = only.find((name) => !FAULTS.some((fault) => fault.name === name));
  if (unknown !== undefined) throw new Error(`no fault is called ${unknown}`);
  return {
    options: {
      trials: number('trials', 10),
      seed: number('seed', 1),
      trial: values.trial === undefined ? undefined : number('trial', 0),
      only,
      backend,
      jobs: Math.max(1, number('jobs', 1)),
      bail: values.bail ?? false,
      verbose: values.verbose ?? false,
      report: values.report,
    },
    means: {
      postgres: findPostgres(),
      libfaketime: [values.libfaketime ?? '', ...FAKETIME_FOLDERS].find((file) => existsSync(file)),
    },
  };
}

/** Why a fault cannot be done here, or undefined when it can. */
function obstacle({ needs }: Fault, { postgres, libfaketime }: Means): string | undefined {
  if (needs.store === 'postgres' && postgres === undefined) return 'no PostgreSQL server binaries';
  if (needs.clock && libfaketime === undefined) return 'no libfaketime';
  return undefined;
}

/** What an operator may choose, and the promises must not depend on. */
const VARIANTS = [
  ['PUBLISH_PACKING', 'on'],
  ['SQS_CLIENT', 'plain'],
  ['MAX_IN_WORK', '60'],
] as const;

/** Each fault is the first of a trial in turn; up to two others that go with it are drawn. */
function planTrial(trial: number, { seed, only }: Options, means: Means): TrialPlan {
  const random = createRandom(seed, trial, 0);
  const runnable = FAULTS.filter((fault) => obstacle(fault, means) === undefined);
  const order = createRandom(seed).shuffle(runnable);
  const faults = FAULTS.filter(({ name }) => only.includes(name));
  const others = faults.length > 0 ? 0 : random.integer(0, 2);
  if (faults.length === 0) faults.push(order[trial % order.length] as Fault);
  for (const candidate of random.shuffle(runnable)) {
    if (faults.length > others) break;
    const ofStore = [...faults, candidate].filter(({ needs }) => needs.store !== undefined);
    if (!faults.includes(candidate) && ofStore.length < 2) faults.push(candidate);
  }
  const needed = faults.map(({ needs }) => needs.store).find((store) => store && store !== 'either');
  const drawn: Store['kind'] = means.postgres !== undefined && random.chance(0.3) ? 'postgres' : 'sqlite';
  const consumers = random.chance(0.3) || faults.some(({ needs }) => needs.consumers === 2) ? 2 : 1;
  return {
    seed,
    trial,
    faults,
    consumers,
    store: needed === undefined || needed === 'either' ? drawn : needed,
    settings: Object.fromEntries(VARIANTS.filter(() => random.chance(0.3))),
  };
}

class Campaign {
  readonly #options: Options;
  readonly #means: Means;
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'faults-'));
  readonly #endpoint: string | undefined;
  failed = 0;
  done = 0;

  constructor(options: Options, means: Means, endpoint: string | undefined) {
    this.#options = options;
    this.#means = means;
    this.#endpoint = endpoint;
  }

  async run(): Promise<void> {
    const { trials, trial, jobs } = this.#options;
    const numbers = trial === undefined ? Array.from({ length: trials }, (_, index) => index) : [trial];
    const plans = numbers.map((number) => planTrial(number, this.#options, this.#means)).values();
    await Promise.all(Array.from({ length: jobs }, () => this.#work(plans)));
    if (readdirSync(this.#folder).length === 0) rmSync(this.#folder, { recursive: true });
  }

  async #work(plans: Iterator<TrialPlan>): Promise<void> {
    let postgres: PostgresServer | undefined;
    try {
      for (let next = plans.next(); !next.done; next = plans.next()) {
        if (this.#options.bail && this.failed > 0) return;
        const plan = next.value;
        if (plan.store === 'postgres')
          postgres ??= await PostgresServer.start(this.#means.postgres as string);
        // A server of its own a job: what one trial does to it must not hurt another.
        await postgres?.up();
        await this.#try(plan, postgres);
      }
    } finally {
      await postgres?.stop();
    }
  }

  async #try(plan: TrialPlan, postgres: PostgresServer | undefined): Promise<void> {
    const { seed, trial, faults, store, consumers, settings } = plan;
    const { backend } = this.#options;
    const folder = path.join(this.#folder, `trial-${seed}-${trial}`);
    const names = faults.map(({ name }) => name);
    const chosen = Object.entries(settings).map(([name, value]) => `, ${name}=${value}`);
    const label = `trial ${seed}/${trial} [${names.join(', ')}] ${store}${consumers > 1 ? ', 2 consumers' : ''}${this.#endpoint ? `, ${backend}` : ''}${chosen.join('')}`;
    const at = new Date().toISOString();
    this.done++;
    try {
      const { timeline, ...result } = await runTrial(plan, {
        folder,
        endpoint: this.#endpoint,
        postgres,
        libfaketime: this.#means.libfaketime,
      });
      const { violations, orders, accepted, unknown, recoveryMs, settledMs, durationMs } = result;
      const figures = `${orders} orders, ${accepted} accepted, ${unknown} unknown, ready after ${seconds(recoveryMs)}, settled after ${seconds(settledMs)}, took ${seconds(durationMs)}`;
      console.log(`${violations.length === 0 ? 'ok  ' : 'FAIL'} ${label}: ${figures}`);
      const drawn = { seed, trial, faults: names, backend, store, consumers, settings };
      this.#record({ at, ...drawn, skipped: this.#skipped(), ...result });
      if (violations.length === 0) {
        if (this.#options.verbose) console.log(timeline.map((line) => `  ${line}`).join('\n'));
        rmSync(folder, { recursive: true });
        return;
      }
      this.#explain(
        plan,
        violations.map(({ code, detail }) => `${code}: ${detail}`),
        timeline,
        folder,
      );
    } catch (error) {
      if (!(error instanceof TrialError)) throw error;
      console.log(`FAIL ${label}: the campaign itself failed`);
      this.#explain(plan, [error.message], error.timeline, folder);
    }
  }

  #skipped(): string[] {
    return FAULTS.filter((fault) => obstacle(fault, this.#means) !== undefined).map(({ name }) => name);
  }

  #record(result: RecordedTrial): void {
    const { report } = this.#options;
    if (report) appendFileSync(report, `${JSON.stringify(result)}\n`);
  }

  #explain(
    { seed, trial }: TrialPlan,
    problems: readonly string[],
    timeline: readonly string[],
    folder: string,
  ): void {
    this.failed++;
    const only = this.#options.only.map((name) => ` --only='${name}'`).join('');
    const backend = this.#endpoint ? ` --backend=${this.#options.backend}` : '';
    const shown = problems.slice(0, 20);
    const more = problems.length > shown.length ? [`… and ${problems.length - shown.length} more`] : [];
    console.log(
      [
        ...[...shown, ...more].map((problem) => `  ${problem}`),
        ...timeline.map((line) => `  ${line}`),
        `  logs and store: ${folder}`,
        `  again: npm run test:faults -- --seed=${seed} --trial=${trial}${only}${backend}`,
      ].join('\n'),
    );
  }
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

let given: ReturnType<typeof readOptions>;
try {
  given = readOptions();
} catch (error) {
  console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
  process.exit(2);
}
for (const fault of FAULTS) {
  const reason = obstacle(fault, given.means);
  if (reason) console.log(`skipped: ${fault.name} (${reason})`);
}
const wanted = FAULTS.filter(({ name }) => given.options.only.includes(name));
const runnable = wanted.every((fault) => obstacle(fault, given.means) === undefined);
const name = BACKENDS[given.options.backend];
const backend: Backend | undefined = name && (await import('../backends.ts')).BACKENDS[name];
const sqs = await backend?.availability();
if (sqs?.available === false) console.log(`${given.options.backend}: ${sqs.reason}`);
let running: RunningBackend | undefined;
// What a trial has started is ended by what listens to the exit of this process.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void Promise.resolve(running?.stop()).finally(() => process.exit(130)));
let failed = 0;
let done = 0;
try {
  if (runnable && sqs?.available !== false) {
    running = await backend?.start();
    const campaign = new Campaign(given.options, given.means, running?.env['AWS_ENDPOINT_URL']);
    await campaign.run();
    ({ failed, done } = campaign);
  }
} finally {
  await running?.stop();
}
const skipped = FAULTS.filter((fault) => obstacle(fault, given.means) !== undefined).length;
console.log(
  `${done - failed} passed, ${failed} failed, ${skipped + (sqs?.available === false ? 1 : 0)} skipped`,
);
process.exitCode = failed === 0 ? 0 : 1;
