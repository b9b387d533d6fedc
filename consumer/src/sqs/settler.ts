import type { SQSClient, SQSServiceException } from '@aws-sdk/client-sqs';
import { backoffMs, randomBetween } from '@orders/shared/backoff.ts';
import type { Logger } from '@orders/shared/logger.ts';
import { BatchEntryError } from '@orders/shared/sqs-batch.ts';
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
export type Part = { body: string; processed: ProcessedMessage };

/** A received message, and what became of all that was in it. */
export type Settlement = { lease: Lease; parts: readonly Part[] };

type Unstored = Exclude<Outcome, { kind: 'processed' | 'duplicate' }>;

export type SettlerOptions = {
  client: SQSClient;
  queueUrl: string;
  deadLetterQueueUrl: string;
  /** After so many receives SQS moves a message to the DLQ by itself, without a reason. */
  maxReceiveCount: number;
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
  /** Of parts of packed messages, which SQS may refuse in many ways, each by a request of its own. */
  readonly #deadParts: MessageSender;

  constructor(options: SettlerOptions) {
    const { client, queueUrl, deadLetterQueueUrl } = options;
    this.#options = options;
    this.#orders = new MessageSender(client, queueUrl, 1);
    this.#deadLetters = new MessageSender(client, deadLetterQueueUrl);
    this.#deadParts = new MessageSender(client, deadLetterQueueUrl, 1);
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
    const { acknowledger, failures, logger } = this.#options;
    if (settlements.length === 0) return;
    const messages = settlements.map(({ lease }) => lease.message);
    for (const { messageId } of messages) failures.forget(messageId);
    this.#countStored(settlements.flatMap(({ parts }) => parts));
    const errors = await acknowledger.deleteAll(messages.map(({ receiptHandle }) => receiptHandle));
    const debugging = logger.isLevelEnabled('debug');
    for (const [index, { lease, parts }] of settlements.entries()) {
      const { outcome, ...order } = (parts[0] as Part).processed;
      const log = () => this.#logger(lease.message, parts.length === 1 ? order : {});
      const err = errors[index];
      if (err) this.#unconfirmed(outcome, err, log);
      else if (debugging) log().debug({ outcome: outcome.kind }, 'order settled');
    }
  }

  async #settleUnstored({ lease, parts }: Settlement): Promise<void> {
    const whole = parts.length === 1 ? parts[0] : parts.find(isReleasedTogether);
    if (!whole) return this.#settlePacked(lease, parts);
    const { processed } = whole;
    const log = () => this.#logger(lease.message, processed);
    const outcome = this.#judge(lease.message, processed.outcome as Unstored);
    this.#count(outcome);
    await this.#confirm(outcome, log, () => this.#carryOut(outcome, lease, processed.traceId, log));
  }

  /**
   * What can never be stored goes to the DLQ, each order by itself, as if it had come so. What may be stored later goes
   * back to the queue, each by itself, and meets its fate there. A line that SQS takes in no message (a control
   * character, too long) goes to the DLQ in the message that it came in.
   */
  async #settlePacked(lease: Lease, parts: readonly Part[]): Promise<void> {
    const { message } = lease;
    if (lease.lost) return;
    const log = () => this.#logger(message, {});
    this.#countStored(parts.filter(isStoredPart));
    const others = parts.filter((part) => !isStoredPart(part));
    await this.#confirm({ kind: 'processed' }, log, async () => {
      const sent = await Promise.all(others.map((part) => this.#sendAlone(message, part)));
      const unsendable = others.filter((_, index) => !sent[index]);
      if (unsendable[0]) await this.#rejectWhole(message, unsendable[0], unsendable.length);
      log().warn({ orders: others.length }, 'orders of a packed message sent by themselves');
      await this.#options.acknowledger.delete(message.receiptHandle);
    });
  }

  /** False when SQS takes no such message. */
  async #sendAlone(message: ReceivedMessage, { body, processed }: Part): Promise<boolean> {
    try {
      if (processed.outcome.kind === 'rejected')
        await this.#reject(
          { ...message, body, attributes: {}, rawAttributes: {} },
          processed,
          this.#deadParts,
        );
      else await this.#orders.send({ MessageBody: body, MessageAttributes: {} });
      return true;
    } catch (error) {
      if (isFaultOfMessage(error)) return false;
      throw error;
    }
  }

  async #rejectWhole(message: ReceivedMessage, { processed }: Part, lines: number): Promise<void> {
    const why = 'error' in processed.outcome ? `, the first one: ${processed.outcome.error.message}` : '';
    const reason = processed.outcome.kind === 'rejected' ? processed.outcome.reason : 'UNREADABLE_CONTENT';
    const error = new Error(`${lines} of its lines fit into no message of their own${why}`);
    await this.#reject(message, { ...processed, outcome: { kind: 'rejected', reason, error } });
  }

  async #reject(
    message: ReceivedMessage,
    processed: ProcessedMessage,
    sender = this.#deadLetters,
  ): Promise<void> {
    const outcome = processed.outcome as Outcome & { kind: 'rejected' };
    const log = () => this.#logger(message, processed);
    await this.#sendToDeadLetterQueue(message, outcome, processed.traceId, log, sender);
    this.#count(outcome);
  }

  async #confirm(outcome: Outcome, log: () => Logger, calls: () => Promise<void>): Promise<void> {
    try {
      await calls();
    } catch (err) {
      this.#unconfirmed(outcome, err, log);
    }
  }

  #unconfirmed(outcome: Outcome, err: unknown, log: () => Logger): void {
    this.#options.metrics.settleErrors.inc({ outcome: outcome.kind });
    log().warn({ err, outcome: outcome.kind }, 'outcome not confirmed by SQS, the message will come again');
  }

  #count(outcome: Outcome, times = 1): void {
    const cause = 'cause' in outcome ? outcome.cause : '';
    this.#options.metrics.outcomes.inc({ outcome: outcome.kind, cause }, times);
  }

  #countStored(parts: readonly Part[]): void {
    const duplicates = parts.filter(({ processed }) => processed.outcome.kind === 'duplicate').length;
    if (duplicates > 0) this.#count({ kind: 'duplicate' }, duplicates);
    if (parts.length > duplicates) this.#count({ kind: 'processed' }, parts.length - duplicates);
  }

  /** Counts failures, and gives up on what failed or waited too often: before SQS does, which tells no reason. */
  #judge(message: ReceivedMessage, outcome: Unstored): Unstored {
    const { failures, config, maxReceiveCount } = this.#options;
    const isLastReceive = message.receiveCount >= maxReceiveCount;
    if (outcome.kind === 'retry') {
      const { error } = outcome;
      if (failures.add(message.messageId) >= config.MAX_FAILURES)
        return { kind: 'rejected', reason: 'MAX_FAILURES', error };
      // Other consumers may have counted the other failures.
      if (isLastReceive) return { kind: 'rejected', reason: 'MAX_RECEIVES', error };
    }
    if (outcome.kind === 'released' && outcome.cause === 'newer-version') {
      const waitedMs = Date.now() - (message.firstReceivedAt?.getTime() ?? Date.now());
      if (isLastReceive || waitedMs >= config.NEWER_VERSION_REJECT_SECONDS * 1_000) {
        return {
          kind: 'rejected',
          reason: 'NEWER_VERSION',
          error: new Error('no newer consumer has taken the message'),
        };
      }
    }
    return outcome;
  }

  async #carryOut(outcome: Unstored, lease: Lease, traceId: string, log: () => Logger): Promise<void> {
    const { acknowledger, failures } = this.#options;
    const { messageId, receiptHandle } = lease.message;
    switch (outcome.kind) {
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
        await this.#sendToDeadLetterQueue(lease.message, outcome, traceId, log);
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
    outcome: Unstored & { kind: 'rejected' },
    traceId: string,
    log: () => Logger,
    sender = this.#deadLetters,
  ): Promise<void> {
    const { failures, version, metrics } = this.#options;
    const now = new Date();
    await sender.send(
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
    log().error({ err: outcome.error, reason: outcome.reason }, 'message sent to the dead-letter queue');
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

/** SQS refuses the entry, or the request with nothing else in it; not for who sends it, or how often. */
const isFaultOfMessage = (error: unknown) => {
  if (error instanceof BatchEntryError) return error.senderFault;
  const { name = '', $metadata } = error as Partial<SQSServiceException>;
  return $metadata?.httpStatusCode === 400 && !/Throttl|Denied|Kms|DoesNotExist|Signature|Token/.test(name);
};

const isStoredPart = ({ processed: { outcome } }: Part) =>
  outcome.kind === 'processed' || outcome.kind === 'duplicate';

/** All that was in the message is in the store. */
export const isStored = ({ parts }: Settlement): boolean => parts.every(isStoredPart);

/** What keeps one order of a packed message from being stored keeps the others too. */
const isReleasedTogether = ({ processed: { outcome } }: Part) =>
  outcome.kind === 'released' && outcome.cause !== 'newer-version';
