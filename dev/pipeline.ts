import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Environment } from '@orders/shared/runtime/config.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { choosePorts, loadPorts, type Ports, SERVICES, type ServiceName } from './pipeline-ports.ts';
import { SERVICE_FLAGS, SERVICE_SCRIPT } from './services.ts';
import { type ProcessEvent, SupervisedProcess } from './supervised-process.ts';

const STOP_ORDER = ['producer', 'consumer', 'emulator'] as const;

export type PipelineEvent =
  | (ProcessEvent & { name: ServiceName })
  /** Somebody deleted the folder under them: all are being stopped, since what they accept would be lost. */
  | { type: 'data gone'; name: 'emulator'; dataDir: string };

export type PipelineOptions = {
  /** 0 takes a free one, `'free'` three of them. By default what the environment says, else 4566, 8080, 8081. */
  ports?: Partial<Record<ServiceName, number>> | 'free';
  /**
   * Where queues, orders and logs are kept; by default DATA_DIR, else `.data` in the project. With a directory of its own, orders
   * are stored there too, whatever DATABASE_URL the environment has.
   */
  dataDir?: string;
  /** What all of them are told, and the default of everything here; by default the environment of this process. */
  baseEnv?: Environment;
  /** What one of them is told besides. It wins. */
  env?: Partial<Record<ServiceName, Environment>>;
  /** Only these; by default all three. */
  services?: readonly ServiceName[];
  /** Prints nothing: whoever starts it listens to the events. */
  quiet?: boolean;
  onEvent?: (event: PipelineEvent) => void;
  /** How long all may take to be ready. */
  startTimeoutMs?: number;
};

const ROOT = path.join(import.meta.dirname, '..');
const SCRIPT: Record<ServiceName, string> = {
  emulator: 'dev/emulator.ts',
  ...SERVICE_SCRIPT,
};
const READY_PATH: Record<ServiceName, string> = {
  emulator: '/health',
  producer: '/readyz',
  consumer: '/readyz',
};
const READY_POLL_MS = 50;
const DATA_POLL_MS = 250;
const PROBE_TIMEOUT_MS = 2_000;
/** Above the services' own SHUTDOWN_GRACE_MS. */
const GRACE_MS = 45_000;

export type Pipeline = {
  endpoint: string;
  producerUrl: string;
  consumerUrl: string;
  dataDir: string;
  /** Of the process that runs now; another one after a restart, undefined between two. */
  pid: (name: ServiceName) => number | undefined;
  /** Resolves when all answer that they are ready, for instance after one was started again. */
  ready: (options?: { signal?: AbortSignal }) => Promise<void>;
  /** Stops the producer, then the consumer, then the emulator, each when the one before has ended. */
  stop: () => Promise<void>;
};

/**
 * Starts the embedded emulator and both services as processes, each started again when it dies. Resolves when all
 * are ready. They stop by themselves when this process ends without having stopped them.
 * @throws {StartupError} when a port is taken or one of them cannot start; nothing runs then
 */
export async function startPipeline(options: PipelineOptions = {}): Promise<Pipeline> {
  const supervisor = new PipelineSupervisor(options);
  await supervisor.start();
  const { emulator, producer, consumer } = supervisor.urls;
  return {
    endpoint: emulator,
    producerUrl: producer,
    consumerUrl: consumer,
    dataDir: supervisor.dataDir,
    pid: (name) => supervisor.pid(name),
    ready: (options) => supervisor.ready(options),
    stop: () => supervisor.stop(),
  };
}

/** What is behind {@link startPipeline}, for one that must be able to stop it while it starts. */
export class PipelineSupervisor {
  readonly #options: PipelineOptions;
  readonly #baseEnv: Environment;
  readonly #services: readonly ServiceName[];
  readonly #processes = new Map<ServiceName, SupervisedProcess>();
  readonly #complaints: string[] = [];
  readonly dataDir: string;
  #ports: Ports | undefined;
  /** Rejects the start: a service died before it was ready, or all are being stopped. */
  readonly #failure = Promise.withResolvers<never>();
  #starting = true;
  #dataTimer: NodeJS.Timeout | undefined;
  #stopped: Promise<void> | undefined;

  constructor(options: PipelineOptions = {}) {
    this.#options = options;
    this.#baseEnv = options.baseEnv ?? process.env;
    this.#services = options.services ?? SERVICES;
    this.dataDir = path.resolve(ROOT, options.dataDir ?? (this.#baseEnv['DATA_DIR'] || '.data'));
    this.#failure.promise.catch(() => {});
  }

  get urls(): Record<ServiceName, string> {
    const ports = this.#ports;
    if (!ports) throw new Error('not started');
    const url = (name: ServiceName) => `http://127.0.0.1:${ports[name]}`;
    return { emulator: url('emulator'), producer: url('producer'), consumer: url('consumer') };
  }

  pid(name: ServiceName): number | undefined {
    return this.#processes.get(name)?.pid;
  }

  #logFile(name: ServiceName): string {
    return path.join(this.dataDir, 'logs', `${name}.log`);
  }

  /** Resolves when all are ready. On failure, or when {@link stop} is called meanwhile, rejects with nothing running. */
  async start(): Promise<void> {
    try {
      checkHost(this.#baseEnv['HOST']);
      const ports = await choosePorts({ ...loadPorts(this.#baseEnv), ...this.#givenPorts() }, this.#services);
      this.#ports = ports;
      mkdirSync(path.join(this.dataDir, 'logs'), { recursive: true });
      this.#watchData();
      const deadline = AbortSignal.timeout(this.#options.startTimeoutMs ?? 60_000);
      for (const stage of [['emulator'], ['producer', 'consumer']] as const) {
        const names = stage.filter((name) => this.#services.includes(name));
        if (this.#stopped) throw new StartupError('stopped while starting');
        for (const name of names) this.#launch(name, ports);
        await Promise.race([this.#failure.promise, this.ready({ signal: deadline, services: names })]);
      }
      this.#starting = false;
    } catch (error) {
      await this.stop();
      throw error instanceof StartupError ? error : this.#notReady(error);
    }
  }

  async ready(options: { signal?: AbortSignal; services?: readonly ServiceName[] } = {}): Promise<void> {
    await Promise.all((options.services ?? this.#services).map((name) => this.#ready(name, options.signal)));
  }

  /** Stops the producer, then the consumer, then the emulator, each when the one before has ended. */
  stop(): Promise<void> {
    this.#failure.reject(new StartupError('stopped while starting'));
    clearInterval(this.#dataTimer);
    this.#stopped ??= (async () => {
      for (const name of STOP_ORDER) await this.#processes.get(name)?.stop();
    })();
    return this.#stopped;
  }

  /** Ends all at once, whatever they are doing. */
  async kill(): Promise<void> {
    await Promise.all([...this.#processes.values()].map((process) => process.kill()));
    await this.stop();
  }

  #givenPorts(): Partial<Ports> {
    const { ports } = this.#options;
    return ports === 'free' ? { emulator: 0, producer: 0, consumer: 0 } : (ports ?? {});
  }

  #launch(name: ServiceName, ports: Ports): void {
    const supervised = new SupervisedProcess({
      name,
      flags: name === 'emulator' ? [] : SERVICE_FLAGS,
      script: path.join(ROOT, SCRIPT[name]),
      workingDirectory: ROOT,
      env: { ...this.#env(ports), ...this.#options.env?.[name] },
      logFile: this.#logFile(name),
      graceMs: GRACE_MS,
      onEvent: (event) => this.#onEvent({ ...event, name }),
    });
    this.#processes.set(name, supervised);
    supervised.start();
  }

  #env(ports: Ports): NodeJS.ProcessEnv {
    const base = this.#baseEnv;
    const database = `sqlite:${path.relative(ROOT, path.join(this.dataDir, 'orders.db'))}`;
    return {
      ...base,
      APP_ENV: 'dev',
      EMULATOR_PORT: String(ports.emulator),
      EMULATOR_DATA_DIR: path.join(this.dataDir, 'emulator'),
      AWS_ENDPOINT_URL: this.urls.emulator,
      // Would win over the line above; empty is as good as not set, and `.env` cannot set it again.
      AWS_ENDPOINT_URL_SQS: '',
      PRODUCER_PORT: String(ports.producer),
      CONSUMER_PORT: String(ports.consumer),
      ORDER_STATUS_BASE_URL: base['ORDER_STATUS_BASE_URL'] || `http://localhost:${ports.consumer}`,
      DATABASE_URL: this.#options.dataDir === undefined ? base['DATABASE_URL'] || database : database,
      // A poll under way is left to finish: a short one makes for a quick stop.
      SQS_WAIT_TIME_SECONDS: base['SQS_WAIT_TIME_SECONDS'] || '2',
      LIBRARY_LOG_LEVEL: base['LIBRARY_LOG_LEVEL'] || 'info',
    };
  }

  async #ready(name: ServiceName, signal: AbortSignal | undefined): Promise<void> {
    const url = this.urls[name] + READY_PATH[name];
    for (;;) {
      signal?.throwIfAborted();
      if (this.#stopped) throw new Error(`${name} was stopped`);
      if (this.pid(name) !== undefined && (await isReady(url))) return;
      await sleep(READY_POLL_MS);
    }
  }

  #watchData(): void {
    const { ino } = statSync(this.dataDir);
    this.#dataTimer = setInterval(() => {
      if (statSync(this.dataDir, { throwIfNoEntry: false })?.ino === ino) return;
      this.#onEvent({ type: 'data gone', name: 'emulator', dataDir: this.dataDir });
      void this.stop();
    }, DATA_POLL_MS);
  }

  #onEvent(event: PipelineEvent): void {
    this.#options.onEvent?.(event);
    if (this.#starting && event.type === 'complaint') {
      this.#complaints.push(`${event.name}: ${event.line}`);
    } else if (this.#starting && event.type === 'died' && event.status.startsWith('status')) {
      // Wrong from the start: the same again would end the same.
      void this.#processes.get(event.name)?.stop();
      this.#failure.reject(this.#notReady(`${event.name} ended with ${event.status}`));
    } else if (!this.#options.quiet) {
      console.error(lineOf(event));
    }
  }

  #notReady(cause: unknown): StartupError {
    const late = cause instanceof DOMException && cause.name === 'TimeoutError';
    const reason = late ? 'not ready in time' : cause instanceof Error ? cause.message : String(cause);
    const last = this.#complaints.slice(-5).map((line) => `\n  ${line}`);
    const logs = path.relative(process.cwd(), path.join(this.dataDir, 'logs')) || '.';
    return new StartupError(`cannot start: ${reason} (logs in ${logs})${last.join('')}`, { cause });
  }
}

/** Both services are reached at 127.0.0.1. */
function checkHost(host: string | undefined): void {
  if (!host || ['127.0.0.1', 'localhost', '0.0.0.0', '::'].includes(host)) return;
  throw new StartupError(
    `HOST=${host}: npm start looks for its services at 127.0.0.1; leave HOST out, or use 0.0.0.0`,
  );
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

function lineOf(event: PipelineEvent): string {
  switch (event.type) {
    case 'died': {
      const when = event.restartInMs === 0 ? '' : ` in ${event.restartInMs / 1_000} s`;
      return `${event.name} (pid ${event.pid}) died, ${event.status}: starting it again${when}`;
    }
    case 'restarted':
      return `${event.name} was started again (pid ${event.pid})`;
    case 'complaint':
      return `${event.name}: ${event.line}`;
    case 'data gone':
      return `${event.dataDir} was deleted: what is accepted now would be lost, so all stop. npm start starts afresh`;
    case 'stopped badly':
      return `${event.name} did not stop cleanly: ${event.status}`;
  }
}
