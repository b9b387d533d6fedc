import { hash } from 'node:crypto';
import { UUID } from '@orders/shared/runtime/uuid.ts';
import { MAX_ATTRIBUTES, stringAttributes } from '@orders/shared/sqs/message-limits.ts';
import type { MessageToSend } from '@orders/shared/sqs/message-sender.ts';
import { z } from 'zod';
import { fromDeadLetterMessage } from '../queue/dead-letter.ts';
import {
  isParked,
  nextRedriveMark,
  REDRIVE_ATTRIBUTE,
  redriveCountOf,
  withRedriveMark,
} from '../queue/redrive-mark.ts';
import type { DeadLetteredMessage } from './dead-letter-queue.ts';
import { MOVED_BY_SQS, read } from './diagnosis.ts';
import { NotRepairableError, type Repair, repairMessage } from './repair.ts';

/** What a plan says of one message of the dead-letter queue. */
export const planEntrySchema = z.object({
  messageId: z.string(),
  /** Of the body and the attributes that it had when it was planned: {@link letterHash}. */
  hash: z.string(),
  reason: z.string(),
  action: z.enum(['redrive', 'repair', 'discard', 'leave']),
  /** Why it is left. */
  why: z.string().optional(),
  /** That are in it, with their content as it is sent; the store is asked for them. */
  orders: z.array(
    z.object({ orderId: z.string(), contentHash: z.string(), clientId: z.string().optional() }),
  ),
  /** Of a repaired message: what is sent in place of its body, the textual attributes that go with it, what differs. */
  body: z.string().optional(),
  attributes: z.record(z.string(), z.string()).optional(),
  changes: z
    .array(z.object({ path: z.string(), before: z.unknown().optional(), after: z.unknown().optional() }))
    .optional(),
});
export type PlanEntry = z.infer<typeof planEntrySchema>;

export type PlanOptions = {
  /** Applied to every message; what it does not make good is left. */
  repair?: Repair | undefined;
  /** The repair may change whose order it is. */
  identity?: boolean;
  /** Also what this release cannot read, for a release that can. */
  unreadable?: boolean;
  /** Also those of reason `CONFLICT`. */
  conflicts?: boolean;
  /** Is to be deleted, not sent. */
  discard?: boolean;
};

/** Of all that is in a message. SQS never changes it: another hash is another message. */
export function letterHash({ message }: Pick<DeadLetteredMessage, 'message'>): string {
  const attributes = Object.entries(message.rawAttributes)
    .map(([name, { DataType, StringValue, BinaryValue }]) => [
      name,
      DataType,
      StringValue ?? Buffer.from(BinaryValue ?? []).toString('base64'),
    ])
    .toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1));
  return hash('sha256', JSON.stringify([message.body, attributes]));
}

/** What is to be done with a message, as this release sees it. */
export async function planEntry(letter: DeadLetteredMessage, options: PlanOptions): Promise<PlanEntry> {
  const { message, deadLetter } = letter;
  const entry = {
    messageId: message.messageId,
    hash: letterHash(letter),
    reason: deadLetter?.reason ?? MOVED_BY_SQS,
    orders: [] as PlanEntry['orders'],
  };
  if (options.discard) return { ...entry, action: 'discard' };
  const why = mustStay(letter, options);
  if (why) return { ...entry, action: 'leave', why };
  if (options.repair) return { ...entry, ...(await repairedEntry(message.body, options.repair, options)) };
  return { ...entry, ...asItIs(letter, options) };
}

/** Why a message is left whatever is in it. */
function mustStay(letter: DeadLetteredMessage, { conflicts }: PlanOptions): string | undefined {
  const { message, deadLetter } = letter;
  if (isParked(message)) return `parked: redriven ${redriveCountOf(message)} times`;
  if (deadLetter?.reason === 'CONFLICT' && !conflicts)
    return 'CONFLICT: another order with its id is stored (--conflicts)';
  const { MessageAttributes } = fromDeadLetterMessage(message).original;
  if (Object.keys({ ...MessageAttributes, [REDRIVE_ATTRIBUTE]: {} }).length > MAX_ATTRIBUTES)
    return 'ten attributes: no room to count its redrives';
  return undefined;
}

async function repairedEntry(
  body: string,
  repair: Repair,
  { identity = false }: PlanOptions,
): Promise<Pick<PlanEntry, 'action'> & Partial<PlanEntry>> {
  try {
    const { order, ...repaired } = await repairMessage(body, repair, { identity });
    return { action: 'repair', orders: [order], ...repaired };
  } catch (error) {
    if (error instanceof NotRepairableError) return { action: 'leave', why: error.message };
    throw error;
  }
}

/** Nobody could tell what becomes of a message that names no order. */
function asItIs(
  letter: DeadLetteredMessage,
  { unreadable }: PlanOptions,
): Pick<PlanEntry, 'action'> & Partial<PlanEntry> {
  const readings = read(letter);
  const problem = readings.find((reading) => reading.problem)?.problem;
  if (problem && !unreadable)
    return { action: 'leave', why: `still ${problem.reason} (${problem.detail}) (--unreadable)` };
  const encrypted = readings.find((reading) => reading.encrypted)?.encrypted;
  if (encrypted) return { action: 'leave', why: `encrypted: ${encrypted.detail}` };
  const orders = readings.flatMap(({ claimed }) =>
    claimed && UUID.test(claimed.orderId)
      ? { ...claimed, orderId: claimed.orderId.toLowerCase(), clientId: claimed.clientId }
      : [],
  );
  if (orders.length < readings.length) return { action: 'leave', why: 'names no order' };
  return { action: 'redrive', orders };
}

/** What a plan sends for a message: all its attributes, and how often it was redriven. */
export function plannedMessage(
  { message, deadLetter }: DeadLetteredMessage,
  { body, attributes = {} }: Pick<PlanEntry, 'body' | 'attributes'>,
  plan: string,
): MessageToSend {
  const { original } = fromDeadLetterMessage(message);
  const MessageAttributes = { ...original.MessageAttributes, ...stringAttributes(attributes) };
  const planned = { ...original, MessageBody: body ?? original.MessageBody, MessageAttributes };
  return withRedriveMark(planned, nextRedriveMark(message, deadLetter, plan));
}
