import { kubectlFor } from './cluster.ts';

export type Killer = {
  /** @returns when, by the node's clock, which is that of its pods too */
  kill: (podName: string) => Promise<number>;
} & AsyncDisposable;

/**
 * Kills the process of a pod with SIGKILL, as the kernel does when memory runs out: no preStop, no SIGTERM. From inside
 * its own container process 1 cannot be killed, so another pod does it that sees the node's processes.
 * @param image any with Node 24
 */
export async function startKiller(image: string): Promise<Killer> {
  const name = `order-killer-${Date.now().toString(36)}`;
  const kubectl = kubectlFor('default');
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      hostPID: true,
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: 'killer',
          image,
          imagePullPolicy: 'IfNotPresent',
          command: ['node', '-e', 'setInterval(() => {}, 60_000)'],
          securityContext: { runAsUser: 0, privileged: true },
        },
      ],
    },
  };
  await kubectl.withInput(JSON.stringify(pod), 'create', '-f', '-');
  await kubectl('wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s');
  return {
    kill: async (podName) => Number(await kubectl('exec', name, '--', 'node', '-e', KILL, podName)),
    [Symbol.asyncDispose]: async () => {
      await kubectl('delete', 'pod', name, '--wait=false');
    },
  };
}

const KILL = `
  const { readdirSync, readFileSync } = require('node:fs');
  const read = (file) => { try { return readFileSync(file, 'utf8').split('\\0'); } catch { return []; } };
  const found = readdirSync('/proc').filter((pid) => /^\\d+$/.test(pid)
    && read('/proc/' + pid + '/environ').includes('HOSTNAME=' + process.argv[1])
    && read('/proc/' + pid + '/cmdline')[0] === 'node');
  if (found.length !== 1) throw new Error(found.length + ' processes of ' + process.argv[1]);
  console.log(Date.now());
  process.kill(Number(found[0]), 'SIGKILL');
`;
