import { hostname, userInfo } from 'node:os';
import { DeploymentError, hasCode } from './errors.ts';
import type { Kubectl, KubernetesObject } from './kubectl.ts';
import type { RunningReleases } from './manifests.ts';

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
};

const LEASE_NAME = 'order-pipeline-deployment';
const STATE_ANNOTATION = 'order-pipeline/deployment';
const DURATION_SECONDS = 60;
const RENEW_EVERY_MS = 15_000;

/**
 * One deployment a namespace at a time: a Lease that its holder renews, and that others may take a minute after the
 * holder has vanished. The same object keeps the state, so that nobody writes it without the lock.
 */
export class DeploymentLock implements AsyncDisposable {
  readonly #kubectl: Kubectl;
  readonly #lost = new AbortController();
  readonly #timer: NodeJS.Timeout;
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
        holderIdentity: `${userInfo().username}@${hostname()} (process ${process.pid})`,
        leaseDurationSeconds: DURATION_SECONDS,
        acquireTime: microTime(now),
        renewTime: microTime(now),
      },
    };
    try {
      return new DeploymentLock(kubectl, await kubectl.write(found ? 'replace' : 'create', wanted));
    } catch (cause) {
      if (!hasCode(cause, 'CONFLICT', 'ALREADY_EXISTS')) throw cause;
      throw new DeploymentError('LOCKED', `another deployment to ${kubectl.namespace} has just begun`, {
        cause,
      });
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
    const { annotations } = this.#lease.metadata;
    this.#lease = {
      ...this.#lease,
      metadata: {
        ...this.#lease.metadata,
        annotations: { ...annotations, [STATE_ANNOTATION]: JSON.stringify(state) },
      },
    };
    await this.#write({ renewTime: microTime(new Date()) });
  }

  /** Gives the lock up; the state stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    if (!this.signal.aborted) await this.#write({ holderIdentity: '' }).catch(() => {});
  }

  async #renew(): Promise<void> {
    await this.#write({ renewTime: microTime(new Date()) }).catch((error) => {
      const expired = (expiry(this.#lease) ?? new Date(0)) <= new Date();
      if (hasCode(error, 'CONFLICT', 'NOT_FOUND') || expired) this.#lost.abort(error);
    });
  }

  /** One after the other, since each write needs the version that the one before has made. */
  #write(spec: Partial<Lease['spec']>): Promise<void> {
    const written = this.#writing.then(async () => {
      const wanted = { ...this.#lease, spec: { ...this.#lease.spec, ...spec } };
      this.#lease = await this.#kubectl.write('replace', wanted);
    });
    this.#writing = written.catch(() => {});
    return written;
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
