import { checkProducer } from './checks.ts';
import type { Context, Session, Step } from './context.ts';
import { DeploymentError } from './errors.ts';
import type { Figures } from './judge.ts';
import type { DeploymentObject, Kubectl, ServiceObject } from './kubectl.ts';
import {
  candidateName,
  candidateOf,
  PORTS,
  PREVIEW_SERVICE,
  previewOf,
  type Running,
  type Track,
} from './manifests.ts';
import { growth, readFigures } from './pod-figures.ts';
import { backTo, isRolledOut, rolledOut, wouldChange } from './rollout.ts';
import { quiet, watch } from './watch.ts';

const SERVICE = 'order-producer';
const CANDIDATE = candidateName(SERVICE);
const PREVIEW_TARGET = `services/${PREVIEW_SERVICE}:${PORTS[SERVICE]}`;

/**
 * The candidate takes all traffic while the stable Deployment is brought to the new release, and gives it back then:
 * so `deployment/order-producer` is what runs before and after, and `kubectl rollout undo` works.
 */
export async function producerSteps(context: Context, live: DeploymentObject): Promise<Step[]> {
  const { kubectl, manifests, tag, say } = context;
  const wanted = manifests.deployments[SERVICE];
  const replicas = live.spec.replicas ?? 1;
  let reference: Figures | undefined;

  const change = await wouldChange(kubectl, wanted);
  const leftOver = await kubectl.find<DeploymentObject>('deployment', CANDIDATE);
  if (!change && !leftOver && isRolledOut(live)) return [];
  const bluegreen: Step[] = [
    {
      title: `${SERVICE}: ${replicas} candidate${replicas > 1 ? 's' : ''} beside ${replicas}, without traffic`,
      run: async () => {
        await kubectl.apply(candidateOf(wanted, replicas), previewOf(manifests.producerService));
        await rolledOut(context, CANDIDATE);
      },
    },
    {
      title: `${SERVICE}: checks through ${PREVIEW_SERVICE}`,
      run: async () => say(`  ${await checkProducer(context, PREVIEW_TARGET, tag)}`),
    },
    {
      title: `${SERVICE}: traffic to the candidate, watched for ${context.watchSeconds} s`,
      run: async () => {
        reference = growth(new Map(), await readFigures(context, SERVICE, 'stable'));
        await switchTo(kubectl, 'candidate');
        await watch(context, { service: SERVICE, track: 'candidate', reference });
        await quiet(context, SERVICE, 'stable');
      },
    },
  ];
  return [
    ...(change ? bluegreen : []),
    {
      title: `${SERVICE}: ${tag} on the stable ${replicas}`,
      run: async () => {
        await kubectl.apply(wanted);
        await rolledOut(context, SERVICE);
      },
    },
    {
      title: `${SERVICE}: traffic back to stable, the candidate goes`,
      run: async () => {
        await switchTo(kubectl, 'stable');
        await quiet(context, SERVICE, 'candidate');
        await removeCandidate(kubectl);
      },
    },
  ];
}

/** New connections go there from now on; those that exist end with their next answer, when they are 5 s old. */
export async function switchTo(kubectl: Kubectl, track: Track): Promise<void> {
  await kubectl.patch('service', SERVICE, { spec: { selector: { app: SERVICE, track } } });
}

export async function trackOf(kubectl: Kubectl): Promise<Track> {
  const { spec } = await kubectl.get<ServiceObject>('service', SERVICE);
  return spec.selector['track'] === 'candidate' ? 'candidate' : 'stable';
}

/**
 * Traffic to the stable pods first, since the old release is still there: that takes a second. Then what remains of
 * the other release. Ending pods give up their connections with each answer.
 */
export async function producerBack(context: Session, previous: Running): Promise<void> {
  const { kubectl, say } = context;
  const startedAt = performance.now();
  const live = await kubectl.get<DeploymentObject>('deployment', SERVICE);
  if ((await trackOf(kubectl)) === 'candidate' && !live.status?.availableReplicas) {
    throw new DeploymentError(
      'NOT_READY',
      `no stable ${SERVICE} is available: traffic stays with the candidate`,
    );
  }
  await switchTo(kubectl, 'stable');
  say(
    `  order-producer: new connections to stable ${((performance.now() - startedAt) / 1_000).toFixed(1)} s after the decision`,
  );
  await backTo(context, SERVICE, previous);
  await removeCandidate(kubectl);
}

async function removeCandidate(kubectl: Kubectl): Promise<void> {
  await kubectl.delete('deployment', CANDIDATE);
  await kubectl.delete('service', PREVIEW_SERVICE);
}
