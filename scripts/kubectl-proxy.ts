import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PORTS = { 'order-producer': 8080, 'order-consumer': 8081 } as const;
type Service = keyof typeof PORTS;

/**
 * What is deployed in a namespace of the cluster that kubectl is set to, as URLs on this machine: through `kubectl proxy`
 * and the API server, with the rights of `k8s/deployer`.
 */
export type KubectlProxy = {
  service: (name: Service) => string;
  /** Of each pod that runs now, by its name. */
  pods: (name: Service) => Promise<Map<string, string>>;
} & AsyncDisposable;

/** @throws when kubectl cannot be had; whether the cluster answers shows with the first request */
export async function openKubectlProxy(namespace: string): Promise<KubectlProxy> {
  const child = spawn(
    'kubectl',
    ['proxy', '--port=0', `--accept-paths=^/api/v1/namespaces/${namespace}/(pods|services)/[^/]+/proxy/`],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const failed = once(child, 'error').then(([error]) => Promise.reject(error));
  const base = `${await Promise.race([address(child), failed])}/api/v1/namespaces/${namespace}`;
  return {
    service: (name) => `${base}/services/${name}:${PORTS[name]}/proxy`,
    pods: async (name) => {
      const selection = [`--selector=app=${name}`, '--field-selector=status.phase=Running', '--output=name'];
      const { stdout } = await run('kubectl', [`--namespace=${namespace}`, 'get', 'pods', ...selection]);
      const names = stdout.split('\n').filter(Boolean);
      return new Map(
        names.map((pod) => [pod, `${base}/${pod.replace('pod/', 'pods/')}:${PORTS[name]}/proxy`] as const),
      );
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill();
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
  throw new Error('kubectl proxy ended');
}
