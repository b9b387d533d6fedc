import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteMessageBatchCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  type SQSClient,
  StartMessageMoveTaskCommand,
} from '@aws-sdk/client-sqs';
import { queueAttributes } from '@orders/shared/queue-admin.ts';
import { MAX_BATCH_ENTRIES, sendEntries } from '@orders/shared/sqs-batch.ts';
import { Acknowledger } from '../sqs/acknowledger.ts';
import { type DeadLetter, fromDeadLetterMessage } from '../sqs/dead-letter.ts';
import { type ReceivedMessage, toReceivedMessage } from '../sqs/received-message.ts';

export type DeadLetteredMessage = { message: ReceivedMessage; deadLetter: DeadLetter | undefined };

export type RedriveOptions = {
  /** At most so many messages; by default all that were there when it began. */
  limit?: number;
  /** At most so many messages a second. */
  ratePerSecond?: number;
  /** Only tells what would be moved. */
  dryRun?: boolean;
  /** Called for each message that was moved, or would be. */
  onMoved?: (moved: DeadLetteredMessage) => void;
};

/** SQS's own limit of a move task. */
const MAX_MOVE_TASK_RATE = 500;
const HOLD_SECONDS = 120;

/** What operators do with the DLQ. Nothing here deletes a message that is not in the order queue before. */
export class DeadLetterQueue {
  readonly #client: SQSClient;
  readonly #queueUrl: string;
  readonly #deadLetterQueueUrl: string;
  readonly #acknowledger: Acknowledger;

  constructor(
    client: SQSClient,
    { queueUrl, deadLetterQueueUrl }: { queueUrl: string; deadLetterQueueUrl: string },
  ) {
    this.#client = client;
    this.#queueUrl = queueUrl;
    this.#deadLetterQueueUrl = deadLetterQueueUrl;
    this.#acknowledger = new Acknowledger(client, deadLetterQueueUrl);
  }

  /** Up to `limit` messages. They stay: each is hidden from other readers while this looks, then given back. */
  async peek(limit: number): Promise<DeadLetteredMessage[]> {
    const seen: DeadLetteredMessage[] = [];
    try {
      while (seen.length < limit) {
        const messages = await this.#receive(limit - seen.length);
        if (messages.length === 0) break;
        seen.push(...messages);
      }
      return seen;
    } finally {
      await this.#giveBack(seen);
    }
  }

  /**
   * Moves messages back to the order queue, without the reason that was attached: sends first, then deletes. Killed
   * in between, a message is in both queues, which the consumer's unique constraint makes harmless. Messages that
   * come back to the DLQ while it runs are left for the next time.
   * @returns how many were moved, or would be
   */
  async redrive({
    limit = Number.POSITIVE_INFINITY,
    ratePerSecond,
    dryRun = false,
    onMoved,
  }: RedriveOptions): Promise<number> {
    const startedAt = Date.now();
    const kept: DeadLetteredMessage[] = [];
    let moved = 0;
    try {
      while (moved < limit) {
        const batchStartedAt = performance.now();
        const messages = await this.#receive(limit - moved);
        if (messages.length === 0) break;
        const isNew = ({ deadLetter }: DeadLetteredMessage) =>
          Date.parse(deadLetter?.deadLetteredAt ?? '') > startedAt;
        kept.push(...messages.filter((message) => dryRun || isNew(message)));
        const due = messages.filter((message) => !isNew(message));
        const done = dryRun ? due : await this.#move(due);
        moved += done.length;
        for (const message of done) onMoved?.(message);
        if (ratePerSecond && !dryRun) {
          await sleep(
            Math.max(0, (messages.length / ratePerSecond) * 1_000 - (performance.now() - batchStartedAt)),
          );
        }
      }
      return moved;
    } finally {
      await this.#giveBack(kept);
    }
  }

  /**
   * Has SQS itself move everything, at up to 500 messages a second. Knows no limit and no filter, and moves the
   * attached reasons along. The destination is always named: messages that the consumer sent here have no source
   * queue that SQS knows. Emulators need not have it.
   */
  async startMoveTask(ratePerSecond?: number): Promise<void> {
    const [source, destination] = await Promise.all(
      [this.#deadLetterQueueUrl, this.#queueUrl].map((url) => queueAttributes(this.#client, url)),
    );
    await this.#client.send(
      new StartMessageMoveTaskCommand({
        SourceArn: source?.QueueArn,
        DestinationArn: destination?.QueueArn,
        ...(ratePerSecond
          ? { MaxNumberOfMessagesPerSecond: Math.min(MAX_MOVE_TASK_RATE, ratePerSecond) }
          : {}),
      }),
    );
  }

  async #receive(most: number): Promise<DeadLetteredMessage[]> {
    const { Messages = [] } = await this.#client.send(
      new ReceiveMessageCommand({
        QueueUrl: this.#deadLetterQueueUrl,
        MaxNumberOfMessages: Math.min(MAX_BATCH_ENTRIES, most),
        VisibilityTimeout: HOLD_SECONDS,
        // Not 0: a short poll asks only some of the servers and may find nothing in a queue that is not empty.
        WaitTimeSeconds: 1,
        MessageAttributeNames: ['All'],
        MessageSystemAttributeNames: ['All'],
      }),
    );
    return Messages.map(toReceivedMessage).map((message) => ({
      message,
      deadLetter: fromDeadLetterMessage(message).deadLetter,
    }));
  }

  /** Answers those that were moved; the others stay and show up again after their visibility time. */
  async #move(messages: DeadLetteredMessage[]): Promise<DeadLetteredMessage[]> {
    if (messages.length === 0) return [];
    const originals = messages.map(({ message }) => fromDeadLetterMessage(message).original);
    const sent = await sendEntries(originals, (Entries) =>
      this.#client.send(new SendMessageBatchCommand({ QueueUrl: this.#queueUrl, Entries })),
    );
    const moved = messages.filter((_, index) => !(sent[index] instanceof Error));
    if (moved.length > 0) {
      const handles = moved.map(({ message }) => ({ ReceiptHandle: message.receiptHandle }));
      await sendEntries(handles, (Entries) =>
        this.#client.send(new DeleteMessageBatchCommand({ QueueUrl: this.#deadLetterQueueUrl, Entries })),
      );
    }
    return moved;
  }

  async #giveBack(messages: DeadLetteredMessage[]): Promise<void> {
    await Promise.all(
      messages.map(({ message }) => this.#acknowledger.changeVisibility(message.receiptHandle, 0)),
    );
  }
}
