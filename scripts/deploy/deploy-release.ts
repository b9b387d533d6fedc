import { configurationStep, findChanges } from './configuration.ts';
import { consumerSteps } from './consumer-gradual.ts';
import type { Context, Session, Step } from './context.ts';
import { DeploymentError, isOutOfReach, messageOf } from './errors.ts';
import { goBack } from './go-back.ts';
import type { DeploymentObject } from './kubectl.ts';
import { findLive, isAvailable, type LiveDeployments, releasesOf } from './live.ts';
import type { DeploymentLock, DeploymentState } from './lock.ts';
import { candidateName, type RunningReleases, releaseOf, SERVICES } from './manifests.ts';
import { throwIfBrokenOff } from './pause.ts';
import { producerSteps } from './producer-blue-green.ts';
import { put, rolledOut } from './rollout.ts';
import { observe } from './watch.ts';

/** What a deployment is told: `isFirst` that nothing that runs is worth protecting. */
export type Request = Omit<Context, 'record'> & { overlay: string; isFirst: boolean };

/** `previous` is what to go back to; nothing, when nothing that serves would be protected by that. */
export type Plan = { steps: Step[]; previous?: RunningReleases; isFirst: boolean };

/**
 * The steps from what runs to the new release. The consumer comes first: it reads every older message, while a producer
 * may write newer ones.
 * @throws {DeploymentError} NOT_READY when what runs serves nobody, so that nothing could be compared with it
 */
export async function planSteps(context: Context & { isFirst: boolean }): Promise<Plan> {
  const { kubectl, manifests, record, isFirst } = context;
  const live = await findLive(kubectl);
  const isHalfOfFirst = record.state.step !== undefined && !record.state.previous;
  if (!live || isFirst || isHalfOfFirst) {
    const previous = live && isFirst ? { previous: releasesOf(live) } : {};
    return { steps: [firstDeployment(context)], ...previous, isFirst: true };
  }
  checkServing(live);
  const changes = await findChanges(kubectl, manifests.others);
  const release = [
    ...(await consumerSteps(context, live['order-consumer'])),
    ...(await producerSteps(context, live['order-producer'])),
  ];
  const isChange = release.length + changes.length > 0;
  const steps = isChange ? [asItIs(context), configurationStep(context, changes), ...release] : [];
  return { steps, previous: releasesOf(live), isFirst: false };
}

/** An outage looks like a first deployment, and must not become one: nothing would be watched, or could go back. */
function checkServing(live: LiveDeployments): void {
  for (const [service, deployment] of Object.entries(live)) {
    if (isAvailable(deployment)) continue;
    throw new DeploymentError(
      'NOT_READY',
      `${service} ${releaseOf(deployment)} has no pod that is available, so nothing can be compared with it. Mend what ` +
        'it needs, or go back with scripts/rollback.sh; --first replaces it without any comparison',
    );
  }
}

function firstDeployment(context: Context): Step {
  const { kubectl, manifests } = context;
  return {
    title: `first deployment of ${SERVICES.join(' and ')}: nothing is compared`,
    run: async () => {
      await kubectl.apply(manifests.others);
      for (const name of SERVICES) await kubectl.delete('deployment', candidateName(name));
      for (const manifest of Object.values(manifests.deployments)) await put(kubectl, manifest);
      for (const name of SERVICES) await rolledOut(context, name);
    },
  };
}

/** Later steps are compared with it. */
function asItIs(context: Context): Step {
  const { record, watchSeconds } = context;
  return {
    title: `as it is, watched for ${watchSeconds} s`,
    run: async () => record.setState({ ...record.state, before: await observe(context, { ordering: true }) }),
  };
}

/**
 * Deploys, or goes back to what ran before, and then throws why. What a run that broke off has left goes back first.
 * @throws {DeploymentError} the reason. UNREACHABLE, UNAUTHORIZED and a lost lock leave things as they are
 */
export async function deployRelease(request: Request, lock: DeploymentLock): Promise<void> {
  const { tag, overlay, say } = request;
  if (!request.isFirst) await clearAway(request, lock);
  const before = lock.state;
  const { steps, previous, isFirst } = await planSteps({ ...request, record: lock });
  if (steps.length === 0) return say(`${tag} is deployed already`);
  const begun = { release: tag, startedAt: new Date().toISOString(), overlay, ...(previous && { previous }) };
  await lock.setState(begun);
  try {
    for (const [index, { title, run }] of steps.entries()) {
      throwIfBrokenOff(request.signal);
      say(`[${index + 1}/${steps.length}] ${title}`);
      await lock.setState({ ...lock.state, step: title });
      await run();
    }
    await lock.setState(ended(lock.state));
  } catch (error) {
    if (isOutOfReach(error) || lock.signal.aborted || isFirst || !previous) throw error;
    say(`FAILED: ${messageOf(error)}`);
    await goBack({ ...request, signal: lock.signal }, lock.state, previous);
    await lock.setState(before);
    throw error;
  }
}

async function clearAway(session: Session, lock: DeploymentLock): Promise<void> {
  const leftOver = await findLeftOver(session, lock.state);
  if (!leftOver) return;
  const { state, previous } = leftOver;
  session.say(`what is left of ${state.release}, whose deployment broke off, goes`);
  await goBack(session, state, previous);
  await lock.setState({ release: previous['order-producer'].release });
}

/** What a deployment or rollback that broke off has left, also where the lock does not know of it. */
export async function findLeftOver(
  { kubectl }: Session,
  state: DeploymentState,
): Promise<{ state: DeploymentState; previous: RunningReleases } | undefined> {
  const { step, previous } = state;
  if (step !== undefined) return previous && { state, previous };
  const live = await findLive(kubectl);
  for (const service of SERVICES) {
    const candidate = await kubectl.find<DeploymentObject>('deployment', candidateName(service));
    if (live && candidate) return { state: { release: releaseOf(candidate) }, previous: releasesOf(live) };
  }
  return undefined;
}

const ended = ({ step: _, ...state }: DeploymentState): DeploymentState => state;
