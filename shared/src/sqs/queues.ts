import type { QueueAttributeName } from '@aws-sdk/client-sqs';
import type { AppEnv } from '../runtime/config.ts';

// The one definition of the queues, per environment. `npm start`, the tests and `scripts/manage-queues.sh` create what is
// written here, a test holds LocalStack's start-up file to it, and the consumer audits at start what it finds.

export type QueueAttributes = Partial<Record<QueueAttributeName, string>>;

/** Where SQS moves messages by itself, and after how many receives. */
export type RedrivePolicy = { deadLetterTargetArn: string; maxReceiveCount: number };

/** Nothing of a queue that moves none. Emulators tell the count as text. */
export function redrivePolicyOf({ RedrivePolicy }: QueueAttributes): Partial<RedrivePolicy> {
  const { deadLetterTargetArn, maxReceiveCount } = JSON.parse(RedrivePolicy || '{}');
  return deadLetterTargetArn === undefined
    ? {}
    : { deadLetterTargetArn, maxReceiveCount: Number(maxReceiveCount) };
}

export type QueueDefinition = { name: string; attributes: QueueAttributes };

const DAY_SECONDS = 24 * 60 * 60;

/** The request limit that every engine has: AWS allows 1 MiB since 2025, the emulators 256 KiB. */
export const MAX_REQUEST_BYTES = 256 * 1024;
/** Room for the reason that is attached to a message on its way to the DLQ. */
export const DEAD_LETTER_HEADROOM_BYTES = 8 * 1024;
export const MAX_MESSAGE_BYTES = MAX_REQUEST_BYTES - DEAD_LETTER_HEADROOM_BYTES;

export const VISIBILITY_TIMEOUT_SECONDS = 60;
export const WAIT_TIME_SECONDS = 20;
/** SQS counts receives, not failures: only the net for messages that kill their consumer. */
export const MAX_RECEIVE_COUNT = 20;

/** The key of production's queues alone. */
export const KEY_ALIAS = 'alias/order-queues';

const ENCRYPTION: Record<AppEnv, QueueAttributes> = {
  dev: { SqsManagedSseEnabled: 'true' },
  staging: { SqsManagedSseEnabled: 'true' },
  production: { KmsMasterKeyId: KEY_ALIAS, KmsDataKeyReusePeriodSeconds: '300' },
};

const RETENTION_SECONDS = { queue: 4 * DAY_SECONDS, deadLetter: 14 * DAY_SECONDS };

/** Keeps messages longer than the order queue does, and takes larger ones: with their reason. */
export function deadLetterQueueDefinition(appEnv: AppEnv, name: string): QueueDefinition {
  return {
    name,
    attributes: {
      ...ENCRYPTION[appEnv],
      // A standard DLQ keeps the original enqueue time, so it must keep messages longer than the source queue does.
      MessageRetentionPeriod: String(RETENTION_SECONDS.deadLetter),
      DelaySeconds: '0',
      MaximumMessageSize: String(MAX_REQUEST_BYTES),
      VisibilityTimeout: String(VISIBILITY_TIMEOUT_SECONDS),
      ReceiveMessageWaitTimeSeconds: '0',
    },
  };
}

/** What is received {@link MAX_RECEIVE_COUNT} times goes to the DLQ. */
export function orderQueueDefinition(
  appEnv: AppEnv,
  name: string,
  deadLetterQueueArn: string,
): QueueDefinition {
  return {
    name,
    attributes: {
      ...ENCRYPTION[appEnv],
      MessageRetentionPeriod: String(RETENTION_SECONDS.queue),
      DelaySeconds: '0',
      MaximumMessageSize: String(MAX_MESSAGE_BYTES),
      VisibilityTimeout: String(VISIBILITY_TIMEOUT_SECONDS),
      ReceiveMessageWaitTimeSeconds: String(WAIT_TIME_SECONDS),
      RedrivePolicy: JSON.stringify({
        deadLetterTargetArn: deadLetterQueueArn,
        maxReceiveCount: MAX_RECEIVE_COUNT,
      }),
    },
  };
}
