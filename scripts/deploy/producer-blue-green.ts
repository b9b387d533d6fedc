import { checkProducer } from './checks.ts';
import type { Context, Step } from './context.ts';
import type { DeploymentObject, Kubectl } from './kubectl.ts';
import { candidateName, candidateOf, PORTS, PREVIEW_SERVICE, previewOf, type Track } from './manifests.ts';
import { pause } from './pause.ts';
import { put, rolledOut, wouldChange } from './rollout.ts';
import { quiet, watch } from './watch.ts';

const SERVICE = 'order-producer';
const CANDIDATE = candidateName(SERVICE);
/** The controller notices within seconds; then two health checks, 5 s apart (k8s/components/ingress), with room. */
const REGISTRATION_MS = 30_000;
const PREVIEW_TARGET = `services/${PREVIEW_SERVICE}:${PORTS[SERVICE]}`;

/**
 * The candidate takes all traffic while the stable Deployment is brought to the new release, and gives it back then:
 * so `deployment/order-producer` is what runs before and after, and `kubectl rollout undo` works.
 */
export async function producerSteps(context: Context, live: DeploymentObject): Promise<Step[]> {
  const { kubectl, manifests, record, tag, say } = context;
  const wanted = manifests.deployments[SERVICE];
  const replicas = live.spec.replicas ?? 1;
  if (!(await wouldChange(kubectl, wanted))) return [];

  /** It carries the whole load: as many pods as an autoscaler keeps by now, and never fewer than it has. */
  const asManyAsStable = async () => {
    const stable = await kubectl.get<DeploymentObject>('deployment', SERVICE);
    const candidate = await kubectl.find<DeploymentObject>('deployment', CANDIDATE);
    const count = Math.max(stable.spec.replicas ?? 1, candidate?.spec.replicas ?? 0);
    await put(kubectl, candidateOf(wanted, count));
    await rolledOut(context, CANDIDATE);
  };

  return [
    {
      title: `${SERVICE}: ${replicas} candidate${replicas > 1 ? 's' : ''} beside ${replicas}, without traffic`,
      run: async () => {
        await kubectl.apply([previewOf(manifests.producerService)]);
        await asManyAsStable();
      },
    },
    {
      title: `${SERVICE}: checks through ${PREVIEW_SERVICE}`,
      run: async () => say(`  ${await checkProducer(context, PREVIEW_TARGET)}`),
    },
    {
      title: `${SERVICE}: traffic to the candidate, watched for ${context.watchSeconds} s`,
      run: async () => {
        await asManyAsStable();
        await handOver(context, 'candidate');
        await watch(context, {
          service: SERVICE,
          track: 'candidate',
          before: record.state.before?.[SERVICE],
        });
        await quiet(context, SERVICE, 'stable');
      },
    },
    {
      title: `${SERVICE}: ${tag} on the stable ${replicas}`,
      run: async () => {
        await put(kubectl, wanted);
        await rolledOut(context, SERVICE);
      },
    },
    {
      title: `${SERVICE}: traffic back to stable, the candidate goes`,
      run: async () => {
        await handOver(context, 'stable');
        await quiet(context, SERVICE, 'candidate');
        await removeCandidate(kubectl);
      },
    },
  ];
}

/**
 * {@link switchTo}, for a healthy pair. An ALB with IP targets registers the pods of a selector only after it has changed,
 * and takes those of the old one out at once: for half a minute it would have no healthy target. So both tracks get
 * connections until those that come are registered.
 */
async function handOver({ kubectl, manifests, signal, say }: Context, track: Track): Promise<void> {
  if (manifests.hasIngress) {
    await kubectl.patch('service', SERVICE, { spec: { selector: { track: null } } });
    say(`  both tracks for ${REGISTRATION_MS / 1_000} s, until the load balancer has registered ${track}`);
    await pause(signal, REGISTRATION_MS);
  }
  await switchTo(kubectl, track);
}

/** New connections go there from now on; those that exist end with their next answer, when they are 5 s old. */
export async function switchTo(kubectl: Kubectl, track: Track): Promise<void> {
  await kubectl.patch('service', SERVICE, { spec: { selector: { app: SERVICE, track } } });
}

/** With traffic on the stable pods only. Ending pods give up their connections with each answer. */
export async function removeCandidate(kubectl: Kubectl): Promise<void> {
  await kubectl.delete('deployment', CANDIDATE);
  await kubectl.delete('service', PREVIEW_SERVICE);
}
