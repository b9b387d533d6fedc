import { restoreConfiguration } from './configuration.ts';
import type { Session } from './context.ts';
import { DeploymentError, isOutOfReach, messageOf } from './errors.ts';
import type { DeploymentObject } from './kubectl.ts';
import { isAvailable, trackOf } from './live.ts';
import type { DeploymentState } from './lock.ts';
import { candidateName, type RunningReleases, SERVICES, type ServiceName } from './manifests.ts';
import { within } from './pause.ts';
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
  state: DeploymentState,
  previous: RunningReleases,
  { redrive = true } = {},
): Promise<string | undefined> {
  const { kubectl, say, signal } = session;
  const startedAt = performance.now();
  const seconds = () => ((performance.now() - startedAt) / 1_000).toFixed(1);
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
  let leftToDo: string | undefined;
  const only = async (service: ServiceName) => {
    await othersGone(session, service);
    await restoreStrategy(kubectl, service);
    say(`  ${service}: only ${previous[service].release} after ${seconds()} s`);
  };

  const releases = SERVICES.map((service) => previous[service].release);
  say(`going back to ${[...new Set(releases)].join(' and ')}`);
  await part(() => trafficToStable(session, seconds));
  await part(() => kubectl.delete('deployment', candidateName('order-consumer')));
  for (const service of ['order-consumer', 'order-producer'] as const) {
    await part(() => revert(kubectl, service, previous[service]));
  }
  await part(() => restoreConfiguration(session, state, previous));

  const consumer = part(async () => {
    await only('order-consumer');
    if (redrive) leftToDo = await redriveOrTell(session, state);
  });
  const producer = part(async () => {
    await stableIsAvailable(session);
    await trafficToStable(session, seconds);
    await only('order-producer');
  });
  for (const result of await Promise.allSettled([consumer, producer])) {
    if (result.status === 'rejected') throw result.reason;
  }
  if (problems.length === 0) return leftToDo;
  throw new DeploymentError('NOT_BACK', `not all is back: ${problems.join('; ')}. Run this again`);
}

/** Without the rights for it, a deployment may be back all the same: the dead letters wait. */
async function redriveOrTell(
  { redrive, say }: Session,
  { release = '', codeVersion = release, startedAt }: DeploymentState,
): Promise<string | undefined> {
  try {
    const redriven = await redrive(codeVersion, new Date(startedAt ?? 0));
    say(`  ${redriven} messages that ${codeVersion} had dead-lettered are back in the queue`);
    return undefined;
  } catch (error) {
    say(`  ${messageOf(error)}`);
    return messageOf(error);
  }
}

const isStableAvailable = async ({ kubectl }: Session) =>
  isAvailable(await kubectl.get<DeploymentObject>('deployment', 'order-producer'));

/** As long as no stable pod is there, the candidate keeps it: a bad release is better than none. */
async function trafficToStable(session: Session, seconds: () => string): Promise<void> {
  const { kubectl, say } = session;
  if ((await trackOf(kubectl)) === 'candidate') {
    if (!(await isStableAvailable(session)))
      return say('  order-producer: no stable pod is available yet, traffic stays with the candidate');
    await switchTo(kubectl, 'stable');
    say(`  order-producer: new connections to stable ${seconds()} s after the decision`);
  }
  await removeCandidate(kubectl);
}

async function stableIsAvailable(session: Session): Promise<void> {
  const { signal, rolloutTimeoutSeconds: seconds } = session;
  const look = async () => (await isStableAvailable(session)) || undefined;
  if (await within(signal, seconds, LOOK_EVERY_MS, look)) return;
  throw new DeploymentError('NOT_READY', `no stable order-producer is available in ${seconds} s`);
}
