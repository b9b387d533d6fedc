import { checkHealth, checkStored, persistently, placeSyntheticOrder, serviceTarget } from './checks.ts';
import { DeploymentError, hasCode, isOutOfReach, messageOf } from './errors.ts';
import type { DeploymentObject } from './kubectl.ts';
import { SETTLED_WITHIN_SECONDS, summary, UNAVAILABLE_SHARE } from './limits.ts';
import { trackOf } from './live.ts';
import type { DeploymentState } from './lock.ts';
import { candidateName, releaseOf, SERVICES, type ServiceName } from './manifests.ts';
import { within } from './pause.ts';
import { NO_FIGURES } from './pod-figures.ts';
import { isSettled } from './rollout.ts';
import { observe, type Watching, whyWorse } from './watch.ts';

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
  const { http, signal, say, watchSeconds } = context;
  const problems: string[] = [];
  const check = async (name: string, run: () => string | Promise<string>) => {
    try {
      say(`ok      ${name}: ${await run()}`);
    } catch (error) {
      // Whoever may not ask has not verified anything.
      if (isOutOfReach(error) || hasCode(error, 'BROKEN_OFF')) throw error;
      problems.push(`${name}: ${messageOf(error)}`);
      say(`FAILED  ${problems.at(-1)}`);
    }
  };
  for (const service of SERVICES) await check(`${service} rolled out`, () => settled(context, service));
  await check('no deployment half-way', () => nothingHalfWay(context));
  for (const service of SERVICES) {
    await check(`${service} health`, async () => {
      await persistently(signal, () => checkHealth(http, serviceTarget(service)));
      return 'UP';
    });
  }
  await check('a synthetic order', () => persistently(signal, () => throughToTheStore(context)));
  const now = await observe(context, { ordering });
  for (const service of SERVICES) {
    await check(`${service} over ${watchSeconds} s`, () => {
      const why = whyWorse(now[service], before?.[service] ?? NO_FIGURES);
      return why ? fail(`${why}; ${summary(now[service])}`) : summary(now[service]);
    });
  }
  return problems;
}

async function nothingHalfWay({ kubectl }: Watching): Promise<string> {
  if ((await trackOf(kubectl)) !== 'stable') fail('traffic goes to the candidate');
  for (const name of SERVICES.map(candidateName))
    if (await kubectl.find('deployment', name)) fail(`${name} is there`);
  return 'traffic to stable, no candidates';
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
