import type { SQSClient } from '@aws-sdk/client-sqs';
import { backoffMs, randomBetween } from '@orders/shared/backoff.ts';
import type { Logger } from '@orders/shared/logger.ts';
import type { ConsumerConfig } from '../config.ts';
import type { Outcome } from '../domain/outcome.ts';
import type { ProcessedMessage } from '../domain/process-messages.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import type { Acknowledger } from './acknowledger.ts';
import { toDeadLetterMessage } from './dead-letter.ts';
import type { FailureCounter } from './failure-counter.ts';
import type { Lease } from './lease.ts';
import { MessageSender } from './message-sender.ts';
import type { ReceivedMessage } from './received-message.ts';

/** A message, or one of those in a packed message, and what became of it. */
export type Part = ProcessedMessage & { body: string };

export type SettlerOptions = {
  client: SQSClient;
  queueUrl: string;
  deadLetterQueueUrl: string;
  acknowledger: Acknowledger;
  failures: FailureCounter;
  config: Pick<
    ConsumerConfig,
    | 'MAX_FAILURES'
    | 'RETRY_BACKOFF_MIN_SECONDS'
    | 'RETRY_BACKOFF_MAX_SECONDS'
    | 'OUTAGE_RELEASE_MIN_SECONDS'
    | 'OUTAGE_RELEASE_MAX_SECONDS'
    | 'NEWER_VERSION_REJECT_SECONDS'
  >;
  version: string;
  metrics: Pick<ConsumerMetrics, 'outcomes' | 'deadLettered' | 'settleErrors'>;
  logger: Logger;
};

const NEWER_VERSION_DELAY_SECONDS = { min: 60, max: 600 };

/**
 * Turns outcomes into calls to SQS. The order is always: first what must not get lost (the commit, the copy in the
 * DLQ), then the delete; a crash between gives a second copy, never a loss.
 */
export class Settler {
  readonly #options: SettlerOptions;
  readonly #orders: MessageSender;
  readonly #deadLetters: MessageSender;

  constructor(options: SettlerOptions) {
    const { client, queueUrl, deadLetterQueueUrl } = options;
    this.#options = options;
    this.#orders = new MessageSender(client, queueUrl);
    this.#deadLetters = new MessageSender(client, deadLetterQueueUrl);
  }

  /** Never rejects: a call that fails leaves the message to its visibility time, and it comes again. */
  async settle(lease: Lease, parts: readonly Part[]): Promise<void> {
    const [only] = parts;
    const first = parts.length === 1 ? only : parts.find(({ outcome }) => isReleasedTogether(outcome));
    if (!first) return this.#settlePacked(lease, parts);
    const outcome = this.#judge(lease.message, first.outcome);
    const log = () => this.#logger(lease.message, first);
    this.#count(outcome);
    await this.#confirm(outcome, log, () => this.#carryOut(outcome, lease, first.traceId, log));
  }

  /** Orders that are not stored go back to the queue, each by itself, and meet their fate there. */
  async #settlePacked(lease: Lease, parts: readonly Part[]): Promise<void> {
    const { acknowledger } = this.#options;
    const stored = parts.filter(({ outcome }) => isStored(outcome));
    const others = parts.filter(({ outcome }) => !isStored(outcome));
    if (others.length > 0 && lease.lost) return;
    const log = () => this.#logger(lease.message, {});
    for (const { outcome } of stored) this.#count(outcome);
    await this.#confirm({ kind: 'processed' }, log, async () => {
      await Promise.all(
        others.map(({ body }) => this.#orders.send({ MessageBody: body, MessageAttributes: {} })),
      );
      if (others.length > 0)
        log().warn({ orders: others.length }, 'orders of a packed message sent by themselves');
      await acknowledger.delete(lease.message.receiptHandle);
    });
  }

  async #confirm(outcome: Outcome, log: () => Logger, calls: () => Promise<void>): Promise<void> {
    try {
      await calls();
    } catch (err) {
      this.#options.metrics.settleErrors.inc({ outcome: outcome.kind });
      log().warn({ err, outcome: outcome.kind }, 'outcome not confirmed by SQS, the message will come again');
    }
  }

  #count(outcome: Outcome): void {
    const cause = 'cause' in outcome ? outcome.cause : '';
    this.#options.metrics.outcomes.inc({ outcome: outcome.kind, cause });
  }

  /** Counts failures, and gives up on what failed or waited too often. */
  #judge(message: ReceivedMessage, outcome: Outcome): Outcome {
    const { failures, config } = this.#options;
    if (outcome.kind === 'retry') {
      const { error } = outcome;
      return failures.add(message.messageId) < config.MAX_FAILURES
        ? outcome
        : { kind: 'rejected', reason: 'MAX_FAILURES', error };
    }
    if (outcome.kind === 'released' && outcome.cause === 'newer-version') {
      const waitedMs = Date.now() - (message.firstReceivedAt?.getTime() ?? Date.now());
      if (waitedMs >= config.NEWER_VERSION_REJECT_SECONDS * 1_000) {
        return {
          kind: 'rejected',
          reason: 'NEWER_VERSION',
          error: new Error('no newer consumer has taken the message'),
        };
      }
    }
    return outcome;
  }

  async #carryOut(outcome: Outcome, lease: Lease, traceId: string, log: () => Logger): Promise<void> {
    const { acknowledger, failures, logger } = this.#options;
    const { messageId, receiptHandle } = lease.message;
    switch (outcome.kind) {
      case 'processed':
      case 'duplicate':
        failures.forget(messageId);
        // Committed is committed, also when the lease is lost: the delete is worth a try.
        await acknowledger.delete(receiptHandle);
        if (logger.isLevelEnabled('debug')) log().debug({ outcome: outcome.kind }, 'order settled');
        return;
      case 'retry': {
        const delaySeconds = this.#retryDelaySeconds(failures.get(messageId));
        log().warn(
          { err: outcome.error, failures: failures.get(messageId), delaySeconds },
          'message failed, will be tried again',
        );
        if (!lease.lost) await acknowledger.changeVisibility(receiptHandle, delaySeconds);
        return;
      }
      case 'rejected':
        // Whoever got the message after this lease was lost rejects it too: one copy in the DLQ is enough.
        if (lease.lost) return;
        await this.#sendToDeadLetterQueue(lease.message, outcome, traceId);
        log().error({ err: outcome.error, reason: outcome.reason }, 'message sent to the dead-letter queue');
        failures.forget(messageId);
        await acknowledger.delete(receiptHandle);
        return;
      case 'released': {
        const delaySeconds = this.#releaseDelaySeconds(outcome.cause, lease.message);
        log()[outcome.cause === 'newer-version' ? 'error' : 'info'](
          { cause: outcome.cause, delaySeconds },
          'message released',
        );
        if (!lease.lost) await acknowledger.changeVisibility(receiptHandle, delaySeconds);
        return;
      }
      default:
        return outcome satisfies never;
    }
  }

  /** Made only for a line that is written: it costs more than the rest of a settled order together. */
  #logger(
    { messageId, receiveCount }: ReceivedMessage,
    { orderId, traceId }: Partial<ProcessedMessage>,
  ): Logger {
    return this.#options.logger.child({ orderId, traceId, messageId, receiveCount });
  }

  async #sendToDeadLetterQueue(
    message: ReceivedMessage,
    outcome: Outcome & { kind: 'rejected' },
    traceId: string,
  ): Promise<void> {
    const { failures, version, metrics } = this.#options;
    const now = new Date();
    await this.#deadLetters.send(
      toDeadLetterMessage(message, {
        reason: outcome.reason,
        detail: outcome.error.message,
        errorClass: outcome.error.name,
        attempts: message.receiveCount,
        failures: failures.get(message.messageId),
        firstSeenAt: (message.firstReceivedAt ?? now).toISOString(),
        deadLetteredAt: now.toISOString(),
        codeVersion: version,
        traceId,
        messageId: message.messageId,
      }),
    );
    metrics.deadLettered.inc({ reason: outcome.reason });
  }

  #retryDelaySeconds(failures: number): number {
    const { RETRY_BACKOFF_MIN_SECONDS: min, RETRY_BACKOFF_MAX_SECONDS: max } = this.#options.config;
    return Math.ceil(backoffMs(failures - 1, { baseMs: min * 1_000, maxMs: max * 1_000 }) / 1_000);
  }

  #releaseDelaySeconds(
    cause: (Outcome & { kind: 'released' })['cause'],
    { receiveCount }: ReceivedMessage,
  ): number {
    const { config } = this.#options;
    switch (cause) {
      case 'stopping':
        return 0;
      case 'store-unavailable':
        // Never 0: the other consumers, which have the same outage, would burn the message's receives.
        return Math.ceil(randomBetween(config.OUTAGE_RELEASE_MIN_SECONDS, config.OUTAGE_RELEASE_MAX_SECONDS));
      case 'newer-version': {
        const { min, max } = NEWER_VERSION_DELAY_SECONDS;
        return Math.min(max, min * 2 ** Math.min(receiveCount - 1, 10));
      }
      default:
        return cause satisfies never;
    }
  }
}

const isStored = ({ kind }: Outcome) => kind === 'processed' || kind === 'duplicate';

/** What keeps one order of a packed message from being stored keeps the others too. */
const isReleasedTogether = (outcome: Outcome) =>
  outcome.kind === 'released' && outcome.cause !== 'newer-version';
