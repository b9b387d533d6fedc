import {
  ChangeMessageVisibilityBatchCommand,
  DeleteMessageBatchCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { MAX_BATCH_ENTRIES, sendEntries } from '@orders/shared/sqs/batch.ts';
import { Batcher } from '@orders/shared/sqs/batcher.ts';

/** A lease of SQS lasts at most this long from its receive, however often it is extended. */
export const MAX_VISIBILITY_SECONDS = 12 * 60 * 60;

type VisibilityChange = { ReceiptHandle: string; VisibilityTimeout: number };

/**
 * Deletes messages and changes their visibility, coalesced into batches. Has a client of its own, so that long polls
 * cannot starve it of connections.
 */
export class Acknowledger {
  readonly #deletes: Batcher<{ ReceiptHandle: string }, unknown>;
  readonly #changes: Batcher<VisibilityChange, unknown>;
  readonly #maxDeleting: number;

  constructor(client: SQSClient, queueUrl: string, { lingerMs = 5, maxInFlight = 10 } = {}) {
    this.#maxDeleting = MAX_BATCH_ENTRIES * maxInFlight;
    const limits = { maxEntries: MAX_BATCH_ENTRIES, maxInFlight, lingerMs };
    this.#deletes = new Batcher<{ ReceiptHandle: string }, unknown>({
      ...limits,
      execute: (entries) =>
        sendEntries(entries, (Entries) =>
          client.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries })),
        ),
    });
    this.#changes = new Batcher<VisibilityChange, unknown>({
      ...limits,
      execute: (entries) =>
        sendEntries(entries, (Entries) =>
          client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: queueUrl, Entries })),
        ),
    });
  }

  /** Whether so many more deletes fit into what may be under way at once. */
  hasRoomFor(deletes: number): boolean {
    return this.#deletes.size + deletes <= this.#maxDeleting;
  }

  /** Resolves when SQS has confirmed. A stale handle may be confirmed as well and delete nothing. */
  async delete(receiptHandle: string): Promise<void> {
    await this.#deletes.add({ ReceiptHandle: receiptHandle });
  }

  /** Resolves with the errors of those that SQS did not confirm, by their handles. Never rejects. */
  async deleteAll(receiptHandles: readonly string[]): Promise<ReadonlyMap<string, Error>> {
    const results = await this.#deletes.addAll(receiptHandles.map((ReceiptHandle) => ({ ReceiptHandle })));
    const errors = new Map<string, Error>();
    for (const [index, receiptHandle] of receiptHandles.entries()) {
      const result = results[index];
      if (result instanceof Error) errors.set(receiptHandle, result);
    }
    return errors;
  }

  /** From now on the message is invisible for so long; 0 releases it at once. Whole seconds, at most 12 h. */
  async changeVisibility(receiptHandle: string, seconds: number): Promise<void> {
    const VisibilityTimeout = Math.min(MAX_VISIBILITY_SECONDS, Math.max(0, Math.ceil(seconds)));
    await this.#changes.add({ ReceiptHandle: receiptHandle, VisibilityTimeout });
  }

  async idle(): Promise<void> {
    await Promise.all([this.#deletes.idle(), this.#changes.idle()]);
  }
}
