import type { UnreadableReason } from '@orders/shared/order/message.ts';

/** Why a message can never succeed: stable codes that operators see in the DLQ, and what each means. */
export const REJECTION_REASONS = {
  NOT_JSON: 'the body is not JSON',
  NOT_AN_ENVELOPE: 'no CloudEvents 1.0 event with a type',
  UNKNOWN_VERSION: 'of a type that was never written',
  UNREADABLE_CONTENT: 'the content cannot be unpacked or parsed',
  ATTRIBUTE_MISMATCH: 'a message attribute contradicts the envelope',
  INVALID_ORDER: 'the order breaks a rule of its schema',
  CONTENT_HASH_MISMATCH: 'the order is not the one that was hashed',
  CONFLICT: 'an order of the same id with other content, or of another client, is stored',
  ORDER_NOT_STORABLE: 'the store refuses the order for what it contains',
  MAX_FAILURES: 'failed MAX_FAILURES times',
  MAX_RECEIVES: 'failed at the last receive before SQS moves it without a reason',
  ORDER_LOCKED: 'another transaction held its row at that receive',
  NEWER_VERSION: 'no newer consumer, or none with the key of an encrypted message, took it',
  UNDECRYPTABLE: 'encrypted content that fails its authentication, or of a key that was declared lost',
  UNENCRYPTED: 'not encrypted, where MESSAGE_ENCRYPTION_REQUIRED is on',
} as const satisfies Record<UnreadableReason, string> & Record<string, string>;

export type RejectionReason = keyof typeof REJECTION_REASONS;

/** What becomes of a message. A value, so that one switch can turn it into calls to SQS. */
export type Outcome =
  /** Its order is committed. */
  | { kind: 'processed' }
  /** The same order was stored before. */
  | { kind: 'duplicate' }
  /** A passing fault of this message: to be tried again, and counted. */
  | { kind: 'retry'; error: Error }
  /** It can never succeed. `reason` is what operators see in the DLQ. */
  | { kind: 'rejected'; reason: RejectionReason; error: Error }
  /** Not its fault, nothing is counted: this consumer cannot work on it now. */
  | { kind: 'released'; cause: ReleaseCause };

export type ReleaseCause =
  | 'stopping'
  | 'store-unavailable'
  | 'order-locked'
  | 'newer-version'
  /** Encrypted with a key that this consumer does not have, or not yet. */
  | 'no-key'
  /** KMS cannot work now. */
  | 'key-unavailable';

type Stored = Outcome & { kind: 'processed' | 'duplicate' };

/** What became of a message whose order is not in the store. */
export type Unstored = Exclude<Outcome, Stored>;

export type Rejected = Outcome & { kind: 'rejected' };

// Those that most orders have: one object for all.
export const PROCESSED: Outcome = { kind: 'processed' };
export const DUPLICATE: Outcome = { kind: 'duplicate' };
export const STORE_UNAVAILABLE: Outcome = { kind: 'released', cause: 'store-unavailable' };
export const STOPPING: Outcome = { kind: 'released', cause: 'stopping' };

export const isStored = (outcome: Outcome): outcome is Stored =>
  outcome.kind === 'processed' || outcome.kind === 'duplicate';

export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error('not an error was thrown', { cause: thrown });
}
