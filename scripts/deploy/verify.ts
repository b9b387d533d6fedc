import { checkHealth, checkStored, persistently, placeSyntheticOrder, serviceTarget } from './checks.ts';
import type { Session } from './context.ts';
import { DeploymentError, hasCode, isOutOfReach, messageOf } from './errors.ts';
import { judge, NO_FIGURES, summary } from './judge.ts';
import type { DeploymentObject } from './kubectl.ts';
import { trackOf } from './live.ts';
import { DeploymentLock, type DeploymentState } from './lock.ts';
import { candidateName, releaseOf, SERVICES, type ServiceName } from './manifests.ts';
import { pause } from './pause.ts';
import { growth, readFigures } from './pod-figures.ts';
import { isSettled } from './rollout.ts';
import { THRESHOLDS } from './thresholds.ts';

type Verification = Pick<Session, 'kubectl' | 'http' | 'signal' | 'watchSeconds'>;
type Check = { name: string; run: () => Promise<string> };

const LOOK_EVERY_MS = 2_000;

const fail = (message: string): never => {
  throw new DeploymentError('CHECK_FAILED', message);
};

/**
 * What must hold after a deployment, as seen from outside. Every check is made, whatever the others say. Judged by the
 * thresholds of the deployment and against what it saw before it: what is usual here must not take a release back.
 */
export async function verify(verification: Verification, say: (line: string) => void): Promise<boolean> {
  let sound = true;
  const { facts = {} } = await DeploymentLock.readState(verification.kubectl);
  for (const { name, run } of checks(verification, facts.before)) {
    try {
      say(`ok      ${name}: ${await run()}`);
    } catch (error) {
      // Whoever may not ask has not verified anything.
      if (isOutOfReach(error) || hasCode(error, 'BROKEN_OFF')) throw error;
      sound = false;
      say(`FAILED  ${name}: ${messageOf(error)}`);
    }
  }
  return sound;
}

type Before = NonNullable<DeploymentState['facts']>['before'];

function checks(verification: Verification, before: Before): Check[] {
  const { kubectl, http, signal, watchSeconds } = verification;
  const each = (name: (service: ServiceName) => string, run: (service: ServiceName) => Promise<string>) =>
    SERVICES.map((service) => ({ name: name(service), run: () => run(service) }));
  return [
    ...each(
      (service) => `${service} rolled out`,
      (service) => settled(verification, service),
    ),
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
    ...each(
      (service) => `${service} health`,
      async (service) => {
        await persistently(signal, () => checkHealth(http, serviceTarget(service)));
        return 'UP';
      },
    ),
    { name: 'a synthetic order', run: () => persistently(signal, () => throughToTheStore(verification)) },
    ...each(
      (service) => `${service} over ${watchSeconds} s`,
      async (service) => {
        const { figures: atFirst } = await readFigures({ kubectl, http }, service, 'stable');
        if (atFirst.size === 0) fail('no pod runs');
        await pause(signal, watchSeconds * 1_000);
        const { figures } = await readFigures({ kubectl, http }, service, 'stable');
        const seen = growth(atFirst, figures);
        const { verdict, reasons } = judge(seen, before?.[service] ?? NO_FIGURES, THRESHOLDS, true);
        return verdict === 'go back' ? fail(reasons.join('; ')) : summary(seen);
      },
    ),
  ];
}

/** An autoscaler may just have added a pod: most of them must be available, some time soon. */
async function settled({ kubectl, signal }: Verification, service: ServiceName): Promise<string> {
  for (const giveUpAt = performance.now() + THRESHOLDS.settledWithinSeconds * 1_000; ; ) {
    const deployment = await kubectl.get<DeploymentObject>('deployment', service);
    const { availableReplicas = 0 } = deployment.status ?? {};
    const pods = `release ${releaseOf(deployment)}, ${availableReplicas} of ${deployment.spec.replicas ?? 1} available`;
    if (isSettled(deployment, THRESHOLDS.unavailableShare)) return pods;
    if (performance.now() > giveUpAt) fail(pods);
    await pause(signal, LOOK_EVERY_MS);
  }
}

async function throughToTheStore({ http, signal }: Verification): Promise<string> {
  const startedAt = performance.now();
  const { orderId, seconds } = await placeSyntheticOrder(http, serviceTarget('order-producer'), 'verify');
  await checkStored({ http, signal }, [orderId]);
  const storedMs = performance.now() - startedAt;
  return `accepted in ${(seconds * 1_000).toFixed(0)} ms, found stored after ${storedMs.toFixed(0)} ms`;
}
