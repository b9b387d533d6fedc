import { setTimeout as sleep } from 'node:timers/promises';
import { ReceiveMessageCommand, type SQSClient, StartMessageMoveTaskCommand } from '@aws-sdk/client-sqs';
import { queueAttributes } from '@orders/shared/queue-admin.ts';
import { MAX_BATCH_ENTRIES } from '@orders/shared/sqs-batch.ts';
import { Acknowledger } from '../sqs/acknowledger.ts';
import { type DeadLetter, fromDeadLetterMessage } from '../sqs/dead-letter.ts';
import { MessageSender } from '../sqs/message-sender.ts';
import { type ReceivedMessage, toReceivedMessage } from '../sqs/received-message.ts';

export type DeadLetteredMessage = { message: ReceivedMessage; deadLetter: DeadLetter | undefined };

export type RedriveOptions = {
  /** At most so many messages; by default all that were there when it began. */
  limit?: number;
  /** At most so many messages a second. */
  ratePerSecond?: number;
  /** Only tells what would be moved. */
  dryRun?: boolean;
  /** Only these; the others are hidden from other readers until the end, then given back. */
  where?: (message: DeadLetteredMessage) => boolean;
  /** Called for each message that was moved, or would be. */
  onMoved?: (moved: DeadLetteredMessage) => void;
};

/** Some messages were not moved. They stay in the DLQ, unless just their delete was not confirmed. */
export class RedriveIncompleteError extends Error {
  override readonly name = 'RedriveIncompleteError';
  readonly code = 'REDRIVE_INCOMPLETE';

  constructor(moved: number, failures: unknown[]) {
    super(`${moved} moved, ${failures.length} not`, { cause: failures[0] });
  }
}

/** Dead letters of one release, for {@link RedriveOptions.where}; those that SQS moved by itself name none. */
export function ofRelease(
  codeVersion: string,
  since = new Date(0),
): (message: DeadLetteredMessage) => boolean {
  return ({ deadLetter }) =>
    deadLetter?.codeVersion === codeVersion && new Date(deadLetter.deadLetteredAt) >= since;
}

/** SQS's own limit of a move task. */
const MAX_MOVE_TASK_RATE = 500;
const HOLD_SECONDS = 120;
const RENEW_AFTER_MS = 40_000;
/** An empty answer, of an SQS that has several servers, is no proof that the queue is empty. */
const READ_TRIES = 2;

/** By message id, the receipts of messages that are hidden from other readers; that which was hidden first is first. */
type Hidden = Map<string, { receiptHandle: string; sinceMs: number }>;

/** What operators do with the DLQ. Nothing here deletes a message that is not in the order queue before. */
export class DeadLetterQueue {
  readonly #client: SQSClient;
  readonly #queueUrl: string;
  readonly #deadLetterQueueUrl: string;
  readonly #acknowledger: Acknowledger;
  readonly #sender: MessageSender;

  constructor(
    client: SQSClient,
    { queueUrl, deadLetterQueueUrl }: { queueUrl: string; deadLetterQueueUrl: string },
  ) {
    this.#client = client;
    this.#queueUrl = queueUrl;
    this.#sender = new MessageSender(client, queueUrl);
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
      await this.#hide(
        seen.map(({ message }) => message.receiptHandle),
        0,
      );
    }
  }

  /**
   * All messages, a batch at a time; of each only its id and its receipt are kept in memory. They stay: each is hidden
   * from other readers until the end, then given back. Ends when nothing comes that was not seen before; what others
   * hold is not seen.
   */
  async *readAll(): AsyncGenerator<DeadLetteredMessage[]> {
    const hidden: Hidden = new Map();
    try {
      yield* this.#receiveUnseen(hidden, () => MAX_BATCH_ENTRIES);
    } finally {
      await this.#giveBack(hidden);
    }
  }

  /**
   * Moves messages back to the order queue, without the reason that was attached: sends first, then deletes. Killed
   * in between, a message is in both queues, which the consumer's unique constraint makes harmless. Messages that
   * come back to the DLQ while it runs are left for the next time.
   * @returns how many were moved, or would be
   * @throws {RedriveIncompleteError} some could not be moved; they are in the DLQ as before
   */
  async redrive({
    limit = Number.POSITIVE_INFINITY,
    ratePerSecond,
    dryRun = false,
    where = () => true,
    onMoved,
  }: RedriveOptions): Promise<number> {
    const hidden: Hidden = new Map();
    const failures: unknown[] = [];
    // Under which ids messages went back: one that the consumer rejects again names the id that it had.
    const sentIds = new Set<string>();
    let moved = 0;
    let batchStartedAt = performance.now();
    try {
      for await (const messages of this.#receiveUnseen(hidden, () => limit - moved)) {
        const due = messages.filter(
          (message) => !sentIds.has(message.deadLetter?.messageId ?? '') && where(message),
        );
        const results = dryRun ? [] : await Promise.allSettled(due.map((message) => this.#move(message)));
        const done = due.filter((_, index) => dryRun || results[index]?.status === 'fulfilled');
        for (const result of results) {
          if (result.status === 'fulfilled') sentIds.add(result.value);
          else failures.push(result.reason);
        }
        moved += done.length;
        for (const message of done) {
          if (!dryRun) hidden.delete(message.message.messageId);
          onMoved?.(message);
        }
        if (ratePerSecond && !dryRun) {
          const elapsedMs = performance.now() - batchStartedAt;
          await sleep(Math.max(0, (done.length / ratePerSecond) * 1_000 - elapsedMs));
        }
        batchStartedAt = performance.now();
      }
    } finally {
      await this.#giveBack(hidden);
    }
    if (failures.length > 0) throw new RedriveIncompleteError(moved, failures);
    return moved;
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

  /** Batches of messages that were not seen before, which it hides and keeps hidden. Ends when there are no more. */
  async *#receiveUnseen(hidden: Hidden, most: () => number): AsyncGenerator<DeadLetteredMessage[]> {
    for (let nothingNew = 0; nothingNew < READ_TRIES && most() > 0; ) {
      await this.#renew(hidden);
      const sinceMs = performance.now();
      const messages = await this.#receive(most());
      const fresh = messages.filter(({ message }) => !hidden.has(message.messageId));
      for (const { message } of messages) {
        const { messageId, receiptHandle } = message;
        hidden.delete(messageId);
        hidden.set(messageId, { receiptHandle, sinceMs });
      }
      nothingNew = fresh.length === 0 ? nothingNew + 1 : 0;
      if (fresh.length > 0) yield fresh;
    }
  }

  /** Keeps hidden what would come again soon. */
  async #renew(hidden: Hidden): Promise<void> {
    const nowMs = performance.now();
    const due: string[] = [];
    for (const [messageId, { receiptHandle, sinceMs }] of hidden) {
      if (nowMs - sinceMs < RENEW_AFTER_MS) break;
      hidden.delete(messageId);
      hidden.set(messageId, { receiptHandle, sinceMs: nowMs });
      due.push(receiptHandle);
    }
    await this.#hide(due, HOLD_SECONDS);
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

  /** Sends, then deletes. Answers the id that the message has in the order queue. */
  async #move({ message }: DeadLetteredMessage): Promise<string> {
    const messageId = await this.#sender.send(fromDeadLetterMessage(message).original);
    await this.#acknowledger.delete(message.receiptHandle);
    return messageId;
  }

  async #giveBack(hidden: Hidden): Promise<void> {
    await this.#hide(
      [...hidden.values()].map(({ receiptHandle }) => receiptHandle),
      0,
    );
  }

  /** Where that fails, the message is visible already or will be in time: no reason to withhold what was found out. */
  async #hide(handles: string[], seconds: number): Promise<void> {
    await Promise.allSettled(handles.map((handle) => this.#acknowledger.changeVisibility(handle, seconds)));
  }
}
