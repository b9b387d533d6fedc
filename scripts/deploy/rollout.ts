import { isDeepStrictEqual } from 'node:util';
import { type Context, pause } from './context.ts';
import { DeploymentError } from './errors.ts';
import type { DeploymentObject, Kubectl, KubernetesObject, PodObject } from './kubectl.ts';
import { podLabels, type Running, releaseOf, type ServiceName, type Track } from './manifests.ts';

const LOOK_EVERY_MS = 1_000;
/** What a container does not come out of by waiting. */
const HOPELESS = new Set([
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'CreateContainerConfigError',
  'CrashLoopBackOff',
]);

/** One that died once while it started may have met a passing fault of what it needs. */
const HOPELESS_RESTARTS = 2;

type ReplicaSet = DeploymentObject;
type Rollout = Pick<Context, 'kubectl' | 'signal' | 'rolloutTimeoutSeconds'>;

/**
 * Resolves when every pod of the Deployment is new and available, and no old one is left.
 * @throws {DeploymentError} NOT_READY with what the pods say; at once where waiting cannot help
 */
export async function rolledOut(
  { kubectl, signal, rolloutTimeoutSeconds }: Rollout,
  name: string,
): Promise<void> {
  const giveUpAt = performance.now() + rolloutTimeoutSeconds * 1_000;
  for (;;) {
    const deployment = await kubectl.get<DeploymentObject>('deployment', name);
    if (isRolledOut(deployment)) return;
    const image = deployment.spec.template.spec.containers[0].image;
    const problem = (await newestPods(kubectl, deployment))
      .map((pod) => ({ pod: pod.metadata.name, waiting: hopelessWait(pod) }))
      .find(({ waiting }) => waiting !== undefined);
    if (problem) {
      const { reason, message = '' } = problem.waiting ?? {};
      const lastWords = reason === 'CrashLoopBackOff' ? await lastLogLine(kubectl, problem.pod) : message;
      throw new DeploymentError('NOT_READY', `${name} with ${image}: ${reason}: ${lastWords}`);
    }
    if (performance.now() > giveUpAt) {
      throw new DeploymentError(
        'NOT_READY',
        `${name} with ${image} is not ready in ${rolloutTimeoutSeconds} s`,
      );
    }
    await pause(signal, LOOK_EVERY_MS);
  }
}

/** Not those of earlier templates, whatever is wrong with them. */
async function newestPods(
  kubectl: Kubectl,
  { metadata, spec, status }: DeploymentObject,
): Promise<PodObject[]> {
  const isSeen = (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0);
  const sets = isSeen ? await kubectl.list<ReplicaSet>('replicasets', spec.selector.matchLabels) : [];
  const newest = sets.find((set) => revisionOf(set) === revisionOf({ metadata }));
  const hash = newest?.metadata.labels?.['pod-template-hash'];
  if (hash === undefined) return [];
  return kubectl.list<PodObject>('pods', { ...spec.selector.matchLabels, 'pod-template-hash': hash });
}

export const revisionOf = ({ metadata }: Pick<KubernetesObject, 'metadata'>) =>
  Number(metadata.annotations?.['deployment.kubernetes.io/revision'] ?? 0);

export function isRolledOut({ metadata, spec, status = {} }: DeploymentObject): boolean {
  const { observedGeneration = 0, replicas = 0, updatedReplicas = 0, availableReplicas = 0 } = status;
  const wanted = spec.replicas ?? 1;
  return (
    observedGeneration >= (metadata.generation ?? 0) &&
    [replicas, updatedReplicas, availableReplicas].every((count) => count === wanted)
  );
}

/** Whether applying it would start new pods. Asked of the API server, which knows the defaults. */
export async function wouldChange(kubectl: Kubectl, wanted: DeploymentObject): Promise<boolean> {
  const live = await kubectl.find<DeploymentObject>('deployment', wanted.metadata.name);
  if (!live) return true;
  const dryRun = ['apply', '--dry-run=server', '-o', 'json', '-f', '-'];
  const applied: DeploymentObject = JSON.parse(await kubectl.run(dryRun, JSON.stringify(wanted)));
  return !isDeepStrictEqual(applied.spec.template, live.spec.template);
}

/** Waits until no pod of the track is left, ending ones included. */
export async function podsGone(
  { kubectl, signal }: Rollout,
  service: ServiceName,
  track: Track,
): Promise<void> {
  while ((await kubectl.list<PodObject>('pods', podLabels(service, track))).length > 0) {
    await pause(signal, LOOK_EVERY_MS);
  }
}

/** Releases that `kubectl rollout undo` can go back to, newest first. */
export async function revisions(kubectl: Kubectl, service: ServiceName): Promise<Required<Running>[]> {
  const replicaSets = await kubectl.list<ReplicaSet>('replicasets', podLabels(service, 'stable'));
  return replicaSets
    .map((replicaSet) => ({
      revision: revisionOf(replicaSet),
      release: releaseOf(replicaSet),
    }))
    .sort((a, b) => b.revision - a.revision);
}

/**
 * Brings the stable Deployment back to what it ran, configuration included. A revision gets a new number by that: where
 * it is not found, the newest one of the release is meant.
 * @throws {DeploymentError} NOTHING_TO_GO_BACK_TO; NOT_READY
 */
export async function backTo(rollout: Rollout, service: ServiceName, wanted: Running): Promise<void> {
  const { kubectl } = rollout;
  const known = await revisions(kubectl, service);
  const target =
    known.find(({ revision }) => revision === wanted.revision) ??
    known.find(({ release }) => release === wanted.release);
  if (!target) {
    throw new DeploymentError(
      'NOTHING_TO_GO_BACK_TO',
      `deployment/${service} has no revision with release ${wanted.release}; it has ${known.map(({ release }) => release).join(', ')}`,
    );
  }
  if (target !== known[0]) {
    await kubectl.run(['rollout', 'undo', `deployment/${service}`, `--to-revision=${target.revision}`]);
  }
  await rolledOut(rollout, service);
}

function hopelessWait({ status }: PodObject) {
  return [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])]
    .filter(({ restartCount }) => restartCount === 0 || restartCount >= HOPELESS_RESTARTS)
    .map(({ state }) => state.waiting)
    .find((waiting) => HOPELESS.has(waiting?.reason ?? ''));
}

async function lastLogLine(kubectl: Kubectl, pod: string): Promise<string> {
  const log = await kubectl.run(['logs', pod, '--previous', '--tail=1']).catch(() => '');
  return log.trim() || 'it said nothing';
}
