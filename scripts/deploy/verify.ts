import { checkHealth, checkStored, persistently, placeSyntheticOrder, serviceTarget } from './checks.ts';
import { DeploymentError, hasCode, isOutOfReach, messageOf } from './errors.ts';
import type { DeploymentObject } from './kubectl.ts';
import { SETTLED_WITHIN_SECONDS, summary, UNAVAILABLE_SHARE } from './limits.ts';
import { trackOf } from './live.ts';
import type { DeploymentState } from './lock.ts';
import { candidateName, releaseOf, SERVICES, type ServiceName } from './manifests.ts';
import { within } from './pause.ts';
import { NO_FIGURES, type Observed } from './pod-figures.ts';
import { isSettled } from './rollout.ts';
import { observe, type Watching, whyWorse } from './watch.ts';

type Check = { name: string; run: () => Promise<string> };

const LOOK_EVERY_MS = 2_000;

const fail = (message: string): never => {
  throw new DeploymentError('CHECK_FAILED', message);
};

/**
 * What must hold while no deployment is under way, as seen from outside. Every check is made, whatever the others say, and
 * said. Judged by the limits of the deployment and against what it saw before it: what is usual here must not take a
 * release back.
 * @param ordering whether synthetic orders are placed during the watch, too
 * @returns what is wrong
 */
export async function verify(
  context: Watching,
  { before }: DeploymentState,
  { ordering = false } = {},
): Promise<string[]> {
  const problems: string[] = [];
  for (const { name, run } of checks(context, before, ordering)) {
    try {
      context.say(`ok      ${name}: ${await run()}`);
    } catch (error) {
      // Whoever may not ask has not verified anything.
      if (isOutOfReach(error) || hasCode(error, 'BROKEN_OFF')) throw error;
      problems.push(`${name}: ${messageOf(error)}`);
      context.say(`FAILED  ${problems.at(-1)}`);
    }
  }
  return problems;
}

function checks(context: Watching, before: DeploymentState['before'], ordering: boolean): Check[] {
  const { kubectl, http, signal, watchSeconds } = context;
  const each = (what: string, run: (service: ServiceName) => Promise<string>): Check[] =>
    SERVICES.map((service) => ({ name: `${service} ${what}`, run: () => run(service) }));
  let observed: Promise<Record<ServiceName, Observed>> | undefined;
  return [
    ...each('rolled out', (service) => settled(context, service)),
    {
      name: 'no deployment half-way',
      run: async () => {
        if ((await trackOf(kubectl)) !== 'stable') fail('traffic goes to the candidate');
        for (const service of SERVICES) {
          const candidate = await kubectl.find('deployment', candidateName(service));
          if (candidate) fail(`${candidate.metadata.name} is there`);
        }
        return 'traffic to stable, no candidates';
      },
    },
    ...each('health', async (service) => {
      await persistently(signal, () => checkHealth(http, serviceTarget(service)));
      return 'UP';
    }),
    { name: 'a synthetic order', run: () => persistently(signal, () => throughToTheStore(context)) },
    ...each(`over ${watchSeconds} s`, async (service) => {
      observed ??= observe(context, { ordering });
      const now = (await observed)[service];
      const why = whyWorse(now, before?.[service] ?? NO_FIGURES);
      return why ? fail(`${why}; ${summary(now)}`) : summary(now);
    }),
  ];
}

/** An autoscaler may just have added a pod: most of them must be available, some time soon. */
async function settled({ kubectl, signal }: Watching, service: ServiceName): Promise<string> {
  let pods = '';
  const isSo = await within(signal, SETTLED_WITHIN_SECONDS, LOOK_EVERY_MS, async () => {
    const deployment = await kubectl.get<DeploymentObject>('deployment', service);
    const { availableReplicas = 0 } = deployment.status ?? {};
    pods = `release ${releaseOf(deployment)}, ${availableReplicas} of ${deployment.spec.replicas ?? 1} available`;
    return isSettled(deployment, UNAVAILABLE_SHARE) || undefined;
  });
  return isSo ? pods : fail(pods);
}

async function throughToTheStore({ http, signal }: Watching): Promise<string> {
  const startedAt = performance.now();
  const { orderId, seconds } = await placeSyntheticOrder(http, serviceTarget('order-producer'));
  await checkStored({ http, signal }, [orderId]);
  const storedMs = performance.now() - startedAt;
  return `accepted in ${(seconds * 1_000).toFixed(0)} ms, found stored after ${storedMs.toFixed(0)} ms`;
}
