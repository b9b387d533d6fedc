import { configurationStep, findChanges } from './configuration.ts';
import { consumerSteps } from './consumer-gradual.ts';
import type { Context, Memory, Step } from './context.ts';
import { DeploymentError, isOutOfReach, messageOf } from './errors.ts';
import { goBack } from './go-back.ts';
import type { DeploymentObject } from './kubectl.ts';
import { findLive, isAvailable, type LiveDeployments, releasesOf } from './live.ts';
import type { DeploymentLock, DeploymentState, Facts } from './lock.ts';
import { candidateName, type RunningReleases, releaseOf, SERVICES } from './manifests.ts';
import { throwIfBrokenOff } from './pause.ts';
import { producerSteps } from './producer-blue-green.ts';
import { put, rolledOut } from './rollout.ts';
import { observe } from './watch.ts';

/** What a deployment is told: `isFirst` that nothing that runs is worth protecting. */
export type Request = Omit<Context, 'memory'> & { isFirst: boolean };

/** `previous` is what to go back to; nothing, when nothing that serves would be protected by that. */
export type Plan = { steps: Step[]; previous?: RunningReleases; isFirst: boolean };

/**
 * The steps from what runs to the new release. The consumer comes first: it reads every older message, while a
 * producer may write newer ones. Steps that a broken-off run has done are safe to do again, or left out.
 * @throws {DeploymentError} NOT_READY when what runs serves nobody, so that nothing could be compared with it
 */
export async function planSteps(request: Request, state: DeploymentState, memory = inVain): Promise<Plan> {
  const { kubectl, manifests, tag } = request;
  const context: Context = { ...request, memory };
  const live = await findLive(kubectl);
  const changes = await findChanges(kubectl, manifests);
  const isFirst = !live || request.isFirst || (isHalfWay(state) && !state.previous);
  if (isFirst) {
    return {
      steps: [firstDeployment(context)],
      ...(live && request.isFirst ? { previous: releasesOf(live) } : {}),
      isFirst,
    };
  }
  const isResumed = isHalfWay(state) && state.release === tag;
  if (!isResumed) checkServing(live);
  const release = [
    ...(await consumerSteps(context, live['order-consumer'])),
    ...(await producerSteps(context, live['order-producer'])),
  ];
  const isChange = release.length + changes.configuration.length + changes.added.length > 0;
  return {
    steps: isChange ? [asItIs(context), configurationStep(context, changes), ...release] : [],
    previous: (isResumed && state.previous) || releasesOf(live),
    isFirst,
  };
}

/** Of a run that broke off: it did not end, in whatever way. */
const isHalfWay = ({ step }: DeploymentState) => step !== undefined;

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
      await kubectl.apply(...manifests.others);
      for (const name of SERVICES) await kubectl.delete('deployment', candidateName(name));
      for (const manifest of Object.values(manifests.deployments)) await put(kubectl, manifest);
      for (const name of SERVICES) await rolledOut(context, name);
    },
  };
}

/** Later steps are compared with it. A run that goes on keeps what the one before saw: the release was not there yet. */
function asItIs(context: Context): Step {
  const { memory, say, watchSeconds } = context;
  return {
    title: `as it is, watched for ${watchSeconds} s`,
    run: async () => {
      if (memory.facts.before) say('  seen already');
      else await memory.remember({ before: await observe(context) });
    },
  };
}

/**
 * Deploys, or goes back to what ran before, and then throws why.
 * @throws {DeploymentError} the reason. UNREACHABLE, UNAUTHORIZED and a lost lock leave things as they are
 */
export async function deployRelease(request: Request, lock: DeploymentLock): Promise<void> {
  const { tag, say } = request;
  await clearAway(request, lock);
  const before = lock.state;
  const isResumed = isHalfWay(before);
  const state: DeploymentState = isResumed ? before : { release: tag, startedAt: new Date().toISOString() };
  const memory = createMemory(lock, state);
  const { steps, previous, isFirst } = await planSteps(request, before, memory);
  if (steps.length === 0) {
    say(`${tag} is deployed already`);
    if (isResumed) await lock.setState(ended(state));
    return;
  }
  if (previous) state.previous = previous;
  if (isResumed) say(`goes on with a deployment that broke off at: ${before.step}`);
  try {
    for (const [index, { title, run }] of steps.entries()) {
      throwIfBrokenOff(request.signal);
      say(`[${index + 1}/${steps.length}] ${title}`);
      state.step = title;
      await lock.setState(state);
      await run();
    }
    await lock.setState(ended(state));
  } catch (error) {
    if (isOutOfReach(error) || lock.signal.aborted || isFirst || !previous) throw error;
    say(`FAILED: ${messageOf(error)}`);
    await goBack({ ...request, signal: lock.signal }, state, previous);
    await lock.setState(isResumed ? { release: previous['order-producer'].release } : before);
    throw error;
  }
}

/** What another run left, whether it was for another release or is unknown to the lock: it goes first. */
async function clearAway(request: Request, lock: DeploymentLock): Promise<void> {
  const leftOver = await findLeftOver(request, lock.state);
  if (!leftOver) return;
  const { state, previous } = leftOver;
  request.say(`what is left of ${state.release}, whose deployment broke off, goes`);
  await goBack(request, state, previous);
  await lock.setState({ release: previous['order-producer'].release });
}

/** What {@link deployRelease} clears away before it begins. */
export async function findLeftOver(
  { kubectl, tag, isFirst }: Request,
  state: DeploymentState,
): Promise<{ state: DeploymentState; previous: RunningReleases } | undefined> {
  if (isFirst) return undefined;
  if (isHalfWay(state)) {
    const { previous, release } = state;
    return previous && release !== tag ? { state, previous } : undefined;
  }
  const live = await findLive(kubectl);
  for (const service of SERVICES) {
    const candidate = await kubectl.find<DeploymentObject>('deployment', candidateName(service));
    if (live && candidate) return { state: { release: releaseOf(candidate) }, previous: releasesOf(live) };
  }
  return undefined;
}

function createMemory(lock: DeploymentLock, state: DeploymentState): Memory {
  const facts: Facts = { ...state.facts };
  state.facts = facts;
  return {
    facts,
    remember: async (more) => {
      Object.assign(facts, more);
      await lock.setState(state);
    },
  };
}

/** For a dry run. */
const inVain: Memory = { facts: {}, remember: async () => {} };

function ended({ step: _, ...state }: DeploymentState): DeploymentState {
  return state;
}
