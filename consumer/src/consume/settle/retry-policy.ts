import { backoffMs, randomBetween } from '@orders/shared/runtime/backoff.ts';
import type { Rejected, RejectionReason, Unstored } from '../../domain/outcome.ts';
import { MAX_VISIBILITY_SECONDS } from '../../queue/acknowledger.ts';
import type { ReceivedMessage } from '../../queue/received-message.ts';
import type { FailureCounter } from './failure-counter.ts';

export type RetryPolicyOptions = {
  /** After so many receives SQS moves a message to the DLQ by itself, without a reason. */
  maxReceiveCount: number;
  failures: FailureCounter;
  /** After so many of its own failures a message is rejected. */
  maxFailures: number;
  /** Before a message that failed is received again; grows with each failure. */
  retryDelaySeconds: { min: number; max: number };
  /** Of a message that is released in an outage of the store or of KMS; up to 32 times as long after further receives. */
  outageDelaySeconds: { min: number; max: number };
  /** A message of a newer version, or of a key that this consumer does not have, waits so long for a newer consumer. */
  newerVersionSeconds: number;
};

const NEWER_VERSION_DELAY_SECONDS = { min: 60, max: 600 };
/** 20 receives then last for more than six hours. */
const MAX_RELEASE_FACTOR = 32;

/** How often a message is tried, and how long it waits in between. */
export class RetryPolicy {
  readonly #options: RetryPolicyOptions;

  constructor(options: RetryPolicyOptions) {
    this.#options = options;
  }

  /** Counts failures, and rejects what failed or waited too often: before SQS does, which gives no reason. */
  decide(message: ReceivedMessage, outcome: Unstored): Unstored {
    const { failures, maxFailures, maxReceiveCount, newerVersionSeconds } = this.#options;
    const isLastReceive = message.receiveCount >= maxReceiveCount;
    if (outcome.kind === 'retry') {
      const { error } = outcome;
      if (failures.add(message.messageId) >= maxFailures) return rejected('MAX_FAILURES', error);
      // Other consumers may have counted the other failures.
      return isLastReceive ? rejected('MAX_RECEIVES', error) : outcome;
    }
    if (outcome.kind === 'rejected') return outcome;
    switch (outcome.cause) {
      case 'stopping':
      case 'store-unavailable':
      case 'key-unavailable':
        return outcome;
      case 'order-locked':
        if (!isLastReceive) return outcome;
        return rejected('ORDER_LOCKED', new Error('another transaction has held the order at each receive'));
      case 'newer-version':
      case 'no-key':
        if (!isLastReceive && waitedSeconds(message) < newerVersionSeconds) return outcome;
        return rejected(
          'NEWER_VERSION',
          new Error(
            outcome.cause === 'no-key'
              ? 'no consumer with its key has taken the message'
              : 'no newer consumer has taken the message',
          ),
        );
      default:
        return outcome.cause satisfies never;
    }
  }

  /** For how many seconds the message is not received again. */
  delaySeconds({ messageId, receiveCount }: ReceivedMessage, outcome: Exclude<Unstored, Rejected>): number {
    const { failures, retryDelaySeconds, outageDelaySeconds } = this.#options;
    if (outcome.kind === 'retry') {
      const { min, max } = retryDelaySeconds;
      const failed = failures.get(messageId) - 1;
      return Math.ceil(backoffMs(failed, { baseMs: min * 1_000, maxMs: max * 1_000 }) / 1_000);
    }
    switch (outcome.cause) {
      case 'stopping':
        return 0;
      case 'store-unavailable':
      case 'key-unavailable':
      case 'order-locked': {
        // Never 0, and longer each time: the other consumers, which have the same outage, would burn its receives.
        const { min, max } = outageDelaySeconds;
        const factor = Math.min(2 ** (receiveCount - 1), MAX_RELEASE_FACTOR);
        return Math.min(Math.ceil(randomBetween(min, max) * factor), MAX_VISIBILITY_SECONDS);
      }
      case 'newer-version':
      case 'no-key':
        return newerVersionDelaySeconds(receiveCount);
      default:
        return outcome.cause satisfies never;
    }
  }
}

const rejected = (reason: RejectionReason, error: Error): Rejected => ({ kind: 'rejected', reason, error });

const newerVersionDelaySeconds = (receiveCount: number): number => {
  const { min, max } = NEWER_VERSION_DELAY_SECONDS;
  return Math.min(max, min * 2 ** Math.min(receiveCount - 1, 10));
};

/**
 * How long a message of a newer version has waited: the lesser of two accounts, either of which may say too much. One is
 * our clock since the first receive by SQS's clock, between which there may be hours. The other is the delays of its
 * earlier receives, which a stop or a crash may have cut short. Both survive a restart and another consumer's turn.
 */
function waitedSeconds({ receiveCount, firstReceivedAt }: ReceivedMessage): number {
  const byClock = (Date.now() - (firstReceivedAt?.getTime() ?? 0)) / 1_000;
  let byReceives = 0;
  for (let receive = 1; receive < receiveCount && byReceives < byClock; receive++)
    byReceives += newerVersionDelaySeconds(receive);
  return Math.max(0, Math.min(byClock, byReceives));
}
