import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SERVICE_FLAGS, SERVICE_SCRIPT } from '../../dev/services.ts';
import { type ProcessEvent, SupervisedProcess } from '../../dev/supervised-process.ts';
import { scrape } from '../../scripts/prometheus-text.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const PROBE_TIMEOUT_MS = 2_500;
const READY_POLL_MS = 100;
/** Each message that is sent to the DLQ on purpose makes one. */
const EXPECTED_COMPLAINT = /message sent to the dead-letter queue/;

export type ServiceRole = keyof typeof SERVICE_SCRIPT;

export type ServiceProcessOptions = {
  name: string;
  role: ServiceRole;
  port: number;
  env: NodeJS.ProcessEnv;
  /** Its working directory, where its log is kept too. */
  folder: string;
  /** What SHUTDOWN_GRACE_MS promises. */
  graceMs: number;
  note: (event: string) => void;
  /** A process of it ended, other than in order, or was made to stand still. */
  onInterrupted?: () => void;
  /** It goes on after it stood still. */
  onResumed?: () => void;
  /** A process of it ended, however. */
  onEnd?: () => void;
};

/** One service as a process, started again when it dies, and what it did wrong. */
export class ServiceProcess {
  readonly name: string;
  readonly role: ServiceRole;
  readonly url: string;
  readonly logFile: string;
  /** Ends that should not have been: crashes, and SIGTERM answered by anything but status 0 in time. */
  readonly badEnds: string[] = [];
  readonly #process: SupervisedProcess;
  readonly #options: ServiceProcessOptions;
  /** What was sent to a process, by pid, and whether it was ready then. */
  readonly #signalled = new Map<number, { signal: NodeJS.Signals; ready: boolean }>();
  #ended = Promise.withResolvers<void>();
  /** When the campaign itself is ended: a process that is frozen does not notice. */
  readonly #killAtExit = () => void this.#process.kill();

  constructor(options: ServiceProcessOptions) {
    const { name, role, port, env, folder, graceMs } = options;
    this.#options = options;
    this.name = name;
    this.role = role;
    this.url = `http://127.0.0.1:${port}`;
    this.logFile = path.join(folder, `${name}.log`);
    mkdirSync(folder, { recursive: true });
    this.#process = new SupervisedProcess({
      name,
      flags: SERVICE_FLAGS,
      script: path.join(ROOT, SERVICE_SCRIPT[role]),
      // Not the project: a developer's .env is none of the campaign's business.
      workingDirectory: folder,
      env: { ...env, [role === 'producer' ? 'PRODUCER_PORT' : 'CONSUMER_PORT']: String(port) },
      logFile: this.logFile,
      graceMs: graceMs + 2_000,
      onEvent: (event) => this.#onEvent(event),
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  start(): void {
    process.once('exit', this.#killAtExit);
    this.#process.start();
  }

  async isReady(): Promise<boolean> {
    if (this.pid === undefined) return false;
    try {
      const response = await fetch(`${this.url}/readyz`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
      await response.body?.cancel();
      return response.ok;
    } catch {
      return false;
    }
  }

  /** What time it is for the process, by the `Date` of its answers, in whole seconds; undefined when it gives none. */
  async clockMs(): Promise<number | undefined> {
    const date = await fetch(`${this.url}/livez`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })
      .then(async (response) => {
        await response.body?.cancel();
        return response.headers.get('date');
      })
      .catch(() => null);
    return date === null ? undefined : Date.parse(date);
  }

  async ready(signal: AbortSignal): Promise<void> {
    while (!(await this.isReady())) {
      signal.throwIfAborted();
      await sleep(READY_POLL_MS);
    }
  }

  /**
   * Sends a signal to the process that runs now; the supervisor starts it again when it ends. Resolves with how many
   * processes it reached: one, or none when none runs.
   */
  async signal(signal: NodeJS.Signals): Promise<number> {
    const ready = signal === 'SIGTERM' && (await this.isReady());
    const { pid } = this;
    if (pid === undefined) return 0;
    if (signal === 'SIGKILL' || signal === 'SIGTERM') this.#signalled.set(pid, { signal, ready });
    this.#options.note(`${signal} to ${this.name} (pid ${pid})`);
    if (signal === 'SIGSTOP') this.#options.onInterrupted?.();
    if (signal === 'SIGCONT') this.#options.onResumed?.();
    try {
      process.kill(pid, signal);
      return 1;
    } catch {
      return 0; // It has just ended.
    }
  }

  /** SIGTERM, and resolves, as `signal` does, when it has ended. It is started again. */
  async terminate(): Promise<number> {
    const { promise } = this.#ended;
    if (this.pid === undefined) return 0;
    const reached = await this.signal('SIGTERM');
    await promise;
    return reached;
  }

  /** For good. Anything but status 0 within the grace period is a bad end. */
  async stop(): Promise<void> {
    const startedAt = performance.now();
    await this.#process.stop();
    process.off('exit', this.#killAtExit);
    const tookMs = performance.now() - startedAt;
    if (tookMs > this.#options.graceMs)
      this.badEnds.push(`${this.name} took ${Math.round(tookMs)} ms to stop`);
  }

  async kill(): Promise<void> {
    await this.#process.kill();
    process.off('exit', this.#killAtExit);
  }

  async metric(name: string): Promise<number | undefined> {
    const timeout = { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) };
    return scrape(this.url, timeout)
      .then(({ value }) => value(name))
      .catch(() => undefined);
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  #onEvent(event: ProcessEvent): void {
    const { note } = this.#options;
    switch (event.type) {
      case 'died': {
        const { pid, status } = event;
        note(`${this.name} (pid ${pid}) ended with ${status}, starts again in ${event.restartInMs} ms`);
        this.#judge(pid, status);
        if (status !== 'status 0') this.#options.onInterrupted?.();
        this.#options.onEnd?.();
        this.#ended.resolve();
        this.#ended = Promise.withResolvers();
        return;
      }
      case 'restarted':
        note(`${this.name} started again (pid ${event.pid})`);
        return;
      case 'stopped badly':
        this.badEnds.push(`${this.name}, told to stop, ended with ${event.status}`);
        note(`${this.name} stopped badly: ${event.status}`);
        return;
      case 'complaint':
        if (!EXPECTED_COMPLAINT.test(event.line)) note(`${this.name}: ${event.line}`);
        return;
    }
  }

  /** Status 1 without a FATAL line is a start that failed for want of SQS or the store; the log tells. */
  #judge(pid: number | undefined, status: string): void {
    const sent = this.#signalled.get(pid ?? -1);
    if (sent?.signal === 'SIGTERM' && sent.ready && status !== 'status 0') {
      this.badEnds.push(`${this.name}, ready and sent SIGTERM, ended with ${status}`);
    } else if (!sent && status !== 'status 1') {
      this.badEnds.push(`${this.name} ended by itself with ${status}`);
    }
  }
}
