import { checkHealth, checkStored, placeSyntheticOrder, serviceTarget } from './checks.ts';
import { type Context, pause } from './context.ts';
import { DeploymentError, hasCode } from './errors.ts';
import { summary } from './judge.ts';
import type { DeploymentObject } from './kubectl.ts';
import { candidateName, releaseOf, SERVICES } from './manifests.ts';
import { growth, readFigures } from './pod-figures.ts';
import { trackOf } from './producer-blue-green.ts';
import { isRolledOut } from './rollout.ts';

type Verification = Pick<Context, 'kubectl' | 'http' | 'signal' | 'watchSeconds'>;
type Check = { name: string; run: () => Promise<string> };

const fail = (message: string): never => {
  throw new DeploymentError('CHECK_FAILED', message);
};

/** What must hold after a deployment, as seen from outside. Every check is made, whatever the others say. */
export async function verify(verification: Verification, say: (line: string) => void): Promise<boolean> {
  let sound = true;
  for (const { name, run } of checks(verification)) {
    try {
      say(`ok      ${name}: ${await run()}`);
    } catch (error) {
      // Whoever may not ask has not verified anything.
      if (hasCode(error, 'UNAUTHORIZED', 'BROKEN_OFF')) throw error;
      sound = false;
      say(`FAILED  ${name}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return sound;
}

function checks({ kubectl, http, signal, watchSeconds }: Verification): Check[] {
  return [
    ...SERVICES.map((service) => ({
      name: `${service} rolled out`,
      run: async () => {
        const deployment = await kubectl.get<DeploymentObject>('deployment', service);
        const { availableReplicas = 0 } = deployment.status ?? {};
        const pods = `release ${releaseOf(deployment)}, ${availableReplicas} of ${deployment.spec.replicas ?? 1} available`;
        return isRolledOut(deployment) ? pods : fail(pods);
      },
    })),
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
    ...SERVICES.map((service) => ({
      name: `${service} health`,
      run: async () => {
        await checkHealth(http, serviceTarget(service));
        return 'UP';
      },
    })),
    {
      name: 'a synthetic order',
      run: async () => {
        const startedAt = performance.now();
        const { orderId, seconds } = await placeSyntheticOrder(
          http,
          serviceTarget('order-producer'),
          'verify',
        );
        await checkStored({ http, signal }, [orderId]);
        const storedMs = performance.now() - startedAt;
        return `accepted in ${(seconds * 1_000).toFixed(0)} ms, found stored after ${storedMs.toFixed(0)} ms`;
      },
    },
    ...SERVICES.map((service) => ({
      name: `${service} over ${watchSeconds} s`,
      run: async () => {
        const before = await readFigures({ kubectl, http }, service, 'stable');
        if (before.size === 0) fail('no pod runs');
        await pause(signal, watchSeconds * 1_000);
        const figures = growth(before, await readFigures({ kubectl, http }, service, 'stable'));
        if (figures.deadLettered > 0) fail(`the dead-letter queue grows: ${summary(figures)}`);
        if (figures.failed > 0 || figures.restarts > 0)
          fail(`${summary(figures)}, ${figures.restarts} restarts`);
        return summary(figures);
      },
    })),
  ];
}
