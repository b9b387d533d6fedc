import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { Availability } from '../containers.ts';

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
  metadata: { name: string; namespace?: string; uid?: string; deletionTimestamp?: string };
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

/** Is there a cluster that was named on purpose? No test ever takes the one of somebody's ~/.kube/config. */
export async function clusterAvailable(): Promise<Availability> {
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

/**
 * Brings images of the local engine to the cluster's nodes with the command that K8S_LOAD_IMAGES names, for instance
 * `kind load docker-image` or `minikube image load`. Without it they are taken to be there.
 */
export async function loadImages(...images: string[]): Promise<void> {
  const [command, ...args] = (process.env['K8S_LOAD_IMAGES'] ?? '').split(' ').filter(Boolean);
  if (command) await run(command, [...args, ...images], { maxBuffer: MAX_OUTPUT_BYTES });
}

/** The image of a service, as the repository has it now. */
export async function buildImage(service: 'producer' | 'consumer', tag: string): Promise<string> {
  const image = `order-${service}:${tag}`;
  const args = ['build', '-q', '--target', service, '-t', image, '--build-arg', `VERSION=${tag}`, '.'];
  await run('docker', args, { maxBuffer: MAX_OUTPUT_BYTES });
  return image;
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
