import { type MessageAttributeValue, SendMessageBatchCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { Batcher } from '@orders/shared/batcher.ts';
import { MAX_REQUEST_BYTES } from '@orders/shared/queues.ts';
import { MAX_BATCH_ENTRIES, sendEntries } from '@orders/shared/sqs-batch.ts';

export type MessageToSend = { MessageBody: string; MessageAttributes: Record<string, MessageAttributeValue> };

/** Sends messages as they are to a queue, coalesced into batches that stay below the limits of a request. */
export class MessageSender {
  readonly #batcher: Batcher<MessageToSend, { MessageId: string | undefined }>;

  /** @param maxEntries of a request; with one, what SQS says of the request it says of the message */
  constructor(client: SQSClient, queueUrl: string, maxEntries = MAX_BATCH_ENTRIES) {
    this.#batcher = new Batcher<MessageToSend, { MessageId: string | undefined }>({
      execute: (entries) =>
        sendEntries(entries, (Entries) =>
          client.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries })),
        ),
      maxEntries,
      maxBytes: MAX_REQUEST_BYTES,
      // Never less than what SQS counts: the JSON holds names, types and values, and more.
      sizeOf: ({ MessageBody, MessageAttributes }) =>
        Buffer.byteLength(MessageBody) + Buffer.byteLength(JSON.stringify(MessageAttributes)),
      maxInFlight: 4,
      lingerMs: 5,
    });
  }

  /** Resolves with the new message id when the queue has confirmed. */
  async send(message: MessageToSend): Promise<string> {
    return (await this.#batcher.add(message)).MessageId ?? '';
  }
}
