import type { MessageAttributeValue } from '@aws-sdk/client-sqs';
import { asMessageText, MAX_ATTRIBUTES } from '@orders/shared/sqs/message-limits.ts';
import type { MessageToSend } from '@orders/shared/sqs/message-sender.ts';
import { z } from 'zod';
import type { OrderFate } from '../domain/order-fate.ts';
import { REJECTION_REASONS, type RejectionReason } from '../domain/outcome.ts';
import { groupOf, type ReceivedMessage } from './received-message.ts';

const REASONS = Object.entries(REJECTION_REASONS)
  .map(([code, meaning]) => `${code} (${meaning})`)
  .join(', ');

/**
 * Why a message is in the DLQ. Travels in one message attribute, {@link DEAD_LETTER_ATTRIBUTE}, as JSON, since a
 * message has at most ten attributes and the body stays as it was sent. A message that SQS itself moved there
 * (`maxReceiveCount`) has none.
 */
export const deadLetterSchema = z.object({
  reason: z.string().describe(`stable code: ${REASONS}`),
  detail: z.string().describe('details, without values of the order'),
  errorClass: z.string(),
  attempts: z.int().describe('how often SQS delivered the message'),
  failures: z.int().describe('how often its handling failed, as counted by the consumer that rejected it'),
  firstSeenAt: z.string(),
  deadLetteredAt: z.string(),
  codeVersion: z.string().describe('release that rejected it'),
  traceId: z.string(),
  messageId: z.string().describe('id of the message in the order queue'),
  movedAttributes: z
    .record(
      z.string(),
      z.object({
        DataType: z.string(),
        StringValue: z.string().optional(),
        BinaryValue: z.string().optional(),
      }),
    )
    .optional()
    .describe('attributes that did not fit next to this one; binary values in base64'),
});

export type DeadLetter = z.infer<typeof deadLetterSchema>;

export const DEAD_LETTER_ATTRIBUTE = 'deadLetter';
const MAX_DETAIL_CHARACTERS = 1_000;

/** The message as it goes to the DLQ: its body and all its attributes, and the reason. */
export function toDeadLetterMessage(
  message: ReceivedMessage,
  reason: Omit<DeadLetter, 'movedAttributes'> & { reason: RejectionReason },
): MessageToSend {
  const { [DEAD_LETTER_ATTRIBUTE]: _previous, ...attributes } = cleanAttributes(message.rawAttributes);
  // The small ones: JSON and base64 may make a large one larger than the DLQ takes.
  const moved = Object.entries(attributes)
    .map(([name, attribute]) => [name, attributeAsJson(attribute)] as const)
    .toSorted(([, a], [, b]) => JSON.stringify(b).length - JSON.stringify(a).length)
    .slice(MAX_ATTRIBUTES - 1);
  for (const [name] of moved) delete attributes[name];
  const letter: DeadLetter = {
    ...reason,
    detail: asMessageText(reason.detail).slice(0, MAX_DETAIL_CHARACTERS),
    ...(moved.length > 0 ? { movedAttributes: Object.fromEntries(moved) } : {}),
  };
  return {
    ...groupOf(message),
    MessageBody: message.body,
    MessageAttributes: {
      ...attributes,
      [DEAD_LETTER_ATTRIBUTE]: { DataType: 'String', StringValue: JSON.stringify(letter) },
    },
  };
}

/** An attribute as JSON has it; binary values in base64. */
export function attributeAsJson({ DataType = 'String', StringValue, BinaryValue }: MessageAttributeValue) {
  return { DataType, StringValue, BinaryValue: BinaryValue && Buffer.from(BinaryValue).toString('base64') };
}

/** The same, for the order that was rejected. */
export function rejectionOf(
  order: Pick<OrderFate, 'orderId' | 'contentHash' | 'clientId'>,
  letter: Omit<DeadLetter, 'movedAttributes'>,
): OrderFate {
  const at = new Date(letter.deadLetteredAt);
  const firstSeenAt = new Date(letter.firstSeenAt);
  const isDate = (date: Date) => !Number.isNaN(date.getTime());
  return {
    ...order,
    kind: 'REJECTED',
    messageId: letter.messageId,
    reason: letter.reason,
    detail: letter.detail,
    attempts: letter.attempts,
    failures: letter.failures,
    // Whoever can send to the queue wrote it.
    at: isDate(at) ? at : new Date(),
    firstSeenAt: isDate(firstSeenAt) ? firstSeenAt : isDate(at) ? at : new Date(),
    release: letter.codeVersion,
    traceId: letter.traceId,
  };
}

/** The way back: the message as it was before it went to the DLQ. */
export function fromDeadLetterMessage(message: ReceivedMessage): {
  original: MessageToSend;
  deadLetter: DeadLetter | undefined;
} {
  const { [DEAD_LETTER_ATTRIBUTE]: letter, ...attributes } = cleanAttributes(message.rawAttributes);
  const deadLetter = parseDeadLetter(letter?.StringValue);
  const moved = Object.entries(deadLetter?.movedAttributes ?? {}).map(
    ([name, { DataType, StringValue, BinaryValue }]) => [
      name,
      BinaryValue === undefined
        ? { DataType, StringValue }
        : { DataType, BinaryValue: Buffer.from(BinaryValue, 'base64') },
    ],
  );
  return {
    original: {
      ...groupOf(message),
      MessageBody: message.body,
      MessageAttributes: { ...attributes, ...Object.fromEntries(moved) },
    },
    deadLetter,
  };
}

function parseDeadLetter(json: string | undefined): DeadLetter | undefined {
  try {
    return deadLetterSchema.safeParse(JSON.parse(json ?? 'null')).data;
  } catch {
    return undefined;
  }
}

/** The members that SQS accepts when they are sent: the SDK's type also has lists, which no call accepts. */
function cleanAttributes(
  attributes: Record<string, MessageAttributeValue>,
): Record<string, MessageAttributeValue> {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, { DataType, StringValue, BinaryValue }]) => [
      name,
      BinaryValue === undefined ? { DataType, StringValue } : { DataType, BinaryValue },
    ]),
  );
}
