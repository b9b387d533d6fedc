import type { SQSClient } from '@aws-sdk/client-sqs';
import type { Logger } from '@orders/shared/logger.ts';
import type { Rejected } from '../domain/outcome.ts';
import type { ProcessedMessage } from '../domain/process-messages.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import { toDeadLetterMessage } from './dead-letter.ts';
import type { FailureCounter } from './failure-counter.ts';
import { MessageSender } from './message-sender.ts';
import type { ReceivedMessage } from './received-message.ts';
import { loggerOf } from './settlement.ts';

export type DeadLetterSenderOptions = {
  client: SQSClient;
  deadLetterQueueUrl: string;
  failures: FailureCounter;
  /** The release that gives up. */
  version: string;
  metrics: Pick<ConsumerMetrics, 'deadLettered'>;
  logger: Logger;
};

/** Sends copies of messages that can never succeed to the DLQ, each with its reason. */
export class DeadLetterSender {
  readonly #options: DeadLetterSenderOptions;
  readonly #batched: MessageSender;
  readonly #alone: MessageSender;

  constructor(options: DeadLetterSenderOptions) {
    const { client, deadLetterQueueUrl } = options;
    this.#options = options;
    this.#batched = new MessageSender(client, deadLetterQueueUrl);
    this.#alone = new MessageSender(client, deadLetterQueueUrl, 1);
  }

  /**
   * Resolves when the DLQ has the copy: only then may the message be deleted.
   * @param alone by a request of its own, so that what SQS says of the request it says of this message
   */
  async send(
    message: ReceivedMessage,
    outcome: Rejected,
    processed: Pick<ProcessedMessage, 'orderId' | 'traceId'>,
    { alone } = { alone: false },
  ): Promise<void> {
    const { failures, version, metrics, logger } = this.#options;
    const now = new Date();
    const { reason, error } = outcome;
    const letter = toDeadLetterMessage(message, {
      reason,
      detail: error.message,
      errorClass: error.name,
      attempts: message.receiveCount,
      failures: failures.get(message.messageId),
      firstSeenAt: (message.firstReceivedAt ?? now).toISOString(),
      deadLetteredAt: now.toISOString(),
      codeVersion: version,
      traceId: processed.traceId,
      messageId: message.messageId,
    });
    await (alone ? this.#alone : this.#batched).send(letter);
    metrics.deadLettered.inc({ reason });
    loggerOf(logger, message, processed).error(
      { err: error, reason },
      'message sent to the dead-letter queue',
    );
  }
}
