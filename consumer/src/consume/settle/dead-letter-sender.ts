import type { SQSClient } from '@aws-sdk/client-sqs';
import type { ClaimedOrder } from '@orders/shared/order/message.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { MessageSender } from '@orders/shared/sqs/message-sender.ts';
import type { Rejected } from '../../domain/outcome.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import { rejectionOf, toDeadLetterMessage } from '../../queue/dead-letter.ts';
import type { ReceivedOrder } from '../read-messages.ts';
import { CopySender, type Piece } from './copy-sender.ts';
import type { FailureCounter } from './failure-counter.ts';
import type { FateRecorder } from './fate-recorder.ts';
import { loggerOf } from './report-outcome.ts';

export type DeadLetterSenderOptions = {
  client: SQSClient;
  deadLetterQueueUrl: string;
  failures: FailureCounter;
  fates: Pick<FateRecorder, 'record'>;
  /** The release that gives up. */
  version: string;
  metrics: Pick<ConsumerMetrics, 'deadLettered'>;
  logger: Logger;
};

/** Sends copies of messages that can never succeed to the DLQ, each with its reason. */
export class DeadLetterSender {
  readonly #options: DeadLetterSenderOptions;
  readonly #copies: CopySender;

  constructor(options: DeadLetterSenderOptions) {
    this.#options = options;
    this.#copies = new CopySender(new MessageSender(options.client, options.deadLetterQueueUrl));
  }

  /**
   * Resolves when the DLQ has the copy: only then may the message be deleted, and the fate of its orders is recorded.
   * @param orders that are in the message
   * @throws {NotWantedError} the lease was lost or closed before: whoever receives the message next rejects it too
   */
  async send(
    piece: Piece,
    outcome: Rejected,
    order: ReceivedOrder,
    orders: readonly ReceivedOrder[] = [order],
  ): Promise<void> {
    const { message } = piece;
    const { failures, fates, version, metrics, logger } = this.#options;
    const now = new Date();
    const { reason, error } = outcome;
    const about = {
      reason,
      detail: error.message,
      errorClass: error.name,
      attempts: message.receiveCount,
      failures: failures.get(message.messageId),
      firstSeenAt: (message.firstReceivedAt ?? now).toISOString(),
      deadLetteredAt: now.toISOString(),
      codeVersion: version,
      traceId: order.traceId,
      messageId: message.messageId,
    };
    if (!(await this.#copies.send(piece, toDeadLetterMessage(message, about)))) return;
    metrics.deadLettered.inc({ reason });
    for (const each of orders) {
      const claimed = claimedBy(each);
      if (claimed) fates.record(rejectionOf(claimed, about));
    }
    loggerOf(logger, message, order).error({ err: error, reason }, 'message sent to the dead-letter queue');
  }
}

/** Which order it is, as far as its message says. */
function claimedBy(received: ReceivedOrder): ClaimedOrder | undefined {
  const { order } = received;
  if (order)
    return { orderId: order.orderId, contentHash: received.contentHash, clientId: received.clientId };
  return received.claimed;
}
