import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findPgBouncer } from '../../dev/pgbouncer.ts';
import { findPostgres, PostgresServer } from '../../dev/postgres-server.ts';
import type { Backend, RunningBackend } from '../support/backends.ts';
import { FAULTS } from './faults.ts';
import { type Means, obstacle, planTrial, repeatOptions } from './plan.ts';
import type { RecordedTrial } from './results.ts';
import type { Store } from './store.ts';
import { runTrial, TrialError, type TrialPlan } from './trial.ts';

const USAGE = `usage: npm run test:faults -- [options]

  --trials=N      how many trials (10)
  --seed=S        what they are drawn from (1); the same seed draws the same trials from the same code, and what a machine
                  has no means for is left out of them
  --trial=K       only the trial of that number: repeats it
  --only=FAULT    only that fault, or those where it is given several times: ${FAULTS.map(({ name }) => name).join(', ')}
  --store=NAME    sqlite or postgres, where no fault needs the other one
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
  store: Store['kind'] | undefined;
  backend: keyof typeof BACKENDS;
  jobs: number;
  bail: boolean;
  verbose: boolean;
  report: string | undefined;
};

/** By the names of `test/support/backends.ts`, which is loaded only when it is needed; undefined: an emulator a trial. */
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
      store: text,
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
  const { store } = values;
  if (store !== undefined && store !== 'sqlite' && store !== 'postgres')
    throw new Error(`no store is called ${store}`);
  const postgres = findPostgres();
  if (store === 'postgres' && postgres === undefined) throw new Error('no PostgreSQL server binaries');
  const unknown = only.find((name) => !FAULTS.some((fault) => fault.name === name));
  if (unknown !== undefined) throw new Error(`no fault is called ${unknown}`);
  return {
    options: {
      trials: number('trials', 10),
      seed: number('seed', 1),
      trial: values.trial === undefined ? undefined : number('trial', 0),
      only,
      store,
      backend,
      jobs: Math.max(1, number('jobs', 1)),
      bail: values.bail ?? false,
      verbose: values.verbose ?? false,
      report: values.report,
    },
    means: {
      postgres,
      pgbouncer: findPgBouncer(),
      libfaketime: [values.libfaketime ?? '', ...FAKETIME_FOLDERS].find((file) => existsSync(file)),
    },
  };
}

/** The commit that is tried, with a `+` where code differs from it; undefined outside a repository. */
function commitTried(): string | undefined {
  const git = (...args: string[]) => spawnSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' });
  const head = git('rev-parse', '--short', 'HEAD');
  if (head.status !== 0) return undefined;
  // Results, which other runs append to, and documents are no code.
  const changed =
    git('status', '--porcelain', '--', ':/', ':(top,exclude)*.ndjson', ':(top,exclude)*.md').stdout.trim() !==
    '';
  return head.stdout.trim() + (changed ? '+' : '');
}

class Campaign {
  readonly #options: Options;
  readonly #means: Means;
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'faults-'));
  readonly #endpoint: string | undefined;
  readonly #commit = commitTried();
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
    // Each process of each trial is killed should this one end.
    process.setMaxListeners(0);
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
    const { seed, trial, faults, leftOut, store, consumers, settings, refusal } = plan;
    const { backend } = this.#options;
    const folder = path.join(this.#folder, `trial-${seed}-${trial}`);
    const names = faults.map(({ name }) => name);
    const chosen = Object.entries(settings).map(([name, value]) => `, ${name}=${value}`);
    const without = leftOut.length > 0 ? `, left out: ${leftOut.join(', ')}` : '';
    const label = `trial ${seed}/${trial} [${names.join(', ')}] ${store}${consumers > 1 ? ', 2 consumers' : ''}${this.#endpoint ? `, ${backend}` : ''}${chosen.join('')}, refusing by ${refusal}${without}`;
    const at = new Date().toISOString();
    this.done++;
    try {
      const { timeline, ...result } = await runTrial(plan, {
        folder,
        endpoint: this.#endpoint,
        postgres,
        libfaketime: this.#means.libfaketime,
        pgbouncer: this.#means.pgbouncer,
      });
      const { violations, orders, accepted, unknown, recoveryMs, settledMs, durationMs, peakBytes } = result;
      const figures = `${orders} orders, ${accepted} accepted, ${unknown} unknown, ready after ${seconds(recoveryMs)}, settled after ${seconds(settledMs)}, ${Math.round(peakBytes / 1e6)} MB, took ${seconds(durationMs)}`;
      console.log(`${violations.length === 0 ? 'ok  ' : 'FAIL'} ${label}: ${figures}`);
      const drawn = { seed, trial, faults: names, backend, store, consumers, settings, refusal };
      this.#record({ at, commit: this.#commit, ...drawn, skipped: [...leftOut], ...result });
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

  #record(result: RecordedTrial): void {
    const { report } = this.#options;
    if (report) appendFileSync(report, `${JSON.stringify(result)}\n`);
  }

  #explain(plan: TrialPlan, problems: readonly string[], timeline: readonly string[], folder: string): void {
    this.failed++;
    const shown = problems.slice(0, 20);
    const more = problems.length > shown.length ? [`… and ${problems.length - shown.length} more`] : [];
    console.log(
      [
        ...[...shown, ...more].map((problem) => `  ${problem}`),
        ...timeline.map((line) => `  ${line}`),
        `  logs and store: ${folder}`,
        `  again: npm run test:faults -- ${repeatOptions(plan, this.#options.backend, this.#means)}`,
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
const backend: Backend | undefined = name && (await import('../support/backends.ts')).BACKENDS[name];
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
