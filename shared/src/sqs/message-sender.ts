import {
  type MessageAttributeValue,
  SendMessageBatchCommand,
  type SendMessageBatchCommandOutput,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { MAX_BATCH_ENTRIES, sendEntries } from './batch.ts';
import { Batcher } from './batcher.ts';
import { MAX_REQUEST_BYTES } from './queues.ts';

export type MessageToSend = {
  MessageBody: string;
  MessageAttributes: Record<string, MessageAttributeValue>;
  MessageGroupId?: string;
};

/** The message was no longer wanted when its turn came, and was not sent. */
export class NotWantedError extends Error {
  override readonly name = 'NotWantedError';
}

type Sending = { message: MessageToSend; isWanted: () => boolean };
type Sent = { Id: string | undefined; MessageId: string | undefined };

/** Sends messages to a queue unchanged, coalesced into batches below the limits of a request. */
export class MessageSender {
  readonly #batcher: Batcher<Sending, Sent>;
  readonly #request: (entries: (Sending & { Id: string })[]) => Promise<SendMessageBatchCommandOutput>;

  constructor(client: SQSClient, queueUrl: string) {
    this.#request = async (entries) => {
      // Asked again for entries sent again or alone. An entry left out counts as not answered.
      const wanted = entries.filter(({ isWanted }) => isWanted());
      if (wanted.length === 0) throw new NotWantedError('not sent');
      const Entries = wanted.map(({ Id, message }) => ({ Id, ...message }));
      return client.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries }));
    };
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
   * @param isWanted asked right before each request
   * @throws {NotWantedError} it was not wanted any more; nothing was sent
   */
  async send(message: MessageToSend, isWanted: () => boolean = () => true): Promise<string> {
    return (await this.#batcher.add({ message, isWanted })).MessageId ?? '';
  }

  async #execute(sendings: readonly Sending[]): Promise<(Sent | Error)[]> {
    const wanted = sendings.filter(({ isWanted }) => isWanted());
    const results = wanted.length > 0 ? await sendEntries(wanted, this.#request) : [];
    const sent = new Map(wanted.map((sending, index) => [sending, results[index]]));
    return sendings.map((sending) => sent.get(sending) ?? new NotWantedError('not sent'));
  }
}
