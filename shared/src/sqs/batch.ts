import { setTimeout as sleep } from 'node:timers/promises';
import type { BatchResultErrorEntry } from '@aws-sdk/client-sqs';
import { backoffMs } from '../runtime/backoff.ts';

/** Limit of one batch request (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html). */
export const MAX_BATCH_ENTRIES = 10;

/** One entry of a batch failed, although the request itself was answered. */
export class BatchEntryError extends Error {
  override readonly name = 'BatchEntryError';
  /** As SQS documents it. `SenderFault` is not used: it is also true for throttling and expired permissions. */
  readonly code: string;

  constructor({ Code = 'unknown' }: Pick<BatchResultErrorEntry, 'Code'>) {
    const code = documented(Code);
    super(`SQS refused the entry: ${code}`);
    this.code = code;
  }
}

/** The query protocol prefixes some codes with a name space, and LocalStack says InvalidParameterValueException. */
const documented = (code: string) => code.replace(/^AWS\.SimpleQueueService\.|Exception$/g, '');

/**
 * Codes for messages that SQS never accepts. Every other code is temporary or can be fixed by an operator: throttling,
 * permissions, KMS keys, clocks, and codes not documented yet.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html#API_SendMessageBatch_Errors
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html#API_SendMessage_Errors
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
 */
const FAULTS_OF_MESSAGE = new Set([
  'InvalidMessageContents', // a character outside of those allowed
  'InvalidParameterValue', // longer than the queue's MaximumMessageSize; attributes that SQS does not take
  'InvalidAttributeValue', // what ElasticMQ says of such a character; SQS says it of queues alone
  'BatchRequestTooLong', // the same of a request, and so of the message that is alone in it
]);

/**
 * The receipt handle is no longer good: the message was deleted, or its visibility time is over.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html#API_ChangeMessageVisibility_Errors
 */
const STALE_HANDLES = new Set([
  'MessageNotInflight',
  'ReceiptHandleIsInvalid',
  'InvalidIdFormat',
  'InvalidParameterValue', // "The receipt handle has expired", https://github.com/aws/aws-sdk-java/issues/1628
]);

/** Whether SQS refused an entry, or a request with one entry, because of the message itself, and always will. */
export const isFaultOfMessage = (error: unknown): boolean => FAULTS_OF_MESSAGE.has(codeOf(error));

/** Whether the receipt handle is stale: another consumer may have the message by now. */
export const isStaleHandle = (error: unknown): boolean =>
  error instanceof BatchEntryError && STALE_HANDLES.has(error.code);

const codeOf = (error: unknown): string =>
  error instanceof BatchEntryError ? error.code : documented(String((error as Partial<Error> | null)?.name));

const isPermanent = (error: BatchEntryError) => isFaultOfMessage(error) || isStaleHandle(error);

type BatchAnswer<S> = { Successful?: S[] | undefined; Failed?: BatchResultErrorEntry[] | undefined };

const NOT_ANSWERED = { Code: 'NotAnswered' };

/** `attempts` includes the first one. */
export type BatchRetry = { attempts: number; baseMs: number; maxMs: number };
const DEFAULT_RETRY: BatchRetry = { attempts: 3, baseMs: 50, maxMs: 1_000 };

/**
 * Sends up to ten entries in one request and returns one result per entry, in order. A 200 answer can hold failed entries:
 * only those are sent again, except those that SQS never accepts. An entry missing from the answer counts as failed. A
 * request refused for its content is sent again entry by entry, to find the one at fault. If the first request fails for
 * any other reason, this rejects (the SDK has done its retries by then). If a repeated one does, its entries stay failed
 * and earlier successes stay.
 */
export async function sendEntries<E extends object, S extends { Id: string | undefined }>(
  entries: readonly E[],
  send: (entries: (E & { Id: string })[]) => Promise<BatchAnswer<S>>,
  retry: BatchRetry = DEFAULT_RETRY,
): Promise<(S | Error)[]> {
  const results = new Map<number, S | BatchEntryError>();
  let pending = entries.map((_, index) => index);
  for (let attempt = 1; ; attempt++) {
    const request = send(pending.map((index) => ({ ...(entries[index] as E), Id: String(index) })));
    const answer = await request.catch((error: unknown) => {
      if (attempt === 1) return refusedWhole(error, entries, (alone) => sendEntries(alone, send, retry));
    });
    if (!answer) break;
    if (Array.isArray(answer)) return answer;
    const succeeded = new Map(answer.Successful?.map((entry) => [entry.Id, entry]));
    const failed = new Map(answer.Failed?.map((entry) => [entry.Id, entry]));
    for (const index of pending) {
      const id = String(index);
      results.set(index, succeeded.get(id) ?? new BatchEntryError(failed.get(id) ?? NOT_ANSWERED));
    }
    pending = pending.filter((index) => {
      const result = results.get(index);
      return result instanceof BatchEntryError && !isPermanent(result);
    });
    if (pending.length === 0 || attempt >= retry.attempts) break;
    await sleep(backoffMs(attempt - 1, retry));
  }
  return entries.map((_, index) => results.get(index) as S | BatchEntryError);
}

/**
 * One after the other, because the sender may not want the rest any more by then.
 * @throws any error that is not the message's fault
 */
async function refusedWhole<E, R>(
  error: unknown,
  entries: readonly E[],
  send: (entries: readonly E[]) => Promise<(R | Error)[]>,
): Promise<(R | Error)[]> {
  if (!isFaultOfMessage(error)) throw error;
  if (entries.length === 1) return [new BatchEntryError({ Code: codeOf(error) })];
  const results: (R | Error)[] = [];
  for (const entry of entries) results.push(...(await send([entry]).catch((cause: Error) => [cause])));
  return results;
}
