import type { SqsRights } from '../scripts/sqs-tool.ts';

// What IAM allows the services of SQS. The stacks make the policies of it; test/integration/sqs-rights.test.ts holds it to
// the calls that the services really make: none missing, none spare.

/** `both`: each looks up both URLs and tags when it starts; the consumer also audits both queues' attributes. */
export const SERVICE_RIGHTS = {
  producer: { both: ['GetQueueUrl', 'ListQueueTags'], queue: ['GetQueueAttributes', 'SendMessage'] },
  consumer: {
    // To the order queue, it sends what must be retried of a packed message.
    both: ['GetQueueUrl', 'ListQueueTags', 'GetQueueAttributes', 'SendMessage'],
    queue: ['ReceiveMessage', 'DeleteMessage', 'ChangeMessageVisibility'],
  },
} as const satisfies Record<string, SqsRights>;

/**
 * Actions on the key that encrypts orders in messages, where there is one: the services call KMS themselves. The consumer
 * encrypts too, what it sends on of a packed message.
 */
export const MESSAGE_KEY_RIGHTS = {
  producer: ['kms:GenerateDataKey'],
  consumer: ['kms:Decrypt', 'kms:GenerateDataKey'],
} as const satisfies Record<string, readonly string[]>;

/** KEDA asks for the depth alone: https://keda.sh/docs/latest/scalers/aws-sqs/ */
export const KEDA_RIGHTS = { queue: ['GetQueueAttributes'] } as const satisfies SqsRights;

/**
 * What SQS does with the caller's rights on the key of an encrypted queue. No call to KMS shows on the caller's side, so no
 * recording can find these:
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
 */
const KEY_ACTIONS: Readonly<Record<string, readonly string[]>> = {
  SendMessage: ['kms:GenerateDataKey', 'kms:Decrypt'],
  ReceiveMessage: ['kms:Decrypt'],
};

/** Actions on the key of the queues that a client with these rights needs. */
export function keyActions({ both = [], queue = [], deadLetterQueue = [] }: SqsRights): string[] {
  const needed = [...both, ...queue, ...deadLetterQueue].flatMap((action) => KEY_ACTIONS[action] ?? []);
  return [...new Set(needed)].toSorted();
}
