import type { SQSClient } from '@aws-sdk/client-sqs';
import { describeChange } from './changes.ts';
import { driftOfQueues } from './deployed.ts';
import type { Deployment } from './deployment.ts';
import type { EnvironmentName } from './environments.ts';

export type Differences = {
  /** One line per difference. */
  lines: string[];
  /** Stacks whose resources nobody compared with their template. */
  unknown: string[];
};

/** What a deployment would change. With `queues`, also what was changed by hand. */
export async function findDifferences(
  deployment: Deployment,
  queues?: { client: SQSClient; environment: EnvironmentName; arn: string },
): Promise<Differences> {
  const lines = (await deployment.changes()).map(describeChange);
  const unknown: string[] = [];
  if (!queues) return { lines, unknown };
  const drifts = await driftOfQueues(queues.client, queues.environment, queues.arn);
  for (const { stackName } of deployment.stacks) {
    if (!(await deployment.deployed.find(stackName))) continue;
    const drift = await deployment.deployed.drift(stackName);
    if (drift === undefined) unknown.push(stackName);
    else drifts.push(...drift);
  }
  return { lines: [...lines, ...drifts.map((drift) => `drift: ${drift}`)], unknown };
}
