import { randomUUID } from 'node:crypto';
import { hostname, userInfo } from 'node:os';
import { DeploymentError, hasCode } from './errors.ts';
import type { Observed } from './judge.ts';
import type { Kubectl, KubernetesObject } from './kubectl.ts';
import type { RunningReleases, ServiceName } from './manifests.ts';
import { pause } from './pause.ts';

type Lease = KubernetesObject & {
  spec: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
  };
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
  facts?: Facts;
};

/** What a deployment has found out on its way. */
export type Facts = {
  /** What the services did before anything was changed. */
  before?: Record<ServiceName, Observed>;
  /** Objects of the overlay that the release changes, as they were applied before. */
  configuration?: KubernetesObject[];
  /** Such that were not there before, as kind and name. */
  added?: [kind: string, name: string][];
  /** What the release's consumers call themselves in dead letters. */
  codeVersion?: string;
};

const LEASE_NAME = 'order-pipeline-deployment';
const STATE_ANNOTATION = 'order-pipeline/deployment';
const DURATION_SECONDS = 60;
const RENEW_EVERY_MS = 15_000;
const LOOK_EVERY_MS = 2_000;

/**
 * One deployment a namespace at a time: a Lease that its holder renews, and that others may take a minute after the
 * holder has vanished. The same object keeps the state, so that nobody writes it without the lock.
 */
export class DeploymentLock implements AsyncDisposable {
  readonly #kubectl: Kubectl;
  readonly #lost = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  #lease: Lease;
  #writing: Promise<void> = Promise.resolve();

  private constructor(kubectl: Kubectl, lease: Lease) {
    this.#kubectl = kubectl;
    this.#lease = lease;
    this.#timer = setInterval(() => void this.#renew(), RENEW_EVERY_MS);
  }

  /** @throws {DeploymentError} LOCKED while another holds it */
  static async acquire(kubectl: Kubectl, now = new Date()): Promise<DeploymentLock> {
    const found = await kubectl.find<Lease>('lease', LEASE_NAME);
    const expiresAt = found && expiry(found);
    if (found?.spec.holderIdentity && expiresAt && expiresAt > now) {
      throw new DeploymentError(
        'LOCKED',
        `${found.spec.holderIdentity} deploys to ${kubectl.namespace} since ${found.spec.acquireTime}. ` +
          `If it has died, its lock ends at ${expiresAt.toISOString()}`,
      );
    }
    const wanted: Lease = {
      ...(found ?? {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: LEASE_NAME, namespace: kubectl.namespace },
      }),
      spec: {
        holderIdentity: `${userInfo().username}@${hostname()} (process ${process.pid}, run ${randomUUID().slice(0, 8)})`,
        leaseDurationSeconds: DURATION_SECONDS,
        acquireTime: microTime(now),
        renewTime: microTime(now),
      },
    };
    try {
      return new DeploymentLock(kubectl, await store(kubectl, found ? 'replace' : 'create', wanted));
    } catch (cause) {
      if (!hasCode(cause, 'CONFLICT', 'ALREADY_EXISTS')) throw cause;
      throw new DeploymentError('LOCKED', `another deployment to ${kubectl.namespace} has just begun`, {
        cause,
      });
    }
  }

  /** The same, waiting for so long: a holder that was killed leaves its lock for a minute. */
  static async waitFor(
    kubectl: Kubectl,
    { signal, say, waitSeconds }: { signal: AbortSignal; say: (line: string) => void; waitSeconds: number },
  ): Promise<DeploymentLock> {
    const giveUpAt = performance.now() + waitSeconds * 1_000;
    for (let looks = 0; ; looks++) {
      try {
        return await DeploymentLock.acquire(kubectl);
      } catch (error) {
        if (!hasCode(error, 'LOCKED') || performance.now() >= giveUpAt) throw error;
        if (looks === 0) say(`waits up to ${waitSeconds} s: ${(error as DeploymentError).message}`);
        await pause(signal, LOOK_EVERY_MS);
      }
    }
  }

  /** The state without the lock, to look at. */
  static async readState(kubectl: Kubectl): Promise<DeploymentState> {
    return stateOf(await kubectl.find<Lease>('lease', LEASE_NAME));
  }

  get state(): DeploymentState {
    return stateOf(this.#lease);
  }

  /** Aborted when the lock was lost: nothing more must be changed then. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  async setState(state: DeploymentState): Promise<void> {
    const annotation = { [STATE_ANNOTATION]: JSON.stringify(state) };
    await this.#write(({ metadata, ...lease }) =>
      renewed({
        ...lease,
        metadata: { ...metadata, annotations: { ...metadata.annotations, ...annotation } },
      }),
    );
  }

  /** Gives the lock up; the state stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    const givenUp = (lease: Lease) => ({ ...lease, spec: { ...lease.spec, holderIdentity: '' } });
    if (!this.signal.aborted) await this.#write(givenUp).catch(() => {});
  }

  async #renew(): Promise<void> {
    await this.#write(renewed).catch((error) => {
      const expired = (expiry(this.#lease) ?? new Date(0)) <= new Date();
      if (expired) this.#lost.abort(error);
    });
  }

  /** One after the other: each write needs what the one before has made, its version and its state. */
  #write(change: (lease: Lease) => Lease): Promise<void> {
    const written = this.#writing.then(async () => {
      this.#lease = await store(this.#kubectl, 'replace', change(this.#lease));
    });
    this.#writing = written.catch((error) => {
      if (hasCode(error, 'CONFLICT', 'NOT_FOUND')) this.#lost.abort(error);
    });
    return written;
  }
}

const renewed = (lease: Lease): Lease => ({
  ...lease,
  spec: { ...lease.spec, renewTime: microTime(new Date()) },
});

/**
 * Writes the lease. Where the answer to a write was lost, its repetition meets what the first one has stored: a lease that
 * this very run holds is no conflict.
 */
async function store(kubectl: Kubectl, verb: 'create' | 'replace', wanted: Lease): Promise<Lease> {
  try {
    return await kubectl.write(verb, wanted);
  } catch (error) {
    if (!hasCode(error, 'CONFLICT', 'ALREADY_EXISTS')) throw error;
    const { metadata, spec } = await kubectl.get<Lease>('lease', LEASE_NAME);
    if (!spec.holderIdentity || spec.holderIdentity !== wanted.spec.holderIdentity) throw error;
    const { resourceVersion } = metadata;
    return kubectl.write('replace', {
      ...wanted,
      metadata: { ...wanted.metadata, ...(resourceVersion ? { resourceVersion } : {}) },
    });
  }
}

function expiry({ spec }: Lease): Date | undefined {
  if (!spec.renewTime) return undefined;
  return new Date(Date.parse(spec.renewTime) + (spec.leaseDurationSeconds ?? 0) * 1_000);
}

function stateOf(lease: Lease | undefined): DeploymentState {
  return JSON.parse(lease?.metadata.annotations?.[STATE_ANNOTATION] ?? '{}');
}

/** Kubernetes' MicroTime takes six digits and no fewer. */
function microTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z');
}
