import { expect, onTestFinished, vi } from 'vitest';
import { deployRelease, type Request } from '../deploy-release.ts';
import { DeploymentError } from '../errors.ts';
import type { DeploymentObject, ServiceObject } from '../kubectl.ts';
import { acquireLock, readState } from '../lock.ts';
import { readManifests, releaseOf, SERVICES } from '../manifests.ts';
import { rollBack, rollBackTarget } from '../roll-back.ts';
import { FakeCluster } from './fake-cluster.ts';

const PORTS = { 'order-producer': 8080, 'order-consumer': 8081 };

const deployment = (name: keyof typeof PORTS, env: string, management: boolean) => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name}, namespace: staging, labels: { app: ${name} } }
spec:
  strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }
  selector: { matchLabels: { app: ${name}, track: stable } }
  template:
    metadata: { labels: { app: ${name}, track: stable } }
    spec:
      containers:
        - name: ${name}
          image: "registry/${name}:1"
          env: ${env}
          ports:
            - { name: http, containerPort: ${PORTS[name]} }
            ${management ? '- { name: management, containerPort: 8082 }' : ''}
---`;

const MORE = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: one-more, namespace: staging }
spec: {}
`;

const INGRESS = `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: order-producer, namespace: staging }
spec: {}
`;

/**
 * @param policy what the NetworkPolicy of the overlay is
 * @param management whether its pods show their metrics on a port of their own
 */
export function overlay({
  env = '[]',
  policy = 'open',
  more = false,
  ingress = false,
  management = false,
} = {}): string {
  return `
apiVersion: v1
kind: Service
metadata: { name: order-producer, namespace: staging }
spec: { selector: { app: order-producer, track: stable } }
---
apiVersion: v1
kind: Service
metadata: { name: order-consumer, namespace: staging }
spec: { selector: { app: order-consumer } }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: order-producer, namespace: staging }
spec: { note: ${policy} }
---${deployment('order-producer', env, management)}${deployment('order-consumer', env, management)}
apiVersion: v1
kind: ConfigMap
metadata: { name: order-producer-abc, namespace: staging }
${more ? MORE : ''}${ingress ? INGRESS : ''}`;
}

/** A cluster, and the commands of an operator. Its time is vitest's: minutes pass at once. */
export type Staging = ReturnType<typeof createStaging>;

export function createStaging() {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance', 'Date'],
  });
  vi.setTimerTickMode('nextTimerAsync');
  onTestFinished(() => void vi.useRealTimers());
  const cluster = new FakeCluster();
  cluster.objects.set('namespace/staging', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'staging' },
  });
  const said: string[] = [];
  const refusal: { redrive?: string } = {};
  const commits: Record<string, Parameters<typeof overlay>[0]> = {};
  const saidAt = new Map<string, number>();
  const interrupted = new AbortController();
  const session = {
    kubectl: cluster.kubectl,
    http: cluster.http,
    redrive: async (codeVersion: string, since: Date) => {
      cluster.advance();
      if (refusal.redrive) throw new DeploymentError('NOT_REDRIVEN', refusal.redrive);
      return cluster.workload.redrive(codeVersion, since);
    },
    configurationAt: async (release: string) => {
      const commit = commits[release];
      if (commit) return readManifests(overlay(commit), release).others;
      throw new DeploymentError('MANIFEST', `the overlay of ${release} cannot be had`);
    },
    say: (line: string) => {
      said.push(line);
      saidAt.set(line, performance.now());
    },
    signal: interrupted.signal,
    rolloutTimeoutSeconds: 60,
    watchSeconds: 6,
  };
  const request = (
    tag: string,
    options: Parameters<typeof overlay>[0] & { isFirst?: boolean } = {},
  ): Request => ({
    ...session,
    tag,
    overlay: 'k8s/overlays/staging',
    manifests: readManifests(overlay(options), tag),
    isFirst: options.isFirst ?? false,
  });
  return {
    cluster,
    workload: cluster.workload,
    said,
    /** When a line that holds the text was said last. */
    saidAt: (text: string) => saidAt.get(said.findLast((line) => line.includes(text)) ?? '') ?? Number.NaN,
    session,
    /** Overlays that git has, by release. */
    commits,
    /** Why SQS lets nobody redrive. */
    refusal,
    request,
    interrupt: () => interrupted.abort(),
    deploy: async (tag: string, options?: Parameters<typeof request>[1]) => {
      await using lock = await acquireLock(cluster.kubectl);
      const deploy = request(tag, options);
      await deployRelease({ ...deploy, signal: AbortSignal.any([deploy.signal, lock.signal]) }, lock);
    },
    rollBack: async (to?: string) => {
      await using lock = await acquireLock(cluster.kubectl);
      return await rollBack(session, lock, await rollBackTarget(cluster.kubectl, lock.state, to));
    },
    state: () => readState(cluster.kubectl),
    /** What was changed since so many changes, but for the lock. */
    changesSince: (count: number) =>
      cluster.changes.slice(count).filter((change) => !change.startsWith('patch lease')),
    /** Lets time pass. */
    wait: async (seconds: number) => {
      await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
      cluster.advance();
    },
  };
}

/** The same with a release that serves. */
export async function serving(release = 'v1'): Promise<Staging> {
  const staging = createStaging();
  await staging.deploy(release);
  await staging.wait(1);
  staging.workload.clients.failed.length = 0;
  return staging;
}

export const UNAUTHORIZED = 'error: You must be logged in to the server (Unauthorized)';

/** The same with a deployment of v2 whose token expired when the traffic was about to be switched, a minute ago. */
export async function halfWay(): Promise<Staging> {
  const staging = await serving();
  staging.cluster.fault = () => (saidOf(staging).includes('[8/') ? UNAUTHORIZED : undefined);
  await expect(staging.deploy('v2')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  staging.cluster.fault = () => undefined;
  await staging.wait(70);
  return staging;
}

export const saidOf = ({ said }: Staging) => said.join('\n');

/** Does it at the first call of kubectl that finds it so. */
export function once(staging: Staging, isSo: () => boolean, then: () => void): void {
  let isDone = false;
  staging.cluster.fault = () => {
    if (!isDone && isSo()) {
      isDone = true;
      then();
    }
    return undefined;
  };
}

export const trackOf = ({ cluster }: Staging) =>
  cluster.get<ServiceObject>('service', 'order-producer').spec.selector['track'];

/** Nothing is half-way, all pods are of this release, and no order was lost, doubled, or is in the dead-letter queue. */
export async function expectOnly(staging: Staging, release: string): Promise<void> {
  const { cluster, workload } = staging;
  await staging.wait(15);
  for (const service of SERVICES) {
    expect(releaseOf(cluster.get<DeploymentObject>('deployment', service))).toBe(release);
    expect(cluster.objects.has(`deployment/${service}-candidate`)).toBe(false);
  }
  expect(new Set(workload.pods.map((pod) => pod.release))).toEqual(new Set([release]));
  expect(trackOf(staging)).toBe('stable');
  expect(workload.deadLetters).toEqual([]);
  const { ordersPerSecond } = workload;
  workload.ordersPerSecond = 0;
  await staging.wait(2);
  workload.ordersPerSecond = ordersPerSecond;
  expect(workload.clients.accepted.filter((id) => !workload.stored.has(id))).toEqual([]);
  expect(workload.storedTwice).toEqual([]);
}
