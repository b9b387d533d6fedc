import type { Message, MessageAttributeValue } from '@aws-sdk/client-sqs';

/** A message as it was received, free of what may be absent in the SDK's type. */
export type ReceivedMessage = {
  messageId: string;
  receiptHandle: string;
  body: string;
  /** Values of textual attributes, for reading. */
  attributes: Record<string, string>;
  /** All attributes as they came, for sending on. */
  rawAttributes: Record<string, MessageAttributeValue>;
  /** Counts receives, not failures: crashes and looks from a console count too. */
  receiveCount: number;
  /** To whom fair queues count it: `MessageGroupId`. */
  groupId: string | undefined;
  sentAt: Date | undefined;
  firstReceivedAt: Date | undefined;
};

export function toReceivedMessage(message: Message): ReceivedMessage {
  const rawAttributes = message.MessageAttributes ?? {};
  const attributes: Record<string, string> = {};
  for (const [name, { StringValue }] of Object.entries(rawAttributes)) {
    if (StringValue !== undefined) attributes[name] = StringValue;
  }
  return {
    messageId: message.MessageId ?? '',
    receiptHandle: message.ReceiptHandle ?? '',
    body: message.Body ?? '',
    attributes,
    rawAttributes,
    receiveCount: Number(message.Attributes?.ApproximateReceiveCount ?? 1),
    groupId: message.Attributes?.MessageGroupId,
    sentAt: timestamp(message.Attributes?.SentTimestamp),
    firstReceivedAt: timestamp(message.Attributes?.ApproximateFirstReceiveTimestamp),
  };
}

/** For sending on what was received: it still counts to the same client. */
export const groupOf = ({ groupId }: Pick<ReceivedMessage, 'groupId'>): { MessageGroupId?: string } =>
  groupId === undefined ? {} : { MessageGroupId: groupId };

function timestamp(epochMs: string | undefined): Date | undefined {
  return epochMs === undefined ? undefined : new Date(Number(epochMs));
}
