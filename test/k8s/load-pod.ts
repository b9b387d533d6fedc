import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { kubectlFor } from './cluster.ts';

/**
 * What became of one order. Status 0: no answer, the order may be stored or not. `startedAt` is when its last request was
 * sent and `at` when that ended, in the pod's time; `refused` counts the connections before that nobody took.
 */
export type LoadAnswer = {
  orderId: string;
  startedAt: number;
  at: number;
  status: number;
  refused: number;
  detail?: string;
};

export type LoadPod = {
  /** All so far. */
  answers: LoadAnswer[];
  accepted: () => string[];
  failed: () => LoadAnswer[];
  /** Resolves when so many more were accepted. */
  more: (count: number) => Promise<void>;
  /** So many orders a second from now on, if the answers come soon enough. */
  pace: (ordersPerSecond: number) => void;
  /** Resolves when every request has ended and its answer has arrived here. */
  stop: () => Promise<void>;
};

/** Generous: it is for a load that stands still, on however slow a machine. */
const MORE_MS = 120_000;

export type LoadPodOptions = {
  namespace: string;
  /** Any image with Node 24. */
  image: string;
  url?: string;
  clients: number;
  /** Of all clients together, if the answers come soon enough. */
  ordersPerSecond: number;
  /** How long a client tries again when its connection is refused; not at all by default. */
  retryRefusedMs?: number;
};

/** Orders from a pod of the cluster, through the Service. Every second client keeps its connection. */
export async function startLoadPod(options: LoadPodOptions): Promise<LoadPod> {
  const { namespace, image, url = 'http://order-producer:8080' } = options;
  const { clients, ordersPerSecond, retryRefusedMs = 0 } = options;
  const kubectl = kubectlFor(namespace);
  const name = `load-${Date.now().toString(36)}`;
  const settings = { url, clients, retryRefusedMs };
  await kubectl.withInput(JSON.stringify(pod(name, image, settings)), 'create', '-f', '-');
  await kubectl('wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s');

  const attached = spawn('kubectl', ['-n', namespace, 'attach', '-i', '-q', name], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers: LoadAnswer[] = [];
  let lines: number | undefined;
  createInterface({ input: attached.stdout }).on('line', (line) => {
    const parsed = JSON.parse(line);
    if ('lines' in parsed) lines = parsed.lines;
    else answers.push(parsed);
  });
  const pace = (rate: number) => void attached.stdin.write(`${rate}\n`);
  pace(ordersPerSecond);
  const accepted = () => answers.filter(({ status }) => status === 202).map(({ orderId }) => orderId);
  return {
    answers,
    accepted,
    failed: () => answers.filter(({ status }) => status !== 202),
    more: async (count) => {
      const goal = accepted().length + count;
      await eventually(() => expect(accepted().length).toBeGreaterThanOrEqual(goal), MORE_MS);
    },
    pace,
    stop: async () => {
      const closed = once(attached, 'close');
      attached.stdin.write('stop\n');
      await closed;
      await kubectl('delete', 'pod', name, '--wait=false');
      if (lines !== answers.length)
        throw new Error(
          `the load pod had ${lines} answers, of which ${answers.length} arrived: nothing can be said`,
        );
    },
  };
}

function pod(name: string, image: string, settings: object) {
  const client = readFileSync(path.join(import.meta.dirname, 'load-client.ts'), 'utf8');
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: 'load' } },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      securityContext: { runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'load',
          image,
          imagePullPolicy: 'IfNotPresent',
          stdin: true,
          stdinOnce: true,
          command: [
            'node',
            '--input-type=module',
            '-e',
            stripTypeScriptTypes(client),
            JSON.stringify(settings),
          ],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  };
}
