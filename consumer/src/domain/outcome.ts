/** What becomes of a message. A value, so that one switch can turn it into calls to SQS. */
export type Outcome =
  /** Its order is committed. */
  | { kind: 'processed' }
  /** The same order was stored before. */
  | { kind: 'duplicate' }
  /** A passing fault of this message: to be tried again, and counted. */
  | { kind: 'retry'; error: Error }
  /** It can never succeed. `reason` is what operators see in the DLQ. */
  | { kind: 'rejected'; reason: string; error: Error }
  /** Not its fault, nothing is counted: this consumer cannot work on it now. */
  | { kind: 'released'; cause: ReleaseCause };

export type ReleaseCause = 'stopping' | 'store-unavailable' | 'order-locked' | 'newer-version';

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
