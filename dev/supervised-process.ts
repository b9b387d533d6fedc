import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, copyFileSync, openSync, statSync, truncateSync } from 'node:fs';
import { LogTail } from './log-tail.ts';

export type ProcessEvent =
  /** It ended though nobody stopped it, and is started again after `restartInMs`. */
  | { type: 'died'; name: string; pid: number | undefined; status: string; restartInMs: number }
  | { type: 'restarted'; name: string; pid: number | undefined }
  /** An error that it logged or wrote to stderr, in one short line. */
  | { type: 'complaint'; name: string; line: string }
  /** It was told to stop and did not within its grace period, or ended otherwise than with status 0. */
  | { type: 'stopped badly'; name: string; status: string };

export type SupervisedProcessOptions = {
  name: string;
  /** Of Node and V8. */
  flags: readonly string[];
  script: string;
  workingDirectory: string;
  env: NodeJS.ProcessEnv;
  /** Takes both its outputs, appended. */
  logFile: string;
  /** Above it, the log moves to `.1`, and what was there is lost; 20 MiB. */
  maxLogBytes?: number;
  /** From SIGTERM to SIGKILL. */
  graceMs: number;
  onEvent: (event: ProcessEvent) => void;
};

const ROTATE_EVERY_MS = 5_000;
const MAX_LOG_BYTES = 20 * 1024 * 1024;
/** A run that lasted this long was a good one: what ends it is started again at once. */
const GOOD_RUN_MS = 30_000;
const BACKOFF_MS = { min: 1_000, max: 10_000 };

/**
 * One Node process that is started again whenever it ends by itself: at once, and when it dies again soon after 1 s,
 * doubling to 10 s. Its output goes straight to the file, not through this process, so that it outlives it. It has a
 * session of its own, out of the reach of the terminal's signals, and an IPC channel, whose end tells it that this
 * process is gone.
 */
export class SupervisedProcess {
  readonly #options: SupervisedProcessOptions;
  #child: ChildProcess | undefined;
  #tail: LogTail | undefined;
  #rotation: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #soonDeaths = 0;
  #restartTimer: NodeJS.Timeout | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: SupervisedProcessOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /** Undefined while it does not run. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  start(): void {
    const { name, logFile, onEvent } = this.#options;
    if (this.#tail) return;
    this.#rotate();
    this.#rotation = setInterval(() => this.#rotate(), ROTATE_EVERY_MS);
    this.#tail = new LogTail(logFile, (line) => onEvent({ type: 'complaint', name, line }));
    this.#spawn();
  }

  /** Resolves when it has ended, by SIGKILL where SIGTERM was not enough in time. It is not started again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  /** Ends it at once. */
  kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    return this.stop();
  }

  /** Copies and cuts: the process goes on writing at the end, which is the beginning then. Lines in between are lost. */
  #rotate(): void {
    const { logFile, maxLogBytes = MAX_LOG_BYTES } = this.#options;
    if ((statSync(logFile, { throwIfNoEntry: false })?.size ?? 0) <= maxLogBytes) return;
    this.#tail?.read();
    copyFileSync(logFile, `${logFile}.1`);
    truncateSync(logFile);
  }

  #spawn(): void {
    const { flags, script, workingDirectory, env, logFile } = this.#options;
    const log = openSync(logFile, 'a');
    const child = spawn(process.execPath, [...flags, script], {
      cwd: workingDirectory,
      env,
      stdio: ['ignore', log, log, 'ipc'],
      detached: true,
    });
    closeSync(log);
    this.#child = child;
    this.#startedAt = performance.now();
    child.once('exit', (code, signal) => this.#onEnd(signal ? `killed by ${signal}` : `status ${code}`));
    child.once('error', ({ message }) => {
      if (child.pid === undefined) this.#onEnd(message);
    });
  }

  #onEnd(status: string): void {
    const { name, onEvent } = this.#options;
    const pid = this.#child?.pid;
    this.#child = undefined;
    this.#tail?.read();
    if (this.#stopping) {
      // By SIGTERM ends what had not come to listen for it yet.
      if (status !== 'status 0' && status !== 'killed by SIGTERM')
        onEvent({ type: 'stopped badly', name, status });
      return;
    }
    if (performance.now() - this.#startedAt >= GOOD_RUN_MS) this.#soonDeaths = 0;
    const restartInMs =
      this.#soonDeaths === 0 ? 0 : Math.min(BACKOFF_MS.max, BACKOFF_MS.min * 2 ** (this.#soonDeaths - 1));
    this.#soonDeaths++;
    this.#restartTimer = setTimeout(() => {
      this.#spawn();
      onEvent({ type: 'restarted', name, pid: this.pid });
    }, restartInMs);
    // Last, since whoever hears of it may stop this at once.
    onEvent({ type: 'died', name, pid, status, restartInMs });
  }

  async #end(): Promise<void> {
    clearTimeout(this.#restartTimer);
    clearInterval(this.#rotation);
    const child = this.#child;
    if (child) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      const deadline = setTimeout(() => child.kill('SIGKILL'), this.#options.graceMs);
      child.kill('SIGTERM');
      await ended;
      clearTimeout(deadline);
    }
    this.#tail?.close();
  }
}
