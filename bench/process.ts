import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { Sample } from './probe.ts';

/** Settings of production, but for who may call: keys and certificates have benchmarks of their own. */
export const LIKE_PRODUCTION = { APP_ENV: 'dev', LIBRARY_LOG_LEVEL: 'warn' } as const;

export type ProcessOptions = {
  args?: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** V8 flags, for instance. */
  flags?: readonly string[];
  /** Resolves when it is ready, for a program that does not say so by itself. */
  isReady?: () => Promise<boolean>;
  startTimeoutMs?: number;
};

const PROBE = path.join(import.meta.dirname, 'probe.ts');
const ROOT = path.join(import.meta.dirname, '..');
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;

/** Who asks: as on AWS with a role, whose requests carry a token. */
export const AWS_ENV = {
  AWS_REGION: 'ap-northeast-2',
  AWS_ACCESS_KEY_ID: 'bench',
  AWS_SECRET_ACCESS_KEY: 'secret',
  AWS_SESSION_TOKEN: 'token'.repeat(100),
};

/** A program in a process of its own, with a probe in it. */
export class MeasuredProcess {
  readonly #child: ChildProcess;
  readonly #death: Promise<never>;
  readonly details: Record<string, unknown>;
  readonly #asked = new Map<number, (sample: Sample) => void>();
  #lastNumber = 0;

  private constructor(child: ChildProcess, death: Promise<never>, details: Record<string, unknown>) {
    this.#child = child;
    this.#death = death;
    this.details = details;
    child.on('message', ({ sample, number }: { sample?: Sample; number?: number }) => {
      if (!sample || number === undefined) return;
      this.#asked.get(number)?.(sample);
      this.#asked.delete(number);
    });
  }

  /** Starts a program of the project, named from its root. Resolves when it is ready. */
  static async start(script: string, options: ProcessOptions = {}): Promise<MeasuredProcess> {
    const { args = [], env = {}, flags = [] } = options;
    const child = fork(path.join(ROOT, script), args, {
      cwd: ROOT,
      env: { ...process.env, ...AWS_ENV, ...env },
      execArgv: ['--import', PROBE, ...flags],
      // What services log is not looked at, but written all the same.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const death = diesOf(child, script);
    return new MeasuredProcess(child, death, await Promise.race([readiness(child, options), death]));
  }

  /** Several may be asked for at the same time. */
  sample(): Promise<Sample> {
    const number = ++this.#lastNumber;
    this.#child.send({ sample: number });
    return Promise.race([new Promise<Sample>((resolve) => this.#asked.set(number, resolve)), this.#death]);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    this.#child.send('exit');
    await exited;
    clearTimeout(timer);
  }
}

async function readiness(
  child: ChildProcess,
  { isReady, startTimeoutMs = START_TIMEOUT_MS }: ProcessOptions,
): Promise<Record<string, unknown>> {
  const signal = AbortSignal.timeout(startTimeoutMs);
  if (!isReady) {
    const [message] = await once(child, 'message', { signal });
    return (message as { ready: Record<string, unknown> }).ready;
  }
  while (!(await isReady())) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {};
}

function diesOf(child: ChildProcess, name: string): Promise<never> {
  const death = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`${name} ended with ${signal ?? `status ${code}`}`);
  });
  death.catch(() => {});
  return death;
}
