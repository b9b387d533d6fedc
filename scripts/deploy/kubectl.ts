import { type ExecFileException, execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { DeploymentError, type DeploymentErrorCode, hasCode } from './errors.ts';
import { pause } from './pause.ts';

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
type Container = { name: string; image: string; ports?: ContainerPort[]; [field: string]: unknown };
type ContainerPort = { name?: string; containerPort: number };
export type DeploymentObject = KubernetesObject & {
  spec: {
    replicas?: number;
    strategy?: object;
    selector: { matchLabels: Record<string, string> };
    template: {
      metadata: { labels: Record<string, string> };
      spec: { containers: [Container, ...Container[]]; initContainers?: Container[] };
    };
  };
  status?: Partial<
    Record<'observedGeneration' | 'replicas' | 'updatedReplicas' | 'availableReplicas', number>
  >;
};
export type ServiceObject = KubernetesObject & { spec: { selector: Record<string, string> } };
type ContainerStatus = { restartCount: number; state: { waiting?: { reason?: string; message?: string } } };
export type PodObject = KubernetesObject & {
  metadata: { deletionTimestamp?: string };
  spec: { containers: Container[] };
  status: {
    phase?: string;
    conditions?: { type: string; status: string; message?: string }[];
    containerStatuses?: ContainerStatus[];
    initContainerStatuses?: ContainerStatus[];
  };
};

type Output = { stdout: string; stderr: string };
export type Execute = (args: string[], input?: string) => Promise<Output & { status: number }>;

const run = promisify(execFile);
const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;

/** A call of kubectl is seen to its end, also when the operator breaks off: else nobody knows what it did. */
const NEVER = new AbortController().signal;
/** kubectl itself may hang, for instance in the program that gets its token. */
const PROCESS_TIMEOUT_MS = 60_000;
const REQUEST_TIMEOUT = '--request-timeout=10s';
/** For so long an API server that does not answer is asked again: a restart or a failover of it takes seconds. */
const UNREACHABLE_RETRY_MS = 20_000;

/** kubectl prints no codes, so its text is read here, and nowhere else. */
const ERROR_PATTERNS: [DeploymentErrorCode, RegExp][] = [
  ['UNAUTHORIZED', /Unauthorized|must be logged in|provide credentials|getting credentials|token .*expired/i],
  ['FORBIDDEN', /\(Forbidden\)|is forbidden/],
  ['NOT_FOUND', /\(NotFound\)/],
  ['ALREADY_EXISTS', /\(AlreadyExists\)/],
  // The second is what becomes of a JSON patch whose `test` fails.
  ['CONFLICT', /\(Conflict\)|The request is invalid: the server rejected/],
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
      await pause(NEVER, pauseMs);
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

  /** Those of the objects that are there, as they are. */
  async findAll(objects: KubernetesObject[]): Promise<KubernetesObject[]> {
    if (objects.length === 0) return [];
    const args = ['get', '--ignore-not-found', '-o', 'json', '-f', '-'];
    const found = JSON.parse((await this.run(args, listOf(objects))) || '{"items":[]}');
    return found.items ?? [found];
  }

  /** Creates what is not there and changes what differs. */
  async apply(objects: KubernetesObject[]): Promise<void> {
    if (objects.length > 0) await this.run(['apply', '-f', '-'], listOf(objects));
  }

  /** @throws {DeploymentError} ALREADY_EXISTS */
  async create(object: KubernetesObject): Promise<void> {
    await this.run(['create', '-f', '-'], JSON.stringify(object));
  }

  /**
   * @param patch members to merge (RFC 7396), or operations on single paths (RFC 6902)
   * @throws {DeploymentError} CONFLICT when a `test` among these fails
   */
  async patch<T extends KubernetesObject>(
    kind: string,
    name: string,
    patch: object,
    { dryRun = false } = {},
  ): Promise<T> {
    const type = Array.isArray(patch) ? 'json' : 'merge';
    const args = ['patch', kind, name, `--type=${type}`, '-p', JSON.stringify(patch), '-o', 'json'];
    return JSON.parse(await this.run(dryRun ? [...args, '--dry-run=server'] : args));
  }

  /** Its pods end by themselves, in their grace period. */
  async delete(kind: string, name: string): Promise<void> {
    await this.run(['delete', kind, name, '--ignore-not-found', '--wait=false']);
  }
}

const listOf = (items: KubernetesObject[]) => JSON.stringify({ apiVersion: 'v1', kind: 'List', items });

export const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** What `kubectl apply`, or a deployment, noted as the manifest of an object. */
export function lastApplied<T extends KubernetesObject>({ metadata }: T): T | undefined {
  const noted = metadata.annotations?.[LAST_APPLIED];
  return noted === undefined ? undefined : JSON.parse(noted);
}

function toError(args: string[], stderr: string): DeploymentError {
  const said = stderr.trim().split('\n').at(-1) ?? '';
  const code = ERROR_PATTERNS.find(([, pattern]) => pattern.test(stderr))?.[0] ?? 'KUBECTL';
  return new DeploymentError(code, `kubectl ${args.slice(0, 3).join(' ')}: ${said}`);
}

const executeKubectl: Execute = async (args, input) => {
  const limits = { timeout: PROCESS_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES } as const;
  const running = run('kubectl', args, limits);
  // It may end before it has read its input, which its status tells better.
  running.child.stdin?.on('error', () => {}).end(input);
  try {
    return { status: 0, ...(await running) };
  } catch (cause) {
    const { code, killed, stdout = '', stderr = '' } = cause as ExecFileException & Output;
    if (code === 'ENOENT')
      throw new DeploymentError('KUBECTL', 'kubectl does not start: is it on the PATH?', { cause });
    return { status: 1, stdout, stderr: killed ? `Unable to connect in time. ${stderr}` : stderr };
  }
};
