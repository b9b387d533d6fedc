import type { SQSClient } from '@aws-sdk/client-sqs';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { encryptMessages, isEncrypted } from '@orders/shared/order/encrypted-message.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { traceIdOf } from '@orders/shared/runtime/trace-context.ts';
import { BatchEntryError, isFaultOfMessage } from '@orders/shared/sqs/batch.ts';
import { isMessageBody } from '@orders/shared/sqs/message-limits.ts';
import { MessageSender, NotWantedError } from '@orders/shared/sqs/message-sender.ts';
import { asError, isStored, type Rejected } from '../../domain/outcome.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import { groupOf } from '../../queue/received-message.ts';
import type { Lease } from '../lease.ts';
import type { ReceivedOrder } from '../read-messages.ts';
import { CopySender, type Piece } from './copy-sender.ts';
import type { DeadLetterSender } from './dead-letter-sender.ts';
import { countLate, countOutcome, countStored, loggerOf } from './report-outcome.ts';

export type PackedSettlerOptions = {
  client: SQSClient;
  queueUrl: string;
  deadLetters: DeadLetterSender;
  cipher?: MessageCipher | undefined;
  metrics: Pick<ConsumerMetrics, 'outcomes' | 'ordersStoredLate'>;
  logger: Logger;
};

/**
 * Takes packed messages apart of which not all is stored. Each order that can never be stored goes to the DLQ, as if it
 * had come alone. Each that may be stored later is requeued as a message of its own. A line that SQS takes in no message
 * (a control character, too long) goes to the DLQ in the message that it came in. What came encrypted goes on encrypted.
 * Only then the packed message may be deleted.
 */
export class PackedSettler {
  readonly #options: PackedSettlerOptions;
  readonly #orders: CopySender;

  constructor(options: PackedSettlerOptions) {
    this.#options = options;
    this.#orders = new CopySender(new MessageSender(options.client, options.queueUrl));
  }

  /**
   * Resolves when SQS has all that is not stored. However it ends, nothing of the message is under way any more.
   * @throws {NotWantedError} the lease was lost or closed meanwhile, and no more was sent
   * @throws what SQS did not confirm; the message comes again, and what is stored or sent by then is a duplicate
   */
  async sendUnstored(lease: Lease, orders: readonly ReceivedOrder[]): Promise<void> {
    const { metrics, logger, cipher } = this.#options;
    const { message } = lease;
    const cipherOfCopies = isEncrypted(message.body) ? cipher : undefined;
    const unstored = [...orders.entries()].filter(([, { outcome }]) => !isStored(outcome));
    countStored(
      metrics,
      orders.filter(({ outcome }) => isStored(outcome)),
    );
    countLate(metrics, [{ lease, orders }]);
    const sent = await Promise.all(
      unstored.map(async ([line, order]) => {
        const sending = copyOf(order, cipherOfCopies).then((body) => {
          const part = { ...message, body, attributes: {}, rawAttributes: {} };
          return this.#send({ lease, message: part, line }, order);
        });
        return { order, error: await sending.then(() => undefined, asError) };
      }),
    );
    const open = sent.flatMap(({ error }) => (error && !isFaultOfMessage(error) ? error : []));
    if (open.length > 0) throw open.find((error) => !(error instanceof NotWantedError)) ?? open[0];
    const unsendable = sent.filter(({ error }) => error).map(({ order }) => order);
    if (unsendable.length > 0) await this.#rejectWhole(lease, unsendable);
    loggerOf(logger, message).warn(
      { orders: unstored.length },
      'orders of a packed message sent by themselves',
    );
  }

  async #send(piece: Piece, order: ReceivedOrder): Promise<void> {
    const { outcome } = order;
    const { body } = piece.message;
    // How an emulator refuses such a line is nothing to go by: a missing parameter, an invalid action.
    if (!isMessageBody(body)) throw new BatchEntryError({ Code: 'InvalidMessageContents' });
    if (outcome.kind === 'rejected') await this.#reject(piece, outcome, order);
    else
      await this.#orders.send(piece, { ...groupOf(piece.message), MessageBody: body, MessageAttributes: {} });
  }

  async #rejectWhole(lease: Lease, orders: readonly ReceivedOrder[]): Promise<void> {
    const [first] = orders as [ReceivedOrder];
    const { outcome } = first;
    const why = 'error' in outcome ? `, the first one: ${outcome.error.message}` : '';
    const reason = outcome.kind === 'rejected' ? outcome.reason : 'UNREADABLE_CONTENT';
    const error = new Error(`${orders.length} of its lines fit into no message of their own${why}`);
    await this.#reject({ lease, message: lease.message }, { kind: 'rejected', reason, error }, first, orders);
  }

  async #reject(
    piece: Piece,
    outcome: Rejected,
    order: ReceivedOrder,
    orders?: readonly ReceivedOrder[],
  ): Promise<void> {
    await this.#options.deadLetters.send(piece, outcome, order, orders);
    countOutcome(this.#options.metrics, outcome);
  }
}

/** The body of the message that an order becomes by itself. */
async function copyOf({ body, order, traceId }: ReceivedOrder, cipher?: MessageCipher): Promise<string> {
  if (!cipher) return body;
  const traceparent = /"traceparent":"([\w-]{55})"/.exec(body)?.[1];
  const line = {
    body,
    orderId: order?.orderId,
    traceparent: traceIdOf(traceparent) === traceId ? traceparent : undefined,
  };
  return (await encryptMessages([line], cipher)).body;
}
