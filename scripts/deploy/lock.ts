import { randomUUID } from 'node:crypto';
import { hostname, userInfo } from 'node:os';
import { DeploymentError, hasCode } from './errors.ts';
import type { Kubectl, KubernetesObject } from './kubectl.ts';
import type { RunningReleases, ServiceName } from './manifests.ts';
import { pause } from './pause.ts';
import type { Observed } from './pod-figures.ts';

type Lease = KubernetesObject & {
  spec: { holderIdentity?: string; leaseDurationSeconds?: number; acquireTime?: string; renewTime?: string };
};

/** What is known of the last deployment, also after it broke off. */
export type DeploymentState = {
  /** What is deployed, or being deployed. */
  release?: string;
  /** What was there before it, and `scripts/rollback.sh` goes back to. */
  previous?: RunningReleases;
  startedAt?: string;
  /** The step that was begun last; absent when the deployment has ended. */
  step?: string;
  /** The folder of the kustomize overlay. */
  overlay?: string;
  /** What the services did before anything was changed. */
  before?: Record<ServiceName, Observed>;
  /** What the release's consumers call themselves in dead letters. */
  codeVersion?: string;
};

/** The state as the steps of a deployment see it. */
export type DeploymentRecord = {
  readonly state: DeploymentState;
  setState: (state: DeploymentState) => Promise<void>;
};

const NAME = 'order-pipeline-deployment';
const STATE = 'order-pipeline/deployment';
const STATE_PATH = `/metadata/annotations/${STATE.replace('/', '~1')}`;
const DURATION_SECONDS = 60;
const RENEW_EVERY_MS = 15_000;
const LOOK_EVERY_MS = 2_000;

/** Given up by its disposal; the state stays. */
export type DeploymentLock = DeploymentRecord &
  AsyncDisposable & {
    /** Aborted when the lock was lost: nothing more must be changed then. */
    signal: AbortSignal;
  };

/**
 * One deployment per namespace at a time: a Lease that its holder renews, and that others may take a minute after the
 * holder has vanished. The same object keeps the state, so that nobody writes it without the lock. Each write is a patch
 * that the API server refuses when another holds the Lease; so it may be repeated when its answer was lost. Waits for
 * another holder to end, or to have vanished for a minute.
 * @throws {DeploymentError} LOCKED when that takes longer than it may
 */
export async function acquireLock(
  kubectl: Kubectl,
  { waitSeconds = 0, say = (_line: string) => {}, signal = new AbortController().signal } = {},
): Promise<DeploymentLock> {
  const giveUpAt = performance.now() + waitSeconds * 1_000;
  const holder = `${userInfo().username}@${hostname()} (process ${process.pid}, run ${randomUUID().slice(0, 8)})`;
  for (let isFirstLook = true; ; ) {
    const lease = await kubectl.find<Lease>('lease', NAME);
    if (lease?.spec.holderIdentity === holder) return hold(kubectl, lease);
    const endsAt = lease ? expiry(lease) : new Date(0);
    if (!lease?.spec.holderIdentity || endsAt <= new Date()) {
      // Whoever is second, or gets no answer, looks again who has it.
      await take(kubectl, holder, lease).catch((error) => {
        if (!hasCode(error, 'CONFLICT', 'ALREADY_EXISTS')) throw error;
      });
      continue;
    }
    const { holderIdentity, acquireTime } = lease.spec;
    const since = `${holderIdentity} deploys to ${kubectl.namespace} since ${acquireTime}`;
    const problem = `${since}. If it has died, its lock ends at ${endsAt.toISOString()}`;
    if (performance.now() >= giveUpAt) throw new DeploymentError('LOCKED', problem);
    if (isFirstLook) say(`waits up to ${waitSeconds} s: ${problem}`);
    isFirstLook = false;
    await pause(signal, LOOK_EVERY_MS);
  }
}

/** The state without the lock, to look at. */
export const readState = async (kubectl: Kubectl): Promise<DeploymentState> =>
  stateOf(await kubectl.find<Lease>('lease', NAME));

function hold(kubectl: Kubectl, lease: Lease): DeploymentLock {
  const lost = new AbortController();
  let state = stateOf(lease);
  let renewedAt = performance.now();
  const write = async (...changes: object[]) => {
    const isOurs = { op: 'test', path: '/spec/holderIdentity', value: lease.spec.holderIdentity };
    const renewal = { op: 'replace', path: '/spec/renewTime', value: microTime(new Date()) };
    const startedAt = performance.now();
    try {
      await kubectl.patch('lease', NAME, [isOurs, renewal, ...changes]);
      renewedAt = startedAt;
    } catch (error) {
      const isExpired = performance.now() > renewedAt + DURATION_SECONDS * 1_000;
      if (isExpired || hasCode(error, 'CONFLICT', 'NOT_FOUND')) lost.abort(error);
      throw error;
    }
  };
  const timer = setInterval(() => void write().catch(() => {}), RENEW_EVERY_MS);
  return {
    get state() {
      return state;
    },
    signal: lost.signal,
    setState: async (next) => {
      await write({ op: 'add', path: STATE_PATH, value: JSON.stringify(next) });
      state = next;
    },
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer);
      if (lost.signal.aborted) return;
      await write({ op: 'replace', path: '/spec/holderIdentity', value: '' }).catch(() => {});
    },
  };
}

/** @throws {DeploymentError} CONFLICT, ALREADY_EXISTS when another was faster */
async function take(kubectl: Kubectl, holder: string, found: Lease | undefined): Promise<void> {
  if (!found)
    return kubectl.create({ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: NAME } });
  const { resourceVersion, annotations } = found.metadata;
  const now = microTime(new Date());
  const times = { leaseDurationSeconds: DURATION_SECONDS, acquireTime: now, renewTime: now };
  await kubectl.patch('lease', NAME, [
    { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
    { op: 'add', path: '/metadata/annotations', value: { [STATE]: '{}', ...annotations } },
    { op: 'add', path: '/spec', value: { holderIdentity: holder, ...times } },
  ]);
}

const expiry = ({ spec: { renewTime = '', leaseDurationSeconds = 0 } }: Lease) =>
  new Date((Date.parse(renewTime) || 0) + leaseDurationSeconds * 1_000);

const stateOf = (lease: Lease | undefined): DeploymentState =>
  JSON.parse(lease?.metadata.annotations?.[STATE] ?? '{}');

/** Kubernetes' MicroTime takes six digits and no fewer. */
const microTime = (date: Date) => date.toISOString().replace('Z', '000Z');
