import { type QueueAttributes, redrivePolicyOf } from '@orders/shared/sqs/queues.ts';

export type AuditedQueues = { queue: QueueAttributes; deadLetterQueue: QueueAttributes };

/** What an operator should know about the queues before it hurts: one sentence a finding, none when all is well. */
export function auditQueues(
  { queue, deadLetterQueue }: AuditedQueues,
  { maxFailures, handlingTimeoutSeconds }: { maxFailures: number; handlingTimeoutSeconds: number },
): string[] {
  const findings: string[] = [];
  const expect = (holds: boolean, finding: string) => {
    if (!holds) findings.push(finding);
  };
  const policy = redrivePolicyOf(queue);
  const { maxReceiveCount = Number.NaN } = policy;
  const retention = {
    queue: Number(queue.MessageRetentionPeriod),
    dlq: Number(deadLetterQueue.MessageRetentionPeriod),
  };

  expect(
    policy.deadLetterTargetArn !== undefined,
    'the queue has no redrive policy: a message that kills its consumer is delivered for ever',
  );
  expect(
    policy.deadLetterTargetArn === undefined || policy.deadLetterTargetArn === deadLetterQueue.QueueArn,
    'the redrive policy names another dead-letter queue than ORDER_DLQ_NAME',
  );
  expect(
    !(maxReceiveCount < 2 * maxFailures),
    `maxReceiveCount ${maxReceiveCount} is less than twice MAX_FAILURES ${maxFailures}: it counts receives, not failures, and would move messages without a reason`,
  );
  expect(
    !(retention.dlq <= retention.queue),
    'the dead-letter queue does not keep messages longer than the queue: it keeps their original enqueue time',
  );
  expect(
    !(Number(queue.VisibilityTimeout) < handlingTimeoutSeconds),
    `the queue's visibility time of ${queue.VisibilityTimeout} s is shorter than HANDLING_TIMEOUT_SECONDS: other readers than this consumer get it`,
  );
  expect(
    !(Number(queue.MaximumMessageSize) >= Number(deadLetterQueue.MaximumMessageSize)),
    'the queue takes messages as large as the dead-letter queue does: a message of full size has no room for its reason',
  );
  expect(
    deadLetterQueue.RedrivePolicy === undefined || deadLetterQueue.RedrivePolicy === '',
    'the dead-letter queue has a redrive policy of its own: looking at messages moves them on',
  );
  return findings;
}
