import { DeadLetterQueue, ofRelease } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { createTool, findQueues } from '../sqs-tool.ts';
import type { Environment } from './command-line.ts';
import type { Context } from './context.ts';
import { DeploymentError, messageOf } from './errors.ts';
import type { PodObject } from './kubectl.ts';
import { PORTS, podLabels } from './manifests.ts';

/**
 * What the consumers of a release call themselves in reasons: the version that was built into the image. The tag where
 * no candidate says it.
 */
export async function codeVersionOf(
  { kubectl, http }: Pick<Context, 'kubectl' | 'http'>,
  release: string,
): Promise<string> {
  for (const { metadata } of await kubectl.list<PodObject>(
    'pods',
    podLabels('order-consumer', 'candidate'),
  )) {
    const target = `pods/${metadata.name}:${PORTS['order-consumer']}`;
    const answer = await http.request(target, '/actuator/info').catch(() => undefined);
    if (answer?.status === 200) return JSON.parse(answer.body).build?.version ?? release;
  }
  return release;
}

/**
 * Moves back what a release dead-lettered since it came, but for conflicts, which a person has to look at. With the
 * credentials and variables of `scripts/dlq.sh`.
 * @returns how many
 * @throws {DeploymentError} NOT_REDRIVEN with the command to type
 */
export async function redriveRelease(
  environment: Environment,
  codeVersion: string,
  since: Date,
  say: (line: string) => void = () => {},
): Promise<number> {
  try {
    const { client, config } = createTool(environment, process.env);
    const urls = await findQueues({ client, config });
    let conflicts = 0;
    const moved = await new DeadLetterQueue(client, urls).redrive({
      where: ofRelease(codeVersion, since),
      onLeft: (_, because) => {
        if (because === 'CONFLICT') conflicts++;
      },
    });
    if (conflicts > 0)
      say(`  ${conflicts} CONFLICT stay in the dead-letter queue: scripts/dlq.sh peek ${environment}`);
    return moved;
  } catch (cause) {
    throw new DeploymentError(
      'NOT_REDRIVEN',
      `not redriven (${messageOf(cause)}). Do: scripts/dlq.sh redrive ${environment} ` +
        `--code-version=${codeVersion} --since=${since.toISOString()}`,
      { cause },
    );
  }
}
