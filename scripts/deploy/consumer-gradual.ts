import type { Context, Step } from './context.ts';
import type { DeploymentObject } from './kubectl.ts';
import { candidateName, candidateOf } from './manifests.ts';
import { codeVersionOf } from './redrive.ts';
import { put, rolledOut, wouldChange } from './rollout.ts';
import { watch } from './watch.ts';

const SERVICE = 'order-consumer';
const CANDIDATE = candidateName(SERVICE);

/** So many candidates that a quarter of all pods are new. The stable ones are left alone, as an autoscaler owns them. */
export const aQuarterOf = (stableReplicas: number) => Math.max(1, Math.ceil(stableReplicas / 3));

/** One pod, a quarter, all: each step is watched before the next. None where nothing would change. */
export async function consumerSteps(context: Context, live: DeploymentObject): Promise<Step[]> {
  const { kubectl, manifests, record, tag, watchSeconds } = context;
  const wanted = manifests.deployments[SERVICE];
  const { image } = wanted.spec.template.spec.containers[0];
  const replicas = live.spec.replicas ?? 1;
  const before = () => record.state.before?.[SERVICE];

  const candidates = (count: number): Step => ({
    title: `${SERVICE}: ${count} candidate${count > 1 ? 's' : ''} beside ${replicas}, watched for ${watchSeconds} s`,
    run: async () => {
      await put(kubectl, candidateOf(wanted, count));
      await rolledOut(context, CANDIDATE);
      await record.setState({ ...record.state, codeVersion: await codeVersionOf(context, tag) });
      await watch(context, { service: SERVICE, track: 'candidate', before: before() });
    },
  });
  const all: Step = {
    title: `${SERVICE}: ${tag} on all ${replicas}, watched for ${watchSeconds} s`,
    run: async () => {
      await put(kubectl, wanted);
      await rolledOut(context, SERVICE);
      await watch(context, { service: SERVICE, track: 'stable', image, before: before() });
    },
  };
  const remove: Step = {
    title: `${SERVICE}: the candidate goes`,
    run: () => kubectl.delete('deployment', CANDIDATE),
  };

  if (!(await wouldChange(kubectl, wanted))) return [];
  const quarter = aQuarterOf(replicas);
  return [candidates(1), ...(quarter > 1 ? [candidates(quarter)] : []), all, remove];
}
