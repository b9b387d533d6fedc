import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeploymentError, type DeploymentErrorCode, hasCode } from './errors.ts';

/** The few fields that are looked at; a manifest goes back as it came. */
export type KubernetesObject = {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    resourceVersion?: string;
    generation?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
};
type Container = { name: string; image: string; [field: string]: unknown };
export type DeploymentObject = KubernetesObject & {
  spec: {
    replicas?: number;
    selector: { matchLabels: Record<string, string> };
    template: {
      metadata: { labels: Record<string, string> };
      spec: { containers: [Container, ...Container[]]; initContainers?: Container[] };
    };
  };
  status?: {
    observedGeneration?: number;
    replicas?: number;
    updatedReplicas?: number;
    availableReplicas?: number;
  };
};
export type ServiceObject = KubernetesObject & { spec: { selector: Record<string, string> } };
type ContainerStatus = {
  restartCount: number;
  state: { waiting?: { reason?: string; message?: string } };
};
export type PodObject = KubernetesObject & {
  metadata: { deletionTimestamp?: string };
  spec: { containers: Container[] };
  status: {
    phase?: string;
    containerStatuses?: ContainerStatus[];
    initContainerStatuses?: ContainerStatus[];
  };
};

export type Execute = (
  args: string[],
  input?: string,
) => Promise<{ status: number; stdout: string; stderr: string }>;

const REQUEST_TIMEOUT = '--request-timeout=10s';
/** For so long an API server that does not answer is asked again: a restart or a failover of it takes seconds. */
const UNREACHABLE_RETRY_MS = 20_000;

/** kubectl prints no codes, so its text is read here, and nowhere else. */
const ERROR_PATTERNS: [DeploymentErrorCode, RegExp][] = [
  ['UNAUTHORIZED', /Unauthorized|must be logged in|provide credentials|getting credentials|token .*expired/i],
  ['FORBIDDEN', /\(Forbidden\)|is forbidden/],
  ['NOT_FOUND', /\(NotFound\)/],
  ['ALREADY_EXISTS', /\(AlreadyExists\)/],
  ['CONFLICT', /\(Conflict\)|the object has been modified/],
  [
    'UNREACHABLE',
    /Unable to connect|connection refused|connection reset|i\/o timeout|no such host|TLS handshake timeout|unexpected EOF|ServiceUnavailable|Client\.Timeout|context deadline exceeded|connection to the server/,
  ],
];

/** kubectl for one namespace. Every call either did what it says, or throws a {@link DeploymentError}. */
export class Kubectl {
  readonly namespace: string;
  readonly #execute: Execute;
  readonly #retryMs: number;

  constructor(namespace: string, execute: Execute = executeKubectl, retryMs = UNREACHABLE_RETRY_MS) {
    this.namespace = namespace;
    this.#execute = execute;
    this.#retryMs = retryMs;
  }

  /** @returns what kubectl printed */
  async run(args: string[], input?: string): Promise<string> {
    const giveUpAt = performance.now() + this.#retryMs;
    for (let pauseMs = 500; ; pauseMs = Math.min(pauseMs * 2, 4_000)) {
      const result = await this.#execute(['-n', this.namespace, REQUEST_TIMEOUT, ...args], input);
      if (result.status === 0) return result.stdout;
      const error = toError(args, result.stderr);
      if (error.code !== 'UNREACHABLE' || performance.now() + pauseMs > giveUpAt) throw error;
      await sleep(pauseMs);
    }
  }

  async get<T extends KubernetesObject>(kind: string, name: string): Promise<T> {
    return JSON.parse(await this.run(['get', kind, name, '-o', 'json']));
  }

  async find<T extends KubernetesObject>(kind: string, name: string): Promise<T | undefined> {
    return this.get<T>(kind, name).catch((error) => {
      if (hasCode(error, 'NOT_FOUND')) return undefined;
      throw error;
    });
  }

  async list<T extends KubernetesObject>(kind: string, labels: Record<string, string>): Promise<T[]> {
    const selector = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
    return JSON.parse(await this.run(['get', kind, '-l', selector.join(','), '-o', 'json'])).items;
  }

  /** Creates what is not there and changes what differs. */
  async apply(...objects: KubernetesObject[]): Promise<void> {
    await this.run(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  }

  /** Writes one object, which must be as it was read: @throws {DeploymentError} CONFLICT, ALREADY_EXISTS */
  async write<T extends KubernetesObject>(verb: 'create' | 'replace', object: T): Promise<T> {
    return JSON.parse(await this.run([verb, '-f', '-', '-o', 'json'], JSON.stringify(object)));
  }

  async patch(kind: string, name: string, patch: unknown): Promise<void> {
    await this.run(['patch', kind, name, '--type=merge', '-p', JSON.stringify(patch)]);
  }

  /** Its pods end by themselves, in their grace period. */
  async delete(kind: string, name: string): Promise<void> {
    await this.run(['delete', kind, name, '--ignore-not-found', '--wait=false']);
  }
}

function toError(args: string[], stderr: string): DeploymentError {
  const said = stderr.trim().split('\n').at(-1) ?? '';
  const code = ERROR_PATTERNS.find(([, pattern]) => pattern.test(stderr))?.[0] ?? 'KUBECTL';
  return new DeploymentError(code, `kubectl ${args.slice(0, 3).join(' ')}: ${said}`);
}

const executeKubectl: Execute = async (args, input) => {
  const child = spawn('kubectl', args, { stdio: ['pipe', 'pipe', 'pipe'] });
  // It may end before it has read its input, which its status tells better.
  child.stdin.on('error', () => {}).end(input);
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(new DeploymentError('KUBECTL', 'kubectl does not start: is it on the PATH?', { cause })),
    );
    child.once('close', (status) => resolve(status ?? 1));
  });
  const [status, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  return { status, stdout, stderr };
};
