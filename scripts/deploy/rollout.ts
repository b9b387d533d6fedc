import { isDeepStrictEqual } from 'node:util';
import type { Session } from './context.ts';
import { DeploymentError } from './errors.ts';
import { type DeploymentObject, type Kubectl, LAST_APPLIED, lastApplied, type PodObject } from './kubectl.ts';
import { revisionOf } from './live.ts';
import { podLabels, type Running, releaseOf, type ServiceName } from './manifests.ts';
import { pause, within } from './pause.ts';

const LOOK_EVERY_MS = 1_000;
/** Each question is a process of kubectl, a tenth of a second of a processor. */
const LOOK_AT_PODS_EVERY = 3;
/** What a container does not come out of by waiting. */
const HOPELESS = new Set(['ImagePullBackOff', 'InvalidImageName', 'ErrImageNeverPull', 'CrashLoopBackOff']);

/** One that died once while it started may have met a passing fault of what it needs. */
const HOPELESS_RESTARTS = 2;

type ReplicaSet = DeploymentObject;
type Rollout = Pick<Session, 'kubectl' | 'signal' | 'rolloutTimeoutSeconds'>;

/**
 * Makes a Deployment what the manifest says: each member of its `spec` is replaced as a whole. Merging, as `kubectl
 * apply` does, would keep in the live pods what the candidate, which was looked at, never had: a variable that someone
 * set by hand, or that `kubectl rollout undo` brought back. The number of pods stays where the manifest names none.
 */
export async function put(kubectl: Kubectl, manifest: DeploymentObject): Promise<void> {
  const live = await kubectl.find<DeploymentObject>('deployment', manifest.metadata.name);
  if (!live) await kubectl.apply([manifest]);
  else await kubectl.patch('deployment', manifest.metadata.name, changesTo(live, manifest));
}

/** Whether {@link put} would start new pods. Asked of the API server, which knows the defaults. */
export async function wouldChange(kubectl: Kubectl, wanted: DeploymentObject): Promise<boolean> {
  const { name } = wanted.metadata;
  const live = await kubectl.get<DeploymentObject>('deployment', name);
  const changes = changesTo(live, wanted);
  const then = await kubectl.patch<DeploymentObject>('deployment', name, changes, { dryRun: true });
  return !isDeepStrictEqual(then.spec.template, live.spec.template);
}

function changesTo(live: DeploymentObject, manifest: DeploymentObject) {
  // It cannot be changed, and never is.
  const { selector: _selector, ...members } = manifest.spec;
  const { annotations } = manifest.metadata;
  // For `restoreStrategy`, and the operator who applies an overlay by hand.
  const noted = { [LAST_APPLIED]: JSON.stringify(manifest) };
  return [
    {
      op: 'add',
      path: '/metadata/annotations',
      value: { ...live.metadata.annotations, ...annotations, ...noted },
    },
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
      const wait = hopeless ?? waits[0];
      const why = wait ? `: ${await describeWait(kubectl, wait)}` : '';
      const late = hopeless ? '' : ` is not ready in ${rolloutTimeoutSeconds} s`;
      const { image } = deployment.spec.template.spec.containers[0];
      throw new DeploymentError('NOT_READY', `${name} with ${image}${late}${why}`);
    }
    await pause(signal, LOOK_EVERY_MS);
  }
}

const isObserved = ({ metadata, status }: DeploymentObject) =>
  (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0);

/** Whether no old pod is left, and of the new ones no more than this share is missing. */
export function isSettled(deployment: DeploymentObject, missingShare: number): boolean {
  const { replicas = 0, updatedReplicas = 0, availableReplicas = 0 } = deployment.status ?? {};
  const wanted = deployment.spec.replicas ?? 1;
  const isEnough = availableReplicas > 0 && wanted - availableReplicas <= Math.ceil(wanted * missingShare);
  return isObserved(deployment) && updatedReplicas === replicas && isEnough;
}

function isRolledOut(deployment: DeploymentObject): boolean {
  const { replicas = 0, updatedReplicas = 0, availableReplicas = 0 } = deployment.status ?? {};
  const counts = [replicas, updatedReplicas, availableReplicas];
  return isObserved(deployment) && counts.every((count) => count === (deployment.spec.replicas ?? 1));
}

/** Releases that can be gone back to, newest first: each revision keeps the template of its pods. */
export async function revisions(kubectl: Kubectl, service: ServiceName): Promise<Required<Running>[]> {
  const sets = await kubectl.list<ReplicaSet>('replicasets', podLabels(service, 'stable'));
  return sets
    .map((set) => ({ revision: revisionOf(set), release: releaseOf(set) }))
    .sort((a, b) => b.revision - a.revision);
}

/**
 * The revision that is meant. It gets a new number when it comes back: where its number is not found, the newest one of
 * the release.
 * @throws {DeploymentError} NOTHING_TO_GO_BACK_TO
 */
export async function findRevision(kubectl: Kubectl, service: ServiceName, wanted: Running): Promise<number> {
  const all = await revisions(kubectl, service);
  const found =
    all.find(({ revision }) => revision === wanted.revision) ??
    all.find(({ release }) => release === wanted.release);
  if (found) return found.revision;
  const has = all.map(({ release }) => release).join(', ');
  const problem = `deployment/${service} has no revision with release ${wanted.release}; it has ${has}`;
  throw new DeploymentError('NOTHING_TO_GO_BACK_TO', problem);
}

const setStrategy = (value: object) => [{ op: 'add', path: '/spec/strategy', value }];

/** For going back. The connections to PostgreSQL are budgeted for it: k8s/base/consumer/order-consumer.env. */
const ALL_AT_ONCE = { type: 'RollingUpdate', rollingUpdate: { maxSurge: '100%', maxUnavailable: 0 } };

/**
 * Has the stable Deployment go back to what it ran, configuration included; waits for nothing. All pods at once and not
 * one by one, since each one that is left does harm: {@link restoreStrategy} ends that.
 * @throws {DeploymentError} NOTHING_TO_GO_BACK_TO
 */
export async function revert(kubectl: Kubectl, service: ServiceName, wanted: Running): Promise<void> {
  const revision = await findRevision(kubectl, service, wanted);
  const live = await kubectl.get<DeploymentObject>('deployment', service);
  if (revisionOf(live) === revision && isObserved(live)) return;
  await kubectl.patch('deployment', service, setStrategy(ALL_AT_ONCE));
  await kubectl.run(['rollout', 'undo', `deployment/${service}`, `--to-revision=${revision}`]);
}

/** Gives the Deployment the strategy of its manifest again, which {@link revert} has replaced. Safe to run again. */
export async function restoreStrategy(kubectl: Kubectl, service: ServiceName): Promise<void> {
  const live = await kubectl.get<DeploymentObject>('deployment', service);
  const { strategy } = (lastApplied(live) ?? live).spec;
  if (strategy) await kubectl.patch('deployment', service, setStrategy(strategy));
}

/**
 * Waits until only pods of the stable Deployment's newest template are left. A producer that is about to end gets no new
 * connections, but a consumer goes on with what it holds. Such that cannot even end are taken for dead.
 * @throws {DeploymentError} NOT_READY when others run on for longer than a rollout may take
 */
export async function othersGone(
  { kubectl, signal, say, rolloutTimeoutSeconds }: Session,
  service: ServiceName,
): Promise<void> {
  let left: PodObject[] = [];
  await within(signal, rolloutTimeoutSeconds, LOOK_EVERY_MS, async () => {
    const hash = await newestHash(kubectl, await kubectl.get<DeploymentObject>('deployment', service));
    const pods = await kubectl.list<PodObject>('pods', { app: service });
    left = pods.filter(
      ({ metadata, status }) =>
        metadata.labels?.['pod-template-hash'] !== hash &&
        (service === 'order-consumer' || metadata.deletionTimestamp === undefined) &&
        !['Succeeded', 'Failed'].includes(status.phase ?? ''),
    );
    return left.length === 0 || undefined;
  });
  const [ending, alive] = [[], []] as [string[], string[]];
  for (const { metadata } of left) (metadata.deletionTimestamp ? ending : alive).push(metadata.name);
  for (const name of ending) say(`  ${name} does not end: is its node dead?`);
  if (alive.length === 0) return;
  const problem = `${alive.join(', ')} still runs after ${rolloutTimeoutSeconds} s`;
  throw new DeploymentError('NOT_READY', problem);
}

/** What marks the pods of the template that the Deployment has now; `undefined` before its controller has seen it. */
async function newestHash(kubectl: Kubectl, deployment: DeploymentObject): Promise<string | undefined> {
  if (!isObserved(deployment)) return undefined;
  const sets = await kubectl.list<ReplicaSet>('replicasets', deployment.spec.selector.matchLabels);
  const newest = sets.find((set) => revisionOf(set) === revisionOf(deployment));
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
  const { initContainerStatuses = [], containerStatuses = [], conditions = [] } = status;
  const isUnscheduled = conditions.find(({ type, status }) => type === 'PodScheduled' && status === 'False');
  const waits = [...initContainerStatuses, ...containerStatuses].map(({ restartCount, state }) => ({
    ...state.waiting,
    restarts: restartCount,
  }));
  return [...waits, { ...isUnscheduled, reason: isUnscheduled && 'Unschedulable', restarts: 0 }].flatMap(
    ({ reason, message = '', restarts }) =>
      reason === undefined ? [] : [{ pod, reason, message, restarts }],
  );
}

const isHopeless = ({ reason, restarts }: Wait) =>
  HOPELESS.has(reason) && (restarts === 0 || restarts >= HOPELESS_RESTARTS);

async function describeWait(kubectl: Kubectl, { pod, reason, message }: Wait): Promise<string> {
  if (reason !== 'CrashLoopBackOff') return message ? `${reason}: ${message}` : reason;
  const log = await kubectl.run(['logs', pod, '--previous', '--tail=1']).catch(() => '');
  return `${reason}: ${log.trim() || 'it said nothing'}`;
}
