import {
  type MessageAttributeValue,
  SendMessageBatchCommand,
  type SQSClient,
  type SQSServiceException,
} from '@aws-sdk/client-sqs';
import { Batcher } from '@orders/shared/batcher.ts';
import { MAX_REQUEST_BYTES } from '@orders/shared/queues.ts';
import { BatchEntryError, MAX_BATCH_ENTRIES, sendEntries } from '@orders/shared/sqs-batch.ts';

export type MessageToSend = { MessageBody: string; MessageAttributes: Record<string, MessageAttributeValue> };

/** The message was no longer wanted when its turn came, and was not sent. */
export class NotWantedError extends Error {
  override readonly name = 'NotWantedError';
}

type Sending = { message: MessageToSend; isWanted: () => boolean };
type Sent = { MessageId: string | undefined };

/** Sends messages as they are to a queue, coalesced into batches that stay below the limits of a request. */
export class MessageSender {
  readonly #batcher: Batcher<Sending, Sent>;
  readonly #request: (messages: MessageToSend[]) => Promise<(Sent | Error)[]>;

  constructor(client: SQSClient, queueUrl: string) {
    this.#request = (messages) =>
      sendEntries(messages, (Entries) =>
        client.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries })),
      );
    this.#batcher = new Batcher<Sending, Sent>({
      execute: (sendings) => this.#execute(sendings),
      maxEntries: MAX_BATCH_ENTRIES,
      maxBytes: MAX_REQUEST_BYTES,
      // Never less than what SQS counts: the JSON holds names, types and values, and more.
      sizeOf: ({ message: { MessageBody, MessageAttributes } }) =>
        Buffer.byteLength(MessageBody) + Buffer.byteLength(JSON.stringify(MessageAttributes)),
      maxInFlight: 4,
      lingerMs: 5,
    });
  }

  /**
   * Resolves with the new message id when the queue has confirmed.
   * @param isWanted asked right before the request
   * @throws {NotWantedError} it was not; nothing was sent
   */
  async send(message: MessageToSend, isWanted: () => boolean = () => true): Promise<string> {
    return (await this.#batcher.add({ message, isWanted })).MessageId ?? '';
  }

  async #execute(sendings: readonly Sending[]): Promise<(Sent | Error)[]> {
    const wanted = sendings.filter(({ isWanted }) => isWanted());
    const results = (await this.#sendTogether(wanted)).values();
    return sendings.map((sending) =>
      wanted.includes(sending) ? (results.next().value as Sent | Error) : new NotWantedError('not sent'),
    );
  }

  async #sendTogether(sendings: readonly Sending[]): Promise<(Sent | Error)[]> {
    if (sendings.length === 0) return [];
    try {
      return await this.#request(sendings.map(({ message }) => message));
    } catch (error) {
      if (sendings.length === 1 || !isFaultOfMessage(error)) throw error;
      return await this.#sendAlone(sendings);
    }
  }

  /** SQS refused the batch for one of them: what it says of a request with one message, it says of that message. */
  async #sendAlone(sendings: readonly Sending[]): Promise<(Sent | Error)[]> {
    const results: (Sent | Error)[] = [];
    for (const sending of sendings)
      results.push(...(await this.#execute([sending]).catch((error: Error) => [error])));
    return results;
  }
}

/** SQS refuses the entry, or the request, for what is in it; not for who sends it, or how often. */
export const isFaultOfMessage = (error: unknown): boolean => {
  if (error instanceof BatchEntryError) return error.senderFault;
  const { name = '', $metadata } = error as Partial<SQSServiceException>;
  return $metadata?.httpStatusCode === 400 && !/Throttl|Denied|Kms|DoesNotExist|Signature|Token/.test(name);
};
