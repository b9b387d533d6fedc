import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { PodObject } from './deploy/kubectl.ts';
import { metricsPort, PORTS, type ServiceName } from './deploy/manifests.ts';

const run = promisify(execFile);
const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;

/**
 * What is deployed in a namespace of the cluster that kubectl is set to, as URLs on this machine: through `kubectl proxy`
 * and the API server, with the rights of `k8s/deployer`.
 */
export type KubectlProxy = {
  /** @param target `services/NAME:PORT` or `pods/NAME:PORT` */
  url: (target: string) => string;
  service: (name: ServiceName) => string;
  /** Of each pod that runs now, by its name: where it shows its metrics. */
  metrics: (name: ServiceName) => Promise<Map<string, string>>;
} & AsyncDisposable;

/**
 * Ends what it runs also when this process was killed: nobody else would close that port. Ctrl-C does not reach it, as the
 * way back needs it.
 */
const WHILE_STDIN_IS_OPEN =
  'exec 3<&0; "$@" & child=$!; (cat <&3 >/dev/null; kill $child 2>/dev/null) & wait $child 2>/dev/null';

/** @throws when kubectl cannot be had; whether the cluster answers shows with the first request */
export async function openKubectlProxy(namespace: string): Promise<KubectlProxy> {
  // The port is open to everyone on this machine while it lasts: nothing but this namespace's pods and Services.
  const paths = `^/api/v1/namespaces/${namespace}/(pods|services)/[^/]+/proxy/`;
  const command = ['kubectl', 'proxy', '--port=0', `--accept-paths=${paths}`];
  const child = spawn('sh', ['-c', WHILE_STDIN_IS_OPEN, 'sh', ...command], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const base = `${await address(child)}/api/v1/namespaces/${namespace}`;
  const url = (target: string) => `${base}/${target}/proxy`;
  return {
    url,
    service: (name) => url(`services/${name}:${PORTS[name]}`),
    metrics: async (name) => {
      const selection = [`--selector=app=${name}`, '--field-selector=status.phase=Running', '--output=json'];
      const { stdout } = await run('kubectl', [`--namespace=${namespace}`, 'get', 'pods', ...selection], {
        maxBuffer: MAX_OUTPUT_BYTES,
      });
      const pods: PodObject[] = JSON.parse(stdout).items;
      return new Map(
        pods.map((pod) => [pod.metadata.name, url(`pods/${pod.metadata.name}:${metricsPort(pod, name)}`)]),
      );
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.stdin.end();
      await once(child, 'exit');
    },
  };
}

async function address({ stdout }: ChildProcess): Promise<string> {
  if (stdout) {
    for await (const line of createInterface({ input: stdout })) {
      const found = /serve on (\S+)$/.exec(line)?.[1];
      if (found) return `http://${found}`;
    }
  }
  throw new Error('kubectl proxy does not start: is kubectl on the PATH?');
}
