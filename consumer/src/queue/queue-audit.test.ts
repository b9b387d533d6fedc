import { deadLetterQueueDefinition, orderQueueDefinition } from '@orders/shared/sqs/queues.ts';
import { describe, expect, test } from 'vitest';
import { auditQueues } from './queue-audit.ts';

const QueueArn = 'arn:aws:sqs:ap-northeast-2:000000000000:order-dlq';
const queues = () => ({
  queue: orderQueueDefinition('production', 'order-queue', QueueArn).attributes,
  deadLetterQueue: { ...deadLetterQueueDefinition('production', 'order-dlq').attributes, QueueArn },
});

const SETTINGS = { maxFailures: 5, handlingTimeoutSeconds: 20 };

describe('queue audit', () => {
  test('with the queues as defined, finds nothing', () => {
    expect(auditQueues(queues(), SETTINGS)).toEqual([]);
  });

  test.each([
    ['no redrive policy', { queue: { RedrivePolicy: '' } }, 'no redrive policy'],
    ['another DLQ', { deadLetterQueue: { QueueArn: 'arn:other' } }, 'another dead-letter queue'],
    [
      'a low maxReceiveCount',
      { queue: { RedrivePolicy: JSON.stringify({ deadLetterTargetArn: QueueArn, maxReceiveCount: '5' }) } },
      'maxReceiveCount 5',
    ],
    ['equal retention', { deadLetterQueue: { MessageRetentionPeriod: '345600' } }, 'longer than the queue'],
    ['a short visibility time', { queue: { VisibilityTimeout: '5' } }, 'visibility time of 5 s'],
    ['no room for the reason', { queue: { MaximumMessageSize: '262144' } }, 'no room for its reason'],
    ['a DLQ of the DLQ', { deadLetterQueue: { RedrivePolicy: '{}' } }, 'redrive policy of its own'],
  ])('with %s, says so', (_name, change: { queue?: object; deadLetterQueue?: object }, finding) => {
    const { queue, deadLetterQueue } = queues();
    const changed = {
      queue: { ...queue, ...change.queue },
      deadLetterQueue: { ...deadLetterQueue, ...change.deadLetterQueue },
    };
    expect(auditQueues(changed, SETTINGS)).toEqual([expect.stringContaining(finding)]);
  });
});
