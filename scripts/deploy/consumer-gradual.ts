import type { Context, Session, Step } from './context.ts';
import type { Figures } from './judge.ts';
import type { DeploymentObject } from './kubectl.ts';
import { candidateName, candidateOf, type Running } from './manifests.ts';
import { backTo, isRolledOut, podsGone, rolledOut, wouldChange } from './rollout.ts';
import { watch } from './watch.ts';

const SERVICE = 'order-consumer';
const CANDIDATE = candidateName(SERVICE);

/** So many candidates that a quarter of all pods are new. The stable ones are left alone, as an autoscaler owns them. */
export const aQuarterOf = (stableReplicas: number) => Math.max(1, Math.ceil(stableReplicas / 3));

/** One pod, a quarter, all: each step is watched before the next. */
export async function consumerSteps(context: Context, live: DeploymentObject): Promise<Step[]> {
  const wanted = context.manifests.deployments[SERVICE];
  const image = wanted.spec.template.spec.containers[0].image;
  const replicas = live.spec.replicas ?? 1;
  let reference: Figures | undefined;

  const candidates = (count: number): Step => ({
    title: `${SERVICE}: ${count} candidate${count > 1 ? 's' : ''} beside ${replicas}, watched for ${context.watchSeconds} s`,
    run: async () => {
      await context.kubectl.apply(candidateOf(wanted, count));
      await rolledOut(context, CANDIDATE);
      reference = await watch(context, { service: SERVICE, track: 'candidate' });
    },
  });
  const all: Step = {
    title: `${SERVICE}: ${context.tag} on all ${replicas}, watched for ${context.watchSeconds} s`,
    run: async () => {
      await context.kubectl.apply(wanted);
      await rolledOut(context, SERVICE);
      await watch(context, { service: SERVICE, track: 'stable', image, ...(reference ? { reference } : {}) });
    },
  };
  const remove: Step = {
    title: `${SERVICE}: the candidate goes`,
    run: () => context.kubectl.delete('deployment', CANDIDATE),
  };

  const quarter = aQuarterOf(replicas);
  if (await wouldChange(context.kubectl, wanted)) {
    return [candidates(1), ...(quarter > 1 ? [candidates(quarter)] : []), all, remove];
  }
  const leftOver = await context.kubectl.find('deployment', CANDIDATE);
  return leftOver || !isRolledOut(live) ? [all, remove] : [];
}

/**
 * Ends the candidate and brings the stable pods back to `previous`.
 * Resolves when nothing of the other release runs any more, so that it rejects nothing after a redrive.
 */
export async function consumerBack(context: Session, previous: Running): Promise<void> {
  const { kubectl } = context;
  await kubectl.delete('deployment', CANDIDATE);
  await backTo(context, SERVICE, previous);
  await podsGone(context, SERVICE, 'candidate');
}
