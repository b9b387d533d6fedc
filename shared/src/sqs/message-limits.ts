import type { MessageAttributeValue } from '@aws-sdk/client-sqs';

/** Of one message: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html */
export const MAX_ATTRIBUTES = 10;

type Attributes = Readonly<Record<string, string>>;
type Worked = { sizeBytes: number; values: Record<string, MessageAttributeValue> };

/** Messages share few attribute objects, always the same ones. */
const worked = new WeakMap<Attributes, Worked>();

function workOut(attributes: Attributes): Worked {
  const known = worked.get(attributes);
  if (known) return known;
  const entries = Object.entries(attributes);
  const byteLengths = entries.map(
    ([name, value]) => Buffer.byteLength(name) + 'String'.length + Buffer.byteLength(value),
  );
  const values = entries.map(([name, value]) => [name, { DataType: 'String', StringValue: value }] as const);
  const made = {
    sizeBytes: byteLengths.reduce((sum, length) => sum + length, 0),
    values: Object.fromEntries(values),
  };
  if (Object.isFrozen(attributes)) worked.set(attributes, made);
  return made;
}

/**
 * Size of a message as SQS counts it: the body, and of each attribute its name, type and value, in UTF-8
 * (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html).
 */
export const messageSizeBytes = (body: string, attributes: Attributes): number =>
  Buffer.byteLength(body) + workOut(attributes).sizeBytes;

/**
 * Replaces each character that SQS does not accept with U+FFFD: control characters, U+FFFE, U+FFFF, lone surrogates
 * (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html#API_SendMessage_RequestParameters).
 */
export const asMessageText = (text: string): string =>
  text.toWellFormed().replaceAll(/[^\t\n\r -\uFFFD]/g, '\uFFFD');

/** Whether SQS accepts a text as the body of a message, apart from its size. */
export const isMessageBody = (text: string): boolean => text.length > 0 && asMessageText(text) === text;

/** Attributes as SQS expects them. A frozen object always returns the same ones: do not change them. */
export const stringAttributes = (attributes: Attributes): Record<string, MessageAttributeValue> =>
  workOut(attributes).values;
