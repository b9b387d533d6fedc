import type { SQSClient, SQSServiceException } from '@aws-sdk/client-sqs';
import type { Logger } from '@orders/shared/logger.ts';
import { BatchEntryError } from '@orders/shared/sqs-batch.ts';
import type { Rejected } from '../domain/outcome.ts';
import type { ProcessedMessage } from '../domain/process-messages.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import type { Acknowledger } from './acknowledger.ts';
import type { DeadLetterSender } from './dead-letter-sender.ts';
import { MessageSender } from './message-sender.ts';
import type { ReceivedMessage } from './received-message.ts';
import { countOutcome, countStored, isStoredPart, loggerOf, type Part } from './settlement.ts';

export type PackedSettlerOptions = {
  client: SQSClient;
  queueUrl: string;
  acknowledger: Acknowledger;
  deadLetters: DeadLetterSender;
  metrics: Pick<ConsumerMetrics, 'outcomes'>;
  logger: Logger;
};

/**
 * Takes packed messages apart of which not all is stored. What can never be stored goes to the DLQ, each order by
 * itself, as if it had come so. What may be stored later goes back to the queue, each by itself, and meets its fate
 * there. A line that SQS takes in no message (a control character, too long) goes to the DLQ in the message that it came
 * in. Only then the packed message is deleted.
 */
export class PackedSettler {
  readonly #options: PackedSettlerOptions;
  /** SQS may refuse a line in many ways: each goes by a request of its own. */
  readonly #orders: MessageSender;

  constructor(options: PackedSettlerOptions) {
    this.#options = options;
    this.#orders = new MessageSender(options.client, options.queueUrl, 1);
  }

  /** @throws what SQS did not confirm; the message comes again, and what is stored or sent by then is a duplicate */
  async settle(message: ReceivedMessage, parts: readonly Part[]): Promise<void> {
    const { acknowledger, metrics, logger } = this.#options;
    countStored(metrics, parts.filter(isStoredPart));
    const others = parts.filter((part) => !isStoredPart(part));
    const sent = await Promise.all(others.map((part) => this.#sendAlone(message, part)));
    const unsendable = others.filter((_, index) => !sent[index]);
    if (unsendable[0]) await this.#rejectWhole(message, unsendable[0], unsendable.length);
    loggerOf(logger, message, {}).warn(
      { orders: others.length },
      'orders of a packed message sent by themselves',
    );
    await acknowledger.delete(message.receiptHandle);
  }

  /** False when SQS takes no such message. */
  async #sendAlone(message: ReceivedMessage, { body, processed }: Part): Promise<boolean> {
    const { outcome } = processed;
    const part = { ...message, body, attributes: {}, rawAttributes: {} };
    try {
      if (outcome.kind === 'rejected') await this.#reject(part, outcome, processed, { alone: true });
      else await this.#orders.send({ MessageBody: body, MessageAttributes: {} });
      return true;
    } catch (error) {
      if (isFaultOfMessage(error)) return false;
      throw error;
    }
  }

  async #rejectWhole(message: ReceivedMessage, { processed }: Part, lines: number): Promise<void> {
    const { outcome } = processed;
    const why = 'error' in outcome ? `, the first one: ${outcome.error.message}` : '';
    const reason = outcome.kind === 'rejected' ? outcome.reason : 'UNREADABLE_CONTENT';
    const error = new Error(`${lines} of its lines fit into no message of their own${why}`);
    await this.#reject(message, { kind: 'rejected', reason, error }, processed);
  }

  async #reject(
    message: ReceivedMessage,
    outcome: Rejected,
    processed: ProcessedMessage,
    how = { alone: false },
  ): Promise<void> {
    await this.#options.deadLetters.send(message, outcome, processed, how);
    countOutcome(this.#options.metrics, outcome);
  }
}

/** SQS refuses the entry, or the request with nothing else in it; not for who sends it, or how often. */
const isFaultOfMessage = (error: unknown) => {
  if (error instanceof BatchEntryError) return error.senderFault;
  const { name = '', $metadata } = error as Partial<SQSServiceException>;
  return $metadata?.httpStatusCode === 400 && !/Throttl|Denied|Kms|DoesNotExist|Signature|Token/.test(name);
};
