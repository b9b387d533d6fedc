import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { SqsRights } from '../../scripts/sqs-tool.ts';
import { keyActions } from '../rights.ts';
import type { MessagingStack } from './messaging.ts';

/** What a policy must allow on the key of messages, where there is one: for messages of this environment alone. */
export function messageKeyStatements(
  actions: readonly string[],
  { messageKey, place }: MessagingStack,
): PolicyStatement[] {
  if (!messageKey) return [];
  return [
    new PolicyStatement({
      actions: [...actions],
      resources: [messageKey.keyArn],
      conditions: { StringEquals: { 'kms:EncryptionContext:environment': place.name } },
    }),
  ];
}

/** What a policy must allow for these rights, on the two queues alone, and on their key where they have one. */
export function sqsStatements(rights: SqsRights, messaging: MessagingStack): PolicyStatement[] {
  const { queue, deadLetterQueue, key } = messaging;
  const on = (actions: readonly string[] = [], ...arns: string[]) =>
    actions.length === 0
      ? []
      : [new PolicyStatement({ actions: actions.map((action) => `sqs:${action}`), resources: arns })];
  const needed = keyActions(rights);
  return [
    ...on(rights.both, queue.queueArn, deadLetterQueue.queueArn),
    ...on(rights.queue, queue.queueArn),
    ...on(rights.deadLetterQueue, deadLetterQueue.queueArn),
    ...(key && needed.length > 0
      ? [
          new PolicyStatement({
            actions: needed,
            resources: [key.keyArn],
            // By way of SQS alone.
            conditions: { StringEquals: { 'kms:ViaService': `sqs.${messaging.region}.amazonaws.com` } },
          }),
        ]
      : []),
  ];
}
