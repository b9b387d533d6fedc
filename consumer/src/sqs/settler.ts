import type { Logger } from '@orders/shared/logger.ts';
import type { Outcome, Unstored } from '../domain/outcome.ts';
import type { ProcessedMessage } from '../domain/process-messages.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import type { Acknowledger } from './acknowledger.ts';
import type { DeadLetterSender } from './dead-letter-sender.ts';
import type { FailureCounter } from './failure-counter.ts';
import type { Lease } from './lease.ts';
import type { PackedSettler } from './packed-settler.ts';
import type { ReceivedMessage } from './received-message.ts';
import type { RetryPolicy } from './retry-policy.ts';
import { countOutcome, countStored, isStored, loggerOf, type Part, type Settlement } from './settlement.ts';

export type SettlerOptions = {
  acknowledger: Acknowledger;
  deadLetters: DeadLetterSender;
  packed: PackedSettler;
  failures: FailureCounter;
  retryPolicy: RetryPolicy;
  metrics: Pick<ConsumerMetrics, 'outcomes' | 'settleErrors'>;
  logger: Logger;
};

/**
 * Turns outcomes into calls to SQS. The order is always: first what must not get lost (the commit, the copy in the
 * DLQ), then the delete; a crash between gives a second copy, never a loss.
 */
export class Settler {
  readonly #options: SettlerOptions;

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  /** Never rejects: a call that fails leaves the message to its visibility time, and it comes again. */
  async settle(settlements: readonly Settlement[]): Promise<void> {
    const stored: Settlement[] = [];
    const settling: Promise<void>[] = [];
    for (const settlement of settlements) {
      if (isStored(settlement)) stored.push(settlement);
      else settling.push(this.#settleUnstored(settlement));
    }
    await Promise.all([this.#deleteStored(stored), ...settling]);
  }

  /** Committed is committed, also when the lease is lost: the delete is worth a try. */
  async #deleteStored(settlements: readonly Settlement[]): Promise<void> {
    const { acknowledger, failures, metrics, logger } = this.#options;
    if (settlements.length === 0) return;
    const messages = settlements.map(({ lease }) => lease.message);
    for (const { messageId } of messages) failures.forget(messageId);
    countStored(
      metrics,
      settlements.flatMap(({ parts }) => parts),
    );
    const errors = await acknowledger.deleteAll(messages.map(({ receiptHandle }) => receiptHandle));
    const debugging = logger.isLevelEnabled('debug');
    for (const [index, { lease, parts }] of settlements.entries()) {
      const { outcome, ...order } = (parts[0] as Part).processed;
      const known = parts.length === 1 ? order : {};
      const err = errors[index];
      if (err) this.#unconfirmed(outcome, err, lease.message, known);
      else if (debugging)
        loggerOf(logger, lease.message, known).debug({ outcome: outcome.kind }, 'order settled');
    }
  }

  async #settleUnstored({ lease, parts }: Settlement): Promise<void> {
    const { packed, retryPolicy, metrics } = this.#options;
    const { message } = lease;
    const whole = parts.length === 1 ? parts[0] : parts.find(isReleasedTogether);
    if (!whole) {
      if (lease.lost) return;
      await packed
        .settle(message, parts)
        .catch((err) => this.#unconfirmed({ kind: 'processed' }, err, message, {}));
      return;
    }
    const { processed } = whole;
    const outcome = retryPolicy.judge(message, processed.outcome as Unstored);
    countOutcome(metrics, outcome);
    await this.#carryOut(outcome, lease, processed).catch((err) =>
      this.#unconfirmed(outcome, err, message, processed),
    );
  }

  async #carryOut(outcome: Unstored, lease: Lease, processed: ProcessedMessage): Promise<void> {
    const { acknowledger, deadLetters, failures, retryPolicy, logger } = this.#options;
    const { message } = lease;
    const { messageId, receiptHandle } = message;
    if (outcome.kind === 'rejected') {
      // Whoever got the message after this lease was lost rejects it too: one copy in the DLQ is enough.
      if (lease.lost) return;
      await deadLetters.send(message, outcome, processed);
      failures.forget(messageId);
      await acknowledger.delete(receiptHandle);
      return;
    }
    const delaySeconds = retryPolicy.delaySeconds(message, outcome);
    const log = loggerOf(logger, message, processed);
    if (outcome.kind === 'retry')
      log.warn(
        { err: outcome.error, failures: failures.get(messageId), delaySeconds },
        'message failed, will be tried again',
      );
    else
      log[outcome.cause === 'newer-version' ? 'error' : 'info'](
        { cause: outcome.cause, delaySeconds },
        'message released',
      );
    if (!lease.lost) await acknowledger.changeVisibility(receiptHandle, delaySeconds);
  }

  #unconfirmed(
    outcome: Outcome,
    err: unknown,
    message: ReceivedMessage,
    known: Partial<ProcessedMessage>,
  ): void {
    this.#options.metrics.settleErrors.inc({ outcome: outcome.kind });
    loggerOf(this.#options.logger, message, known).warn(
      { err, outcome: outcome.kind },
      'outcome not confirmed by SQS, the message will come again',
    );
  }
}

/** What keeps one order of a packed message from being stored keeps the others too. */
const isReleasedTogether = ({ processed: { outcome } }: Part) =>
  outcome.kind === 'released' && outcome.cause !== 'newer-version';
