import type { Logger } from '@orders/shared/runtime/logger.ts';
import { NotWantedError } from '@orders/shared/sqs/message-sender.ts';
import { isStored, type Outcome, PROCESSED, type ReleaseCause, type Unstored } from '../../domain/outcome.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import type { Acknowledger } from '../../queue/acknowledger.ts';
import type { ReceivedMessage } from '../../queue/received-message.ts';
import type { Lease, LeaseKeeper } from '../lease.ts';
import type { MessageInWork, ReceivedOrder } from '../read-messages.ts';
import type { DeadLetterSender } from './dead-letter-sender.ts';
import type { FailureCounter } from './failure-counter.ts';
import type { PackedSettler } from './packed-settler.ts';
import { countLate, countOutcome, countStored, loggerOf } from './report-outcome.ts';
import type { RetryPolicy } from './retry-policy.ts';

export type SettlerOptions = {
  leases: LeaseKeeper;
  acknowledger: Acknowledger;
  deadLetters: DeadLetterSender;
  packed: PackedSettler;
  failures: FailureCounter;
  retryPolicy: RetryPolicy;
  metrics: Pick<ConsumerMetrics, 'outcomes' | 'settleErrors' | 'ordersStoredLate'>;
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

  /**
   * Deletes messages of which everything is stored, also where the lease is lost: committed is committed, and the delete
   * is worth a try. Never rejects: a delete that fails leaves the message to its visibility time, and it comes again.
   * @param stored whose leases are closed
   */
  async deleteStored(stored: readonly MessageInWork[]): Promise<void> {
    const { acknowledger, failures, metrics, logger } = this.#options;
    for (const { lease } of stored) failures.forget(lease.message.messageId);
    countStored(
      metrics,
      stored.flatMap(({ orders }) => orders),
    );
    countLate(metrics, stored);
    const errors = await acknowledger.deleteAll(stored.map(({ lease }) => lease.message.receiptHandle));
    const debugging = logger.isLevelEnabled('debug');
    if (errors.size === 0 && !debugging) return;
    for (const { lease, orders } of stored) {
      const order = orders.length === 1 ? orders[0] : undefined;
      const { outcome = PROCESSED } = order ?? {};
      const err = errors.get(lease.message.receiptHandle);
      if (err) this.#unconfirmed(outcome, err, lease.message, order);
      else if (debugging)
        loggerOf(logger, lease.message, order).debug({ outcome: outcome.kind }, 'order settled');
    }
  }

  /**
   * Settles a message of which not everything is stored. The lease is kept until all is sent that has to be, and closed
   * before the message is deleted or released. Never rejects, as above.
   */
  async settle({ lease, orders }: MessageInWork): Promise<void> {
    const { leases, retryPolicy, metrics, logger } = this.#options;
    const { message } = lease;
    const whole = orders.length === 1 ? orders[0] : orders.find(isReleasedTogether);
    const outcome =
      whole && !isStored(whole.outcome) ? retryPolicy.decide(message, whole.outcome) : undefined;
    if (outcome) countOutcome(metrics, outcome);
    try {
      await (whole && outcome ? this.#carryOut(outcome, lease, whole) : this.#takeApart(lease, orders));
    } catch (err) {
      if (err instanceof NotWantedError)
        loggerOf(logger, message).warn('message not settled, its lease ended before');
      else this.#unconfirmed(outcome ?? PROCESSED, err, message, whole);
    } finally {
      await leases.close([lease]);
    }
  }

  async #takeApart(lease: Lease, orders: readonly ReceivedOrder[]): Promise<void> {
    await this.#options.packed.sendUnstored(lease, orders);
    await this.#delete(lease);
  }

  async #carryOut(outcome: Unstored, lease: Lease, order: ReceivedOrder): Promise<void> {
    const { leases, acknowledger, deadLetters, failures, retryPolicy, logger } = this.#options;
    const { message } = lease;
    const { messageId, receiptHandle } = message;
    if (outcome.kind === 'rejected') {
      await deadLetters.send({ lease, message }, outcome, order);
      failures.forget(messageId);
      await this.#delete(lease);
      return;
    }
    const delaySeconds = retryPolicy.delaySeconds(message, outcome);
    const log = loggerOf(logger, message, order);
    if (outcome.kind === 'retry')
      log.warn(
        { err: outcome.error, failures: failures.get(messageId), delaySeconds },
        'message failed, will be tried again',
      );
    else
      log[NEEDS_SOMEBODY.has(outcome.cause) ? 'error' : 'info'](
        { cause: outcome.cause, delaySeconds },
        'message released',
      );
    await leases.close([lease]);
    if (!lease.lost) await acknowledger.changeVisibility(receiptHandle, delaySeconds);
  }

  /** All is sent: as with what is stored, a try also where the lease is lost. */
  async #delete(lease: Lease): Promise<void> {
    const { leases, acknowledger } = this.#options;
    await leases.close([lease]);
    await acknowledger.delete(lease.message.receiptHandle);
  }

  #unconfirmed(
    outcome: Outcome,
    err: unknown,
    message: ReceivedMessage,
    known: ReceivedOrder | undefined,
  ): void {
    this.#options.metrics.settleErrors.inc({ outcome: outcome.kind });
    loggerOf(this.#options.logger, message, known).warn(
      { err, outcome: outcome.kind },
      'outcome not confirmed by SQS, the message will come again',
    );
  }
}

/** All that was in the message is in the store. */
export const isStoredMessage = ({ orders }: MessageInWork): boolean =>
  orders.every(({ outcome }) => isStored(outcome));

/** Another release, or a key. */
const NEEDS_SOMEBODY: ReadonlySet<ReleaseCause> = new Set(['newer-version', 'no-key']);

/** Whether what keeps one order of a packed message from being stored keeps the others too. */
const IS_OF_ALL: Record<ReleaseCause, boolean> = {
  stopping: true,
  'store-unavailable': true,
  'order-locked': false,
  'newer-version': false,
  'no-key': false,
  'key-unavailable': true,
};
const isReleasedTogether = ({ outcome }: ReceivedOrder) =>
  outcome.kind === 'released' && IS_OF_ALL[outcome.cause];
