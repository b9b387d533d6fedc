import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { findPgBouncer } from '../../dev/pgbouncer.ts';
import { findPostgres, PostgresServer } from '../../dev/postgres-server.ts';
import {
  defineCommand,
  flag,
  runCommand,
  UsageError,
  type ValuesOf,
  wholeNumber,
} from '../../scripts/command.ts';
import type { Backend, RunningBackend } from '../support/backends.ts';
import { FAULTS } from './faults.ts';
import { type Means, obstacle, planTrial, repeatOptions } from './plan.ts';
import type { RecordedTrial } from './results.ts';
import { runTrial, TrialError, type TrialPlan } from './trial.ts';

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

export const command = defineCommand({
  name: 'npm run test:faults --',
  forContributors: true,
  summary:
    'Runs the fault campaign: kills, outages, lost responses and full disks, drawn from a seed. No order may be lost or stored twice. Faults that this machine cannot cause are skipped and listed.',
  positionals: {},
  options: {
    trials: {
      takes: 'N',
      description: 'number of trials; 0 only lists the faults that are skipped here',
      schema: wholeNumber(0).default(10),
    },
    seed: {
      takes: 'S',
      description:
        'seed of the trials; the same seed draws the same trials, given the same code and the same skipped faults',
      schema: wholeNumber(0).default(1),
    },
    trial: {
      takes: 'K',
      description: 'only the trial with this number, to repeat it',
      schema: wholeNumber(0).optional(),
    },
    only: {
      takes: 'FAULT',
      repeated: true,
      description: `only this fault; may be given several times: ${FAULTS.map(({ name }) => name).join('; ')}`,
      schema: z.array(z.enum(FAULTS.map(({ name }) => name))).default([]),
    },
    store: {
      takes: 'sqlite|postgres',
      description: 'the store, unless a fault needs the other one',
      schema: z.enum(['sqlite', 'postgres']).optional(),
    },
    backend: {
      takes: Object.keys(BACKENDS).join('|'),
      description: 'the SQS behind the proxy; localstack is 4.14, localstack3 is 3.4',
      schema: z.enum(Object.keys(BACKENDS) as (keyof typeof BACKENDS)[]).default('embedded'),
    },
    jobs: { takes: 'N', description: 'number of trials at a time', schema: wholeNumber(1).default(1) },
    verbose: flag('also prints the timeline of trials that pass'),
    bail: flag('stops at the first trial that fails'),
    report: {
      takes: 'FILE',
      description: 'appends the results, one JSON line per trial, for test:faults:report',
      schema: z.string().optional(),
    },
    libfaketime: {
      takes: 'FILE',
      description: 'the library that makes clocks jump; by default that of the Debian package',
      schema: z.string().optional(),
    },
  },
  changes: 'nothing. A failed trial leaves its logs and its store in the temporary folder, and prints where.',
  exitStatuses: { 0: 'no trial failed', 1: 'a trial failed', 130: 'interrupted' },
});

type Options = ValuesOf<typeof command>;

/** @throws {UsageError} what the options ask for cannot be had here */
function findMeans({ store, libfaketime }: Options): Means {
  const postgres = findPostgres();
  if (store === 'postgres' && postgres === undefined) throw new UsageError('no PostgreSQL server binaries');
  if (libfaketime !== undefined && !existsSync(libfaketime))
    throw new UsageError(`--libfaketime: there is no ${libfaketime}`);
  return {
    postgres,
    pgbouncer: findPgBouncer(),
    libfaketime: libfaketime ?? FAKETIME_FOLDERS.find((file) => existsSync(file)),
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

if (import.meta.main) await runCommand(command, main);

async function main(options: Options): Promise<number> {
  const means = findMeans(options);
  for (const fault of FAULTS) {
    const reason = obstacle(fault, means);
    if (reason) console.log(`skipped: ${fault.name} (${reason})`);
  }
  const wanted = FAULTS.filter(({ name }) => options.only.includes(name));
  const runnable = wanted.every((fault) => obstacle(fault, means) === undefined);
  const name = BACKENDS[options.backend];
  const backend: Backend | undefined = name && (await import('../support/backends.ts')).BACKENDS[name];
  const sqs = await backend?.availability();
  if (sqs?.available === false) console.log(`${options.backend}: ${sqs.reason}`);
  let running: RunningBackend | undefined;
  // What a trial has started is ended by what listens to the exit of this process.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void Promise.resolve(running?.stop()).finally(() => process.exit(130)));
  let failed = 0;
  let done = 0;
  try {
    if (runnable && sqs?.available !== false) {
      running = await backend?.start();
      const campaign = new Campaign(options, means, running?.env['AWS_ENDPOINT_URL']);
      await campaign.run();
      ({ failed, done } = campaign);
    }
  } finally {
    await running?.stop();
  }
  const skipped = FAULTS.filter((fault) => obstacle(fault, means) !== undefined).length;
  console.log(
    `${done - failed} passed, ${failed} failed, ${skipped + (sqs?.available === false ? 1 : 0)} skipped`,
  );
  return failed === 0 ? 0 : 1;
}
