import { setTimeout as sleep } from 'node:timers/promises';
import type { BatchResultErrorEntry } from '@aws-sdk/client-sqs';
import { backoffMs } from './backoff.ts';

/** Limits of one batch request (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html). */
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
    this.senderFault = entry.SenderFault ?? false;
  }
}

type BatchAnswer<S> = { Successful?: S[] | undefined; Failed?: BatchResultErrorEntry[] | undefined };

export type BatchRetry = { attempts: number; baseMs: number; maxMs: number };
const DEFAULT_RETRY: BatchRetry = { attempts: 3, baseMs: 50, maxMs: 1_000 };

/**
 * Sends up to ten entries in one request and answers one result an entry, in order. An answer of 200 can hold failed
 * entries: only these are sent again, and not those where the sender is at fault. An entry that the answer does not
 * mention counts as failed. A request that fails as a whole rejects (the SDK has done its retries by then).
 */
export async function sendEntries<E extends object, S extends { Id: string | undefined }>(
  entries: readonly E[],
  send: (entries: (E & { Id: string })[]) => Promise<BatchAnswer<S>>,
  retry: BatchRetry = DEFAULT_RETRY,
): Promise<(S | BatchEntryError)[]> {
  const results = new Map<number, S | BatchEntryError>();
  let pending = entries.map((_, index) => index);
  for (let attempt = 1; ; attempt++) {
    const answer = await send(pending.map((index) => ({ ...(entries[index] as E), Id: String(index) })));
    const succeeded = new Map(answer.Successful?.map((entry) => [Number(entry.Id), entry]));
    const failed = new Map(answer.Failed?.map((entry) => [Number(entry.Id), entry]));
    for (const index of pending) {
      const failure = new BatchEntryError(failed.get(index) ?? { Id: '', Code: 'NotAnswered', SenderFault: false });
      results.set(index, succeeded.get(index) ?? failure);
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
