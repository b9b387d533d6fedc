import { setTimeout as sleep } from 'node:timers/promises';
import { ReceiveMessageCommand, type SQSClient, StartMessageMoveTaskCommand } from '@aws-sdk/client-sqs';
import { NoKeyError } from '@orders/shared/encryption/errors.ts';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { decryptMessages, isEncrypted } from '@orders/shared/order/encrypted-message.ts';
import { MAX_BATCH_ENTRIES } from '@orders/shared/sqs/batch.ts';
import { MessageSender, type MessageToSend } from '@orders/shared/sqs/message-sender.ts';
import { queueAttributes } from '@orders/shared/sqs/queue-admin.ts';
import { Acknowledger } from '../queue/acknowledger.ts';
import { type DeadLetter, fromDeadLetterMessage } from '../queue/dead-letter.ts';
import { type ReceivedMessage, toReceivedMessage } from '../queue/received-message.ts';
import { SqsClock, type SqsMoment } from './sqs-clock.ts';

export type DeadLetteredMessage = {
  message: ReceivedMessage;
  deadLetter: DeadLetter | undefined;
  /** Of an encrypted one: the bodies in it, or why they cannot be read here. */
  decrypted?: string[] | Error | undefined;
};

/** Why a redrive left a message: it was dead-lettered after the run began, or another order with its id was stored. */
export type LeftBecause = 'LATER' | 'CONFLICT';

export type RedriveOptions = {
  /** At most so many messages; by default all that were there when it began. */
  limit?: number;
  /** At most so many messages a second. */
  ratePerSecond?: number;
  /** Ends it early: what is under way is finished, and nothing stays hidden. */
  signal?: AbortSignal;
  /** Only tells what would be moved. */
  dryRun?: boolean;
  /** Only these; the others are hidden from other readers until the end, then released. */
  where?: (message: DeadLetteredMessage) => boolean;
  /**
   * Also those of reason `CONFLICT`. While the order that has their id is stored, they come back; once retention has
   * archived it, they are stored under its id.
   */
  conflicts?: boolean;
  /** Called for each message that was moved, or would be; a promise is waited for. */
  onMoved?: (moved: DeadLetteredMessage) => unknown;
  /** Called for each that `where` lets pass and that is left all the same. */
  onLeft?: (left: DeadLetteredMessage, because: LeftBecause) => void;
  /** How many may be moved now, all by default. While it says 0 it is asked again, and all stays hidden. */
  room?: () => number | Promise<number>;
  /** Resolves before any of these is touched. Where it rejects, none is, and the redrive ends. */
  before?: (messages: readonly DeadLetteredMessage[]) => Promise<void>;
  /** What is sent: by default the message as it was. Of undefined nothing is, and the message is just deleted. */
  toSend?: (message: DeadLetteredMessage) => MessageToSend | undefined;
  /** Called between send and delete with the id that the message has in the order queue; deleted only if it returns. */
  onSent?: (message: DeadLetteredMessage, messageId: string) => void;
  /** Called for each that was not moved, or of which that is not known. */
  onFailed?: (message: DeadLetteredMessage, error: unknown) => void;
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
/** So many batches of nothing but what came later: whatever was there before is behind them, or comes no more. */
const LATER_TRIES = 10;

/** By message id, the receipts of messages that are hidden from other readers; that which was hidden first is first. */
type Hidden = Map<string, { receiptHandle: string; sinceMs: number }>;

/** What operators do with the DLQ. A message is deleted only once it is in the order queue. */
export class DeadLetterQueue {
  readonly #client: SQSClient;
  readonly #queueUrl: string;
  readonly #deadLetterQueueUrl: string;
  readonly #acknowledger: Acknowledger;
  readonly #sender: MessageSender;
  readonly #clock: SqsClock;
  readonly #cipher: MessageCipher | undefined;

  /** @param cipher for what is encrypted; without it, such messages are moved all the same, and cannot be read */
  constructor(
    client: SQSClient,
    { queueUrl, deadLetterQueueUrl }: { queueUrl: string; deadLetterQueueUrl: string },
    cipher?: MessageCipher,
  ) {
    this.#cipher = cipher;
    this.#client = client;
    this.#clock = new SqsClock(client);
    this.#queueUrl = queueUrl;
    this.#sender = new MessageSender(client, queueUrl);
    this.#deadLetterQueueUrl = deadLetterQueueUrl;
    this.#acknowledger = new Acknowledger(client, deadLetterQueueUrl);
  }

  /** Up to `limit` messages. They stay: each is hidden from other readers while this looks, then released. */
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
      const handles = seen.map(({ message }) => message.receiptHandle);
      await this.#hide(handles, 0);
    }
  }

  /**
   * All messages, a batch at a time; of each only its id and its receipt are kept in memory. They stay: each is hidden
   * from other readers until the end, then released. Ends when nothing comes that was not seen before; what others
   * hold is not seen.
   */
  async *readAll(): AsyncGenerator<DeadLetteredMessage[]> {
    const hidden: Hidden = new Map();
    try {
      yield* this.#receiveUnseen(hidden, () => MAX_BATCH_ENTRIES);
    } finally {
      await this.#release(hidden);
    }
  }

  /**
   * Moves messages back to the order queue, without the reason that was attached: sends first, then deletes. Killed
   * in between, a message is in both queues, which the consumer's unique constraint makes harmless.
   *
   * Takes only what was sent before it began, by the time that SQS stamped (a message that SQS itself moved to the DLQ
   * keeps its own). So what comes back to the DLQ is left for the next run, and however many run at once, and whatever
   * is dead-lettered meanwhile, each run moves a message at most once, and ends.
   * @returns how many were moved, or would be
   * @throws {RedriveIncompleteError} some could not be moved; they are in the DLQ as before
   */
  async redrive({
    limit = Number.POSITIVE_INFINITY,
    ratePerSecond,
    signal,
    dryRun = false,
    where = () => true,
    conflicts = false,
    onMoved,
    onLeft,
    room = () => Number.POSITIVE_INFINITY,
    before,
    onFailed,
    ...sending
  }: RedriveOptions): Promise<number> {
    const hidden: Hidden = new Map();
    const failures: unknown[] = [];
    let moved = 0;
    let began: SqsMoment | undefined;
    const wasThere = ({ message: { sentAt } }: DeadLetteredMessage) => {
      // At the first answer, so that SQS has told its time.
      began ??= this.#clock.endOfSecond();
      return sentAt === undefined || sentAt.getTime() <= began.atMs;
    };
    const isDue = (message: DeadLetteredMessage) => {
      if (!where(message)) return false;
      const isConflict = message.deadLetter?.reason === 'CONFLICT' && !conflicts;
      const because = !wasThere(message) ? 'LATER' : isConflict ? 'CONFLICT' : undefined;
      if (because) onLeft?.(message, because);
      return because === undefined;
    };
    let batchStartedAt = performance.now();
    try {
      for await (const messages of this.#receiveUnseen(
        hidden,
        () => (signal?.aborted ? 0 : limit - moved),
        wasThere,
      )) {
        const due = messages.filter(isDue);
        if (due.length > 0 && !dryRun) await began?.passed();
        while (due.length > 0 && !signal?.aborted) {
          const batch = due.splice(0, await room());
          if (batch.length === 0) {
            await this.#renew(hidden);
            continue;
          }
          if (!dryRun) await before?.(batch);
          const results = dryRun
            ? []
            : await Promise.allSettled(batch.map((message) => this.#move(message, sending)));
          const done = batch.filter((_, index) => dryRun || results[index]?.status === 'fulfilled');
          for (const [index, result] of results.entries()) {
            if (result.status === 'fulfilled') continue;
            failures.push(result.reason);
            onFailed?.(batch[index] as DeadLetteredMessage, result.reason);
          }
          moved += done.length;
          for (const message of done) {
            if (!dryRun) hidden.delete(message.message.messageId);
            await onMoved?.(message);
          }
          if (ratePerSecond && !dryRun) {
            const elapsedMs = performance.now() - batchStartedAt;
            const restMs = Math.max(0, (done.length / ratePerSecond) * 1_000 - elapsedMs);
            await sleep(restMs, undefined, signal && { signal }).catch(() => {});
          }
          batchStartedAt = performance.now();
        }
      }
    } finally {
      await this.#release(hidden);
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

  /**
   * Batches of messages that were not seen before, which it hides and keeps hidden. Ends when there are no more, or
   * none for long of which `wasThere` is true.
   */
  async *#receiveUnseen(
    hidden: Hidden,
    most: () => number,
    wasThere: (message: DeadLetteredMessage) => boolean = () => true,
  ): AsyncGenerator<DeadLetteredMessage[]> {
    for (let nothingNew = 0, later = 0; nothingNew < READ_TRIES && later < LATER_TRIES && most() > 0; ) {
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
      if (fresh.length === 0) continue;
      later = fresh.some(wasThere) ? 0 : later + 1;
      yield fresh;
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
        // LocalStack 3.4 knows only the older name.
        AttributeNames: ['All'],
      }),
    );
    return Promise.all(
      Messages.map(toReceivedMessage).map(async (message) => ({
        message,
        deadLetter: fromDeadLetterMessage(message).deadLetter,
        decrypted: await this.#decrypt(message.body),
      })),
    );
  }

  async #decrypt(body: string): Promise<string[] | Error | undefined> {
    if (!isEncrypted(body)) return undefined;
    if (!this.#cipher) return new NoKeyError('no key was given');
    return decryptMessages(body, this.#cipher).catch((error: Error) => error);
  }

  /** Sends, then deletes. */
  async #move(
    letter: DeadLetteredMessage,
    {
      toSend = ({ message }) => fromDeadLetterMessage(message).original,
      onSent,
    }: Pick<RedriveOptions, 'toSend' | 'onSent'>,
  ): Promise<void> {
    const message = toSend(letter);
    if (message) {
      const messageId = await this.#sender.send(message);
      onSent?.(letter, messageId);
    }
    await this.#acknowledger.delete(letter.message.receiptHandle);
  }

  async #release(hidden: Hidden): Promise<void> {
    const handles = [...hidden.values()].map(({ receiptHandle }) => receiptHandle);
    await this.#hide(handles, 0);
  }

  /** Where that fails, the message is visible already or will be in time: no reason to withhold what was found out. */
  async #hide(handles: string[], seconds: number): Promise<void> {
    await Promise.allSettled(handles.map((handle) => this.#acknowledger.changeVisibility(handle, seconds)));
  }
}
