import { setTimeout as sleep } from 'node:timers/promises';
import type { BatchResultErrorEntry } from '@aws-sdk/client-sqs';
import { backoffMs } from './backoff.ts';

/** Of one batch request (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html). */
export const MAX_BATCH_ENTRIES = 10;

/** One entry of a batch failed while the request itself was answered. */
export class BatchEntryError extends Error {
  override readonly name = 'BatchEntryError';
  readonly code: string;
  /** The entry itself is at fault: the same again fails again. */
  readonly senderFault: boolean;

  constructor(entry: BatchResultErrorEntry) {
    super(`SQS refused the entry: ${entry.Code ?? 'unknown'}`);
    this.code = entry.Code ?? 'unknown';
    // LocalStack says false of characters that SQS takes in no message.
    this.senderFault = entry.SenderFault || entry.Code === 'InvalidMessageContents';
  }
}

type BatchAnswer<S> = { Successful?: S[] | undefined; Failed?: BatchResultErrorEntry[] | undefined };

const NOT_ANSWERED: BatchResultErrorEntry = { Id: '', Code: 'NotAnswered', SenderFault: false };

/** `attempts` in all, the first one included. */
export type BatchRetry = { attempts: number; baseMs: number; maxMs: number };
const DEFAULT_RETRY: BatchRetry = { attempts: 3, baseMs: 50, maxMs: 1_000 };

/**
 * Sends up to ten entries in one request and answers one result an entry, in order. An answer of 200 can hold failed
 * entries: only these are sent again, and not those where the sender is at fault. An entry that the answer does not
 * mention counts as failed. When the first request fails as a whole, that rejects (the SDK has done its retries by
 * then); when a repeated one does, what it carried stays failed and what succeeded before stays so.
 */
export async function sendEntries<E extends object, S extends { Id: string | undefined }>(
  entries: readonly E[],
  send: (entries: (E & { Id: string })[]) => Promise<BatchAnswer<S>>,
  retry: BatchRetry = DEFAULT_RETRY,
): Promise<(S | BatchEntryError)[]> {
  const results = new Map<number, S | BatchEntryError>();
  let pending = entries.map((_, index) => index);
  for (let attempt = 1; ; attempt++) {
    const request = send(pending.map((index) => ({ ...(entries[index] as E), Id: String(index) })));
    const answer = await (attempt === 1 ? request : request.catch(() => undefined));
    if (!answer) break;
    const succeeded = new Map(answer.Successful?.map((entry) => [Number(entry.Id), entry]));
    const failed = new Map(answer.Failed?.map((entry) => [Number(entry.Id), entry]));
    for (const index of pending) {
      results.set(index, succeeded.get(index) ?? new BatchEntryError(failed.get(index) ?? NOT_ANSWERED));
    }
    pending = pending.filter((index) => {
      const result = results.get(index);
      return result instanceof BatchEntryError && !result.senderFault;
    });
    if (pending.length === 0 || attempt >= retry.attempts) break;
    await sleep(backoffMs(attempt - 1, retry));
  }
  return entries.map((_, index) => results.get(index) as S | BatchEntryError);
}
