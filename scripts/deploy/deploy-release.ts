import { consumerBack, consumerSteps } from './consumer-gradual.ts';
import { type Context, type Step, throwIfBrokenOff } from './context.ts';
import { DeploymentError, hasCode } from './errors.ts';
import type { DeploymentObject, Kubectl } from './kubectl.ts';
import type { DeploymentLock, DeploymentState } from './lock.ts';
import {
  candidateName,
  type Running,
  type RunningReleases,
  releaseOf,
  SERVICES,
  type ServiceName,
} from './manifests.ts';
import { producerBack, producerSteps } from './producer-blue-green.ts';
import { codeVersionOf, type Environment, redriveRelease } from './redrive.ts';
import { revisionOf, rolledOut } from './rollout.ts';

type LiveDeployments = Record<ServiceName, DeploymentObject>;

/** What serves. Nothing of it can be protected where one is missing, or no pod of either is available. */
export async function findLive(kubectl: Kubectl): Promise<LiveDeployments | undefined> {
  const producer = await kubectl.find<DeploymentObject>('deployment', 'order-producer');
  const consumer = await kubectl.find<DeploymentObject>('deployment', 'order-consumer');
  if (!producer || !consumer) return undefined;
  const available = [producer, consumer].some(({ status }) => status?.availableReplicas);
  return available ? { 'order-producer': producer, 'order-consumer': consumer } : undefined;
}

const runningOf = (deployment: DeploymentObject): Running => ({
  release: releaseOf(deployment),
  revision: revisionOf(deployment),
});
export const releasesOf = (live: LiveDeployments): RunningReleases => ({
  'order-producer': runningOf(live['order-producer']),
  'order-consumer': runningOf(live['order-consumer']),
});

/** @throws {DeploymentError} NOT_FOUND with what to do, or what kubectl says of an unreachable cluster, a token … */
export async function checkNamespace(kubectl: Kubectl): Promise<void> {
  const { namespace } = kubectl;
  const found = await kubectl.find('namespace', namespace).catch((cause) => {
    if (!hasCode(cause, 'FORBIDDEN')) throw cause;
    // Rights come with the namespace: whoever has none may not even see that it is missing.
    const how = `missing, or without the rights of: kubectl apply -n ${namespace} -k k8s/deployer`;
    throw new DeploymentError('FORBIDDEN', `the namespace ${namespace} is ${how}`, { cause });
  });
  if (found) return;
  const how = `kubectl apply -f k8s/overlays/${namespace}/namespace.yaml`;
  throw new DeploymentError('NOT_FOUND', `the cluster has no namespace ${namespace}. Do: ${how}`);
}

/**
 * The steps from what runs to the new release. The consumer comes first: it reads every older message, while a
 * producer may write newer ones. Steps that a broken-off run has done are safe to do again, or left out.
 */
export async function planSteps(context: Context, state: DeploymentState): Promise<Step[]> {
  const { kubectl, manifests } = context;
  const live = await findLive(kubectl);
  const configuration: Step = {
    title: 'configuration of the overlay',
    run: () => kubectl.apply(...manifests.others),
  };
  if (!live) return [configuration, firstDeployment(context)];
  const steps = [
    ...(await leftOvers(context, previousOf(state) ?? releasesOf(live))),
    ...(await consumerSteps(context, live['order-consumer'])),
    ...(await producerSteps(context, live['order-producer'])),
  ];
  return steps.length > 0 ? [configuration, ...steps] : [];
}

function firstDeployment(context: Context): Step {
  const { kubectl, manifests } = context;
  return {
    title: `first deployment of ${SERVICES.join(' and ')}`,
    run: async () => {
      for (const name of SERVICES) await kubectl.delete('deployment', candidateName(name));
      await kubectl.apply(...Object.values(manifests.deployments));
      for (const name of SERVICES) await rolledOut(context, name);
    },
  };
}

/** What ran before a deployment that broke off. Half of it may run now, which is nothing to go back to. */
const previousOf = ({ step, previous }: DeploymentState) => (step === undefined ? undefined : previous);

/** A run for another release broke off: what it left is taken away, after traffic is with the stable pods. */
async function leftOvers(context: Context, previous: RunningReleases): Promise<Step[]> {
  const { kubectl, tag } = context;
  for (const service of SERVICES) {
    const candidate = await kubectl.find<DeploymentObject>('deployment', candidateName(service));
    if (!candidate || releaseOf(candidate) === tag) continue;
    return [
      {
        title: `what is left of ${releaseOf(candidate)}, whose deployment broke off, goes`,
        run: async () => {
          await producerBack(context, previous['order-producer']);
          await consumerBack(context, previous['order-consumer']);
        },
      },
    ];
  }
  return [];
}

/**
 * Deploys, or goes back to what ran before, and then throws why.
 * @throws {DeploymentError} the reason. UNREACHABLE, UNAUTHORIZED and a lost lock leave things as they are
 */
export async function deployRelease(
  context: Context,
  lock: DeploymentLock,
  environment: Environment,
): Promise<void> {
  const { kubectl, tag, say } = context;
  const { step: brokenOffAt, ...before } = lock.state;
  const live = await findLive(kubectl);
  const resumed = brokenOffAt !== undefined && before.release === tag;
  const steps = await planSteps(context, lock.state);
  if (steps.length === 0) {
    say(`${tag} is deployed already`);
    await lock.setState(before);
    return;
  }
  const previous = previousOf(lock.state) ?? (live && releasesOf(live));
  const state: DeploymentState = {
    release: tag,
    ...(previous ? { previous } : {}),
    startedAt: (resumed ? before.startedAt : undefined) ?? new Date().toISOString(),
  };
  if (resumed) say(`goes on with a deployment that broke off at: ${brokenOffAt}`);
  try {
    for (const [index, { title, run }] of steps.entries()) {
      throwIfBrokenOff(context.signal);
      say(`[${index + 1}/${steps.length}] ${title}`);
      await lock.setState({ ...state, step: title });
      await run();
    }
    await lock.setState(state);
  } catch (error) {
    const untouchable = hasCode(error, 'UNREACHABLE', 'UNAUTHORIZED', 'FORBIDDEN') || lock.signal.aborted;
    if (untouchable || !previous) throw error;
    say(`FAILED: ${error instanceof Error ? error.message : error}`);
    await goBack({ ...context, signal: lock.signal }, environment, state, previous);
    await lock.setState(brokenOffAt === undefined ? before : { release: previous['order-producer'].release });
    throw error;
  }
}

/** The producer first: it must not write what the older consumers do not read. */
async function goBack(
  context: Context,
  environment: Environment,
  { startedAt = '' }: DeploymentState,
  previous: RunningReleases,
): Promise<void> {
  const { tag, say } = context;
  const startedBackAt = performance.now();
  say(`going back to ${previous['order-producer'].release}`);
  const codeVersion = await codeVersionOf(context, tag);
  await producerBack(context, previous['order-producer']);
  say(`  order-producer: only ${previous['order-producer'].release} after ${secondsSince(startedBackAt)} s`);
  await consumerBack(context, previous['order-consumer']);
  say(`  order-consumer: only ${previous['order-consumer'].release} after ${secondsSince(startedBackAt)} s`);
  const redriven = await redriveRelease(environment, codeVersion, new Date(startedAt));
  say(`  ${redriven} messages that ${codeVersion} had dead-lettered are back in the queue`);
}

export const secondsSince = (startedAt: number) => ((performance.now() - startedAt) / 1_000).toFixed(1);
