import type { AppEnv } from '../runtime/config.ts';
import { KEY_ALIAS, type QueueAttributes } from './queues.ts';

/** Names the environment that a queue belongs to, because queues have the same names everywhere. */
export const ENVIRONMENT_TAG = 'order-pipeline/environment';

/** Says that CloudFormation owns a queue (infra/stacks/messaging.ts): what it made, only it changes. */
export const OWNER_TAG = 'order-pipeline/owner';
export const OWNER = 'infra';

export type QueueTags = Readonly<Record<string, string>>;

/** Why a queue does not belong to that account, as a sentence about it; undefined if it does, or any account will do. */
export function foreignAccount(queueUrl: string, expected: string | undefined): string | undefined {
  const found = new URL(queueUrl).pathname.split('/').at(-2);
  return expected === undefined || found === expected
    ? undefined
    : `belongs to account ${found || 'unknown'}, not to ${expected} (EXPECTED_AWS_ACCOUNT; or the credentials are another account's)`;
}

/** Why its tag speaks against a queue, as a sentence about it; undefined if it has none. */
export function foreignTag(appEnv: AppEnv, tags: QueueTags): string | undefined {
  const tagged = tags[ENVIRONMENT_TAG];
  return tagged === undefined || tagged === appEnv
    ? undefined
    : `is tagged as that of ${tagged}, not of ${appEnv}`;
}

/**
 * Why a queue does not belong to that environment, as a sentence about it; undefined if nothing speaks against it. The tag
 * decides. Without a tag the encryption decides: only production's queues use {@link KEY_ALIAS}.
 */
export function foreignTo(appEnv: AppEnv, attributes: QueueAttributes, tags: QueueTags): string | undefined {
  if (tags[ENVIRONMENT_TAG] !== undefined) return foreignTag(appEnv, tags);
  const key = attributes.KmsMasterKeyId || undefined;
  if (key === KEY_ALIAS && appEnv !== 'production')
    return `is encrypted with ${KEY_ALIAS}, as that of production is, not that of ${appEnv}`;
  if (key === undefined && appEnv === 'production')
    return 'has no key and no tag: that of production has both';
  return undefined;
}
