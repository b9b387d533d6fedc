import { restoreConfiguration } from './configuration.ts';
import type { Session } from './context.ts';
import { DeploymentError, isOutOfReach, messageOf } from './errors.ts';
import type { DeploymentObject, PodObject } from './kubectl.ts';
import { isAvailable, trackOf } from './live.ts';
import type { DeploymentState } from './lock.ts';
import { candidateName, type RunningReleases, SERVICES, type ServiceName } from './manifests.ts';
import { pause } from './pause.ts';
import { removeCandidate, switchTo } from './producer-blue-green.ts';
import { othersGone, restoreStrategy, revert } from './rollout.ts';

const LOOK_EVERY_MS = 1_000;

/**
 * Brings both services, the traffic and the configuration back to `previous`, and redrives what the release that is left
 * has dead-lettered. All that takes effect at once comes first, and nothing of it asks a pod; then what needs time. One
 * part that fails keeps none of the others from being tried. Safe to run again.
 * @returns what is left to a person, though all is back: dead letters that could not be redriven
 * @throws {DeploymentError} NOT_BACK with all that failed; UNREACHABLE, UNAUTHORIZED at once
 */
export async function goBack(
  session: Session,
  { release = '', startedAt, facts = {} }: DeploymentState,
  previous: RunningReleases,
  { redrive = true } = {},
): Promise<string | undefined> {
  const { kubectl, say } = session;
  const startedBackAt = performance.now();
  const { part, problems } = collectProblems(session);
  let leftToDo: string | undefined;

  say(`going back to ${describe(previous)}`);
  await part(() => trafficToStable(session, startedBackAt));
  await part(() => kubectl.delete('deployment', candidateName('order-consumer')));
  for (const service of ['order-consumer', 'order-producer'] as const) {
    await part(() => revert(kubectl, service, previous[service]));
  }
  await part(() => restoreConfiguration(session, facts));

  const consumer = part(async () => {
    await onlyRevertedPods(session, 'order-consumer');
    await restoreStrategy(session, 'order-consumer');
    say(
      `  order-consumer: only ${previous['order-consumer'].release} after ${secondsSince(startedBackAt)} s`,
    );
    if (!redrive) return;
    leftToDo = await redriveOrTell(session, facts.codeVersion ?? release, new Date(startedAt ?? 0));
  });
  const producer = part(async () => {
    await stableIsAvailable(session);
    await trafficToStable(session, startedBackAt);
    await onlyRevertedPods(session, 'order-producer');
    await restoreStrategy(session, 'order-producer');
    say(
      `  order-producer: only ${previous['order-producer'].release} after ${secondsSince(startedBackAt)} s`,
    );
  });
  for (const result of await Promise.allSettled([consumer, producer])) {
    if (result.status === 'rejected') throw result.reason;
  }
  if (problems.length === 0) return leftToDo;
  throw new DeploymentError('NOT_BACK', `not all is back: ${problems.join('; ')}. Run this again`);
}

function collectProblems({ say, signal }: Session) {
  const problems: string[] = [];
  const part = async (work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      if (isOutOfReach(error) || signal.aborted) throw error;
      problems.push(messageOf(error));
      say(`  ${messageOf(error)}`);
    }
  };
  return { part, problems };
}

/** Without the rights for it, a deployment may be back all the same: the dead letters wait. */
async function redriveOrTell(
  { redrive, say }: Session,
  codeVersion: string,
  since: Date,
): Promise<string | undefined> {
  try {
    const redriven = await redrive(codeVersion, since);
    say(`  ${redriven} messages that ${codeVersion} had dead-lettered are back in the queue`);
    return undefined;
  } catch (error) {
    say(`  ${messageOf(error)}`);
    return messageOf(error);
  }
}

export const secondsSince = (startedAt: number) => ((performance.now() - startedAt) / 1_000).toFixed(1);

const describe = (releases: RunningReleases) =>
  [...new Set(SERVICES.map((service) => releases[service].release))].join(' and ');

/** As long as no stable pod is there, the candidate keeps it: a bad release is better than none. */
async function trafficToStable({ kubectl, say }: Session, startedAt: number): Promise<void> {
  const isOnCandidate = (await trackOf(kubectl)) === 'candidate';
  if (isOnCandidate && !isAvailable(await kubectl.get<DeploymentObject>('deployment', 'order-producer'))) {
    say('  order-producer: no stable pod is available yet, traffic stays with the candidate');
    return;
  }
  if (isOnCandidate) {
    await switchTo(kubectl, 'stable');
    say(`  order-producer: new connections to stable ${secondsSince(startedAt)} s after the decision`);
  }
  await removeCandidate(kubectl);
}

async function stableIsAvailable({ kubectl, signal, rolloutTimeoutSeconds }: Session): Promise<void> {
  const giveUpAt = performance.now() + rolloutTimeoutSeconds * 1_000;
  while (!isAvailable(await kubectl.get<DeploymentObject>('deployment', 'order-producer'))) {
    if (performance.now() > giveUpAt)
      throw new DeploymentError(
        'NOT_READY',
        `no stable order-producer is available in ${rolloutTimeoutSeconds} s`,
      );
    await pause(signal, LOOK_EVERY_MS);
  }
}

/**
 * Waits for the pods of the other release to go. A producer that is about to end gets no new connections, but a consumer
 * goes on with what it holds. Such that cannot even end are taken for dead.
 * @throws {DeploymentError} NOT_READY
 */
async function onlyRevertedPods(session: Session, service: ServiceName): Promise<void> {
  const left = await othersGone(session, service, { ending: service === 'order-consumer' });
  const isEnding = ({ metadata }: PodObject) => metadata.deletionTimestamp !== undefined;
  for (const { metadata } of left.filter(isEnding))
    session.say(`  ${metadata.name} does not end: is its node dead?`);
  const alive = left.filter((pod) => !isEnding(pod)).map(({ metadata }) => metadata.name);
  if (alive.length === 0) return;
  throw new DeploymentError(
    'NOT_READY',
    `${alive.join(', ')} still runs after ${session.rolloutTimeoutSeconds} s`,
  );
}
