import { isDeepStrictEqual } from 'node:util';
import type { Context } from './context.ts';
import { DeploymentError } from './errors.ts';
import type { DeploymentObject, Kubectl, PodObject } from './kubectl.ts';
import { revisionOf } from './live.ts';
import { changeCause, podLabels, type Running, releaseOf, type ServiceName } from './manifests.ts';
import { pause } from './pause.ts';

const LOOK_EVERY_MS = 1_000;
/** Each question is a process of kubectl, a tenth of a second of a processor. */
const LOOK_AT_PODS_EVERY = 3;
/** What a container does not come out of by waiting. */
const HOPELESS = new Set(['ImagePullBackOff', 'InvalidImageName', 'ErrImageNeverPull', 'CrashLoopBackOff']);

/** One that died once while it started may have met a passing fault of what it needs. */
const HOPELESS_RESTARTS = 2;

export const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';
/** As a JSON pointer (RFC 6901). */
const LAST_APPLIED_PATH = LAST_APPLIED.replace('/', '~1');

type ReplicaSet = DeploymentObject;
type Rollout = Pick<Context, 'kubectl' | 'signal' | 'rolloutTimeoutSeconds'>;

/**
 * Makes a Deployment what the manifest says: each member of its `spec` is replaced as a whole. Merging, as `kubectl
 * apply` does, would keep in the live pods what the candidate, which was looked at, never had: a variable that someone
 * set by hand, or that `kubectl rollout undo` brought back. The number of pods stays where the manifest names none.
 */
export async function put(kubectl: Kubectl, manifest: DeploymentObject): Promise<void> {
  const live = await kubectl.find<DeploymentObject>('deployment', manifest.metadata.name);
  if (!live) await kubectl.apply(manifest);
  else await kubectl.patch('deployment', manifest.metadata.name, changesTo(live, manifest));
}

const setStrategy = (value: object) => ({ op: 'add', path: '/spec/strategy', value });

/** Whether {@link put} would start new pods. Asked of the API server, which knows the defaults. */
export async function wouldChange(kubectl: Kubectl, wanted: DeploymentObject): Promise<boolean> {
  const { name } = wanted.metadata;
  const live = await kubectl.find<DeploymentObject>('deployment', name);
  if (!live) return true;
  const changes = changesTo(live, wanted);
  const then = await kubectl.patch<DeploymentObject>('deployment', name, changes, { dryRun: true });
  return !isDeepStrictEqual(then.spec.template, live.spec.template);
}

function changesTo(live: DeploymentObject, { metadata, spec, ...rest }: DeploymentObject) {
  // It cannot be changed, and never is.
  const { selector: _selector, ...members } = spec;
  const lastApplied = JSON.stringify({ ...rest, metadata, spec });
  return [
    ...(live.metadata.annotations ? [] : [{ op: 'add', path: '/metadata/annotations', value: {} }]),
    ...Object.entries(metadata.annotations ?? {}).map(([name, value]) => ({
      op: 'add',
      path: `/metadata/annotations/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
      value,
    })),
    // For the operator who applies an overlay by hand.
    { op: 'add', path: `/metadata/annotations/${LAST_APPLIED_PATH}`, value: lastApplied },
    ...Object.entries(members).map(([member, value]) => ({ op: 'add', path: `/spec/${member}`, value })),
  ];
}

/**
 * Resolves when every pod of the Deployment is new and available, and no old one is left but such that end.
 * @throws {DeploymentError} NOT_READY with what the pods say; at once where waiting cannot help
 */
export async function rolledOut(
  { kubectl, signal, rolloutTimeoutSeconds }: Rollout,
  name: string,
): Promise<void> {
  const giveUpAt = performance.now() + rolloutTimeoutSeconds * 1_000;
  for (let look = 0; ; look++) {
    const deployment = await kubectl.get<DeploymentObject>('deployment', name);
    if (isRolledOut(deployment)) return;
    const outOfTime = performance.now() > giveUpAt;
    const looksAtPods = outOfTime || look % LOOK_AT_PODS_EVERY === 0;
    const waits = looksAtPods ? (await newestPods(kubectl, deployment)).flatMap(waitsOf) : [];
    const hopeless = waits.find(isHopeless);
    if (hopeless || outOfTime) {
      const { image } = deployment.spec.template.spec.containers[0];
      const what = hopeless ? '' : `is not ready in ${rolloutTimeoutSeconds} s`;
      const why = [hopeless ?? waits[0]].filter((wait) => wait !== undefined).map(describeWait(kubectl));
      const texts = [what, ...(await Promise.all(why))].filter(Boolean).join(': ');
      throw new DeploymentError('NOT_READY', `${name} with ${image}${hopeless ? ': ' : ' '}${texts}`);
    }
    await pause(signal, LOOK_EVERY_MS);
  }
}

const isObserved = ({ metadata, status }: Pick<DeploymentObject, 'metadata' | 'status'>) =>
  (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0);

export function isRolledOut({ metadata, spec, status = {} }: DeploymentObject): boolean {
  const { observedGeneration = 0, replicas = 0, updatedReplicas = 0, availableReplicas = 0 } = status;
  const wanted = spec.replicas ?? 1;
  return (
    observedGeneration >= (metadata.generation ?? 0) &&
    [replicas, updatedReplicas, availableReplicas].every((count) => count === wanted)
  );
}

/** Whether no old pod is left, and of the new ones no more than this share is missing. */
export function isSettled({ metadata, spec, status = {} }: DeploymentObject, missingShare: number): boolean {
  const { observedGeneration = 0, replicas = 0, updatedReplicas = 0, availableReplicas = 0 } = status;
  const wanted = spec.replicas ?? 1;
  return (
    observedGeneration >= (metadata.generation ?? 0) &&
    updatedReplicas === replicas &&
    availableReplicas > 0 &&
    wanted - availableReplicas <= Math.ceil(wanted * missingShare)
  );
}

/** Its revisions, the newest first. Each keeps the template of its pods. */
async function replicaSets(kubectl: Kubectl, service: ServiceName): Promise<ReplicaSet[]> {
  const sets = await kubectl.list<ReplicaSet>('replicasets', podLabels(service, 'stable'));
  return sets.sort((a, b) => revisionOf(b) - revisionOf(a));
}

/** Releases that can be gone back to, newest first. */
export async function revisions(kubectl: Kubectl, service: ServiceName): Promise<Required<Running>[]> {
  const sets = await replicaSets(kubectl, service);
  return sets.map((set) => ({ revision: revisionOf(set), release: releaseOf(set) }));
}

/**
 * The revision that is meant. It gets a new number when it comes back: where its number is not found, the newest one of
 * the release.
 * @throws {DeploymentError} NOTHING_TO_GO_BACK_TO
 */
export async function findRevision(
  kubectl: Kubectl,
  service: ServiceName,
  wanted: Running,
): Promise<ReplicaSet> {
  const sets = await replicaSets(kubectl, service);
  const set =
    sets.find((each) => revisionOf(each) === wanted.revision) ??
    sets.find((each) => releaseOf(each) === wanted.release);
  if (set) return set;
  throw new DeploymentError(
    'NOTHING_TO_GO_BACK_TO',
    `deployment/${service} has no revision with release ${wanted.release}; it has ${sets.map(releaseOf).join(', ')}`,
  );
}

/** For going back. The connections to PostgreSQL are budgeted for it: k8s/base/consumer/order-consumer.env. */
const ALL_AT_ONCE = { type: 'RollingUpdate', rollingUpdate: { maxSurge: '100%', maxUnavailable: 0 } };

/**
 * Has the stable Deployment go back to what it ran, configuration included; waits for nothing. All pods at once and not
 * one by one, since each one that is left does harm: {@link restoreStrategy} ends that.
 * @throws {DeploymentError} NOTHING_TO_GO_BACK_TO
 */
export async function revert(kubectl: Kubectl, service: ServiceName, wanted: Running): Promise<void> {
  const set = await findRevision(kubectl, service, wanted);
  const template = structuredClone(set.spec.template);
  delete template.metadata.labels['pod-template-hash'];
  const live = await kubectl.get<DeploymentObject>('deployment', service);
  if (isDeepStrictEqual(template, live.spec.template)) return;
  const { spec, metadata, ...rest } = lastApplied(live) ?? live;
  const manifest: DeploymentObject = {
    apiVersion: rest.apiVersion,
    kind: rest.kind,
    metadata: { name: service, labels: metadata.labels ?? {}, annotations: changeCause(releaseOf(set)) },
    spec: { ...omitReplicas(spec), template },
  };
  await kubectl.patch('deployment', service, [...changesTo(live, manifest), setStrategy(ALL_AT_ONCE)]);
}

/**
 * Gives the Deployment the strategy of its manifest again, which {@link revert} has replaced, and waits until its
 * controller has seen that. Safe to run again.
 */
export async function restoreStrategy(
  { kubectl, signal, rolloutTimeoutSeconds }: Rollout,
  service: ServiceName,
): Promise<void> {
  let live = await kubectl.get<DeploymentObject>('deployment', service);
  const { strategy } = (lastApplied(live) ?? live).spec;
  if (!strategy) return;
  live = await kubectl.patch('deployment', service, [setStrategy(strategy)]);
  const giveUpAt = performance.now() + rolloutTimeoutSeconds * 1_000;
  while (!isObserved(live) && performance.now() < giveUpAt) {
    await pause(signal, LOOK_EVERY_MS);
    live = await kubectl.get('deployment', service);
  }
}

const omitReplicas = ({ replicas: _, ...spec }: DeploymentObject['spec']) => spec;

/** What was applied last, without what the API server added. */
export function lastApplied({ metadata }: Pick<DeploymentObject, 'metadata'>): DeploymentObject | undefined {
  const text = metadata.annotations?.[LAST_APPLIED];
  return text === undefined ? undefined : JSON.parse(text);
}

/**
 * Waits until only pods of the stable Deployment's newest template are left, for as long as a rollout may take.
 * @param ending whether those count that are about to end
 * @returns those that are left all the same
 */
export async function othersGone(
  rollout: Rollout,
  service: ServiceName,
  { ending }: { ending: boolean },
): Promise<PodObject[]> {
  const { kubectl, signal, rolloutTimeoutSeconds } = rollout;
  const giveUpAt = performance.now() + rolloutTimeoutSeconds * 1_000;
  let hash: string | undefined;
  for (;;) {
    hash ??= await newestHash(kubectl, await kubectl.get<DeploymentObject>('deployment', service));
    const pods = await kubectl.list<PodObject>('pods', { app: service });
    const others = pods.filter(
      ({ metadata, status }) =>
        metadata.labels?.['pod-template-hash'] !== hash &&
        (ending || metadata.deletionTimestamp === undefined) &&
        !['Succeeded', 'Failed'].includes(status.phase ?? ''),
    );
    if (others.length === 0 || performance.now() > giveUpAt) return others;
    await pause(signal, LOOK_EVERY_MS);
  }
}

/** What marks the pods of the template that the Deployment has now; `undefined` before its controller has seen it. */
async function newestHash(kubectl: Kubectl, deployment: DeploymentObject): Promise<string | undefined> {
  if (!isObserved(deployment)) return undefined;
  const { metadata, spec } = deployment;
  const sets = await kubectl.list<ReplicaSet>('replicasets', spec.selector.matchLabels);
  const newest = sets.find((set) => revisionOf(set) === revisionOf({ metadata }));
  return newest?.metadata.labels?.['pod-template-hash'];
}

/** Not those of earlier templates, whatever is wrong with them. */
async function newestPods(kubectl: Kubectl, deployment: DeploymentObject): Promise<PodObject[]> {
  const hash = await newestHash(kubectl, deployment);
  if (hash === undefined) return [];
  const { matchLabels } = deployment.spec.selector;
  return kubectl.list<PodObject>('pods', { ...matchLabels, 'pod-template-hash': hash });
}

type Wait = { pod: string; reason: string; message: string; restarts: number };

/** What the containers of a pod wait for, and what the scheduler says of it. */
function waitsOf({ metadata: { name: pod }, status }: PodObject): Wait[] {
  const containers = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const waits = containers.flatMap(({ restartCount: restarts, state: { waiting } }) =>
    waiting?.reason === undefined
      ? []
      : [{ pod, reason: waiting.reason, message: waiting.message ?? '', restarts }],
  );
  const unscheduled = (status.conditions ?? []).filter(
    ({ type, status }) => type === 'PodScheduled' && status === 'False',
  );
  return [
    ...waits,
    ...unscheduled.map(({ message = '' }) => ({ pod, reason: 'Unschedulable', message, restarts: 0 })),
  ];
}

const isHopeless = ({ reason, restarts }: Wait) =>
  HOPELESS.has(reason) && (restarts === 0 || restarts >= HOPELESS_RESTARTS);

const describeWait =
  (kubectl: Kubectl) =>
  async ({ pod, reason, message }: Wait): Promise<string> => {
    if (reason !== 'CrashLoopBackOff') return message ? `${reason}: ${message}` : reason;
    const log = await kubectl.run(['logs', pod, '--previous', '--tail=1']).catch(() => '');
    return `${reason}: ${log.trim() || 'it said nothing'}`;
  };
