import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { Kubectl as Deployer } from '../../scripts/deploy/kubectl.ts';
import { rolledOut as waitForRollout } from '../../scripts/deploy/rollout.ts';
import type { Availability } from '../support/containers.ts';
import { eventually } from '../support/eventually.ts';

const run = promisify(execFile);
const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;

export type Kubectl = {
  (...args: string[]): Promise<string>;
  /** With this on standard input; answers what came on both outputs, warnings of the API server among it. */
  withInput: (input: string, ...args: string[]) => Promise<string>;
  json: <T = Resource>(...args: string[]) => Promise<T>;
};

export type Resource = {
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    deletionTimestamp?: string;
    annotations?: Record<string, string>;
  };
  // biome-ignore lint/suspicious/noExplicitAny: any kind of Kubernetes object
  [field: string]: any;
};

/** kubectl, in one namespace where one is given. It throws with what kubectl said. */
export function kubectlFor(namespace?: string): Kubectl {
  const where = namespace ? ['-n', namespace] : [];
  const call = async (...args: string[]) =>
    (await run('kubectl', [...where, ...args], { maxBuffer: MAX_OUTPUT_BYTES })).stdout;
  return Object.assign(call, {
    withInput: async (input: string, ...args: string[]) => {
      const process = run('kubectl', [...where, ...args], { maxBuffer: MAX_OUTPUT_BYTES });
      process.child.stdin?.end(input);
      const { stdout, stderr } = await process;
      return stderr + stdout;
    },
    json: async <T>(...args: string[]) => JSON.parse(await call(...args, '-o', 'json')) as T,
  });
}

/** `eventually`, where kubectl is asked: each question is a process, and a tenth of a second of a processor. */
export const eventuallyInCluster = <T>(assertion: () => Promise<T>, timeout?: number): Promise<T> =>
  eventually(assertion, timeout, 500);

/**
 * Is there a cluster that was named on purpose? No test ever takes the one of somebody's ~/.kube/config.
 * @throws when not, and REQUIRE_CLUSTER=1 says it must be so
 */
export async function clusterAvailable(): Promise<Availability> {
  const found = await findCluster();
  if (!found.available && process.env['REQUIRE_CLUSTER'] === '1')
    throw new Error(`REQUIRE_CLUSTER=1, and ${found.reason}`);
  return found;
}

async function findCluster(): Promise<Availability> {
  if (!process.env['KUBECONFIG'])
    return { available: false, reason: 'skipped: KUBECONFIG names no cluster for tests' };
  try {
    await run('kubectl', ['get', '--raw', '/readyz', '--request-timeout=5s']);
    return { available: true, reason: `cluster of ${process.env['KUBECONFIG']}` };
  } catch (error) {
    const missing = (error as { code?: unknown }).code === 'ENOENT';
    return {
      available: false,
      reason: missing ? 'skipped: no kubectl on the PATH' : 'skipped: no cluster answers',
    };
  }
}

export const POSTGRES_IMAGE = 'postgres:17';
/** What `components/local-backends` runs besides the services. */
export const BACKEND_IMAGES = ['localstack/localstack:4.14.0', POSTGRES_IMAGE];

/**
 * Brings images to the cluster's nodes with the command that K8S_LOAD_IMAGES names, for instance `kind load
 * docker-image` or `minikube image load`; those of the local backends are pulled first where the local engine lacks them.
 * Without the command all are taken to be there.
 */
export async function loadImages(...images: string[]): Promise<void> {
  const [command, ...args] = (process.env['K8S_LOAD_IMAGES'] ?? '').split(' ').filter(Boolean);
  if (!command) return;
  const load = (...wanted: string[]) => run(command, [...args, ...wanted], { maxBuffer: MAX_OUTPUT_BYTES });
  await load(...images.filter((image) => !BACKEND_IMAGES.includes(image)));
  for (const image of images.filter((image) => BACKEND_IMAGES.includes(image))) {
    try {
      await run('docker', ['image', 'inspect', image]).catch(() => run('docker', ['pull', '-q', image]));
      await load(image);
    } catch (error) {
      // Not the end: the kubelet pulls what its node lacks, where it reaches a registry. kind, for one, cannot take an
      // image of many platforms from an engine that keeps one of them (https://github.com/kubernetes-sigs/kind/issues/3795).
      console.warn(`${image} was not brought to the nodes, which must pull it themselves: ${error}`);
    }
  }
}

/**
 * Resolves when all pods of the Deployment are new and available.
 * @throws what a pod waits for, at once where waiting cannot help it
 */
export async function rolledOut(namespace: string, deployment: string, timeoutSeconds = 240): Promise<void> {
  const { signal } = new AbortController();
  const rollout = { kubectl: new Deployer(namespace), signal, rolloutTimeoutSeconds: timeoutSeconds };
  try {
    await waitForRollout(rollout, deployment);
  } catch (error) {
    const { message } = error as Error;
    if (!/Image(PullBackOff|NeverPull)/.test(message)) throw error;
    const command = process.env['K8S_LOAD_IMAGES'] || 'not set';
    throw new Error(
      `${message}\nThe command in K8S_LOAD_IMAGES brings images to the nodes (k8s/README.md). It is ${command}.`,
      { cause: error },
    );
  }
}

const SQS_IMAGE = 'order-sqs:test';
const TEST_LABEL = 'order-pipeline/test';

/**
 * An empty namespace, as this manifest has it, which ends with its disposal. One that no test made is not touched.
 * @throws when there is one of that name which somebody else made
 */
export async function freshNamespace(manifest: string): Promise<AsyncDisposable> {
  const kubectl = kubectlFor();
  const { name } = (parse(await readFile(manifest, 'utf8')) as Resource).metadata;
  const found = await kubectl('get', 'namespace', name, '--ignore-not-found', '-o', 'json');
  if (found && JSON.parse(found).metadata.labels?.[TEST_LABEL] !== 'true')
    throw new Error(
      `the cluster has a namespace ${name} that no test made. If it may go: kubectl label namespace ${name} ${TEST_LABEL}=true`,
    );
  if (found) await kubectl('delete', 'namespace', name, '--timeout=120s');
  await kubectl('apply', '-f', manifest);
  await kubectl('label', 'namespace', name, `${TEST_LABEL}=true`);
  return {
    [Symbol.asyncDispose]: async () => {
      await kubectl('delete', 'namespace', name, '--ignore-not-found', '--wait=false');
    },
  };
}

/** The image of a service, as the repository has it now. */
export async function buildImage(service: 'producer' | 'consumer', tag: string): Promise<string> {
  const image = `order-${service}:${tag}`;
  const args = ['build', '-q', '--target', service, '-t', image, '--build-arg', `VERSION=${tag}`, '.'];
  await run('docker', args, { maxBuffer: MAX_OUTPUT_BYTES });
  return image;
}

/** fauxqs as a pod, in memory: what `test/k8s/staging` has in the place of LocalStack. */
export async function buildSqsImage(): Promise<string> {
  const { devDependencies } = JSON.parse(await readFile('package.json', 'utf8'));
  const version = `FAUXQS=${devDependencies.fauxqs}`;
  await run('docker', ['build', '-q', '-t', SQS_IMAGE, '--build-arg', version, 'test/k8s/sqs']);
  return SQS_IMAGE;
}

/** A port of a Service or pod on 127.0.0.1, for as long as it is not disposed. */
export async function forwardPort(
  namespace: string,
  target: string,
  port: number,
): Promise<{ port: number } & AsyncDisposable> {
  const child = spawn('kubectl', ['-n', namespace, 'port-forward', target, `:${port}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const local = /^Forwarding from 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (local) return { port: Number(local), [Symbol.asyncDispose]: () => end(child) };
  }
  throw new Error(`kubectl port-forward ${target} ended`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill();
  await once(child, 'exit');
}
