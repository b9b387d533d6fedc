import { randomUUID } from 'node:crypto';
import {
  CreateQueueCommand,
  DeleteQueueCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { isFaultOfMessage } from '@orders/shared/sqs/batch.ts';

const FINDINGS = {
  refused:
    'the endpoint refuses MessageGroupId on a standard queue: orders are sent without, as with FAIR_QUEUES=off',
  dropped: 'the endpoint drops MessageGroupId on a standard queue: FAIR_QUEUES=on changes nothing',
  kept: 'the endpoint keeps MessageGroupId on a standard queue; whether it shares the queue out by it, only AWS documents',
  unknown:
    'whether the endpoint takes MessageGroupId on a standard queue could not be tried: orders are sent with it',
};
type Answer = keyof typeof FINDINGS;

/**
 * Whether messages on a standard queue may have a MessageGroupId. AWS takes it, and then delivers messages of quiet groups
 * before those of a busy one (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html).
 * Any other endpoint is tried with a queue of its own, which is deleted again; what came of it is a line of the log.
 * @param endpoint undefined for AWS
 */
export async function auditFairQueues(
  client: SQSClient,
  endpoint: string | undefined,
  logger: Pick<Logger, 'info' | 'warn'>,
): Promise<boolean> {
  if (endpoint === undefined || new URL(endpoint).hostname.endsWith('.amazonaws.com')) return true;
  const answer = await tryGroup(client);
  logger[answer === 'kept' ? 'info' : 'warn']({ finding: FINDINGS[answer] }, 'queue audit');
  return answer !== 'refused';
}

async function tryGroup(client: SQSClient): Promise<Answer> {
  let QueueUrl: string | undefined;
  const MessageGroupId = randomUUID();
  try {
    ({ QueueUrl } = await client.send(
      new CreateQueueCommand({ QueueName: `fair-queues-${MessageGroupId}` }),
    ));
    await client.send(new SendMessageCommand({ QueueUrl, MessageGroupId, MessageBody: 'probe' }));
    const { Messages = [] } = await client.send(
      new ReceiveMessageCommand({
        QueueUrl,
        WaitTimeSeconds: 1,
        MessageSystemAttributeNames: ['MessageGroupId'],
      }),
    );
    return Messages[0]?.Attributes?.MessageGroupId === MessageGroupId ? 'kept' : 'dropped';
  } catch (error) {
    return QueueUrl !== undefined && isFaultOfMessage(error) ? 'refused' : 'unknown';
  } finally {
    if (QueueUrl !== undefined) await client.send(new DeleteQueueCommand({ QueueUrl })).catch(() => {});
  }
}
