import { hash } from 'node:crypto';
import type { MessageToSend } from '@orders/shared/sqs/message-sender.ts';
import { z } from 'zod';
import type { DeadLetter } from './dead-letter.ts';
import type { ReceivedMessage } from './received-message.ts';

/** The message attribute that a message keeps once it was moved back by a plan, through every rejection. */
export const REDRIVE_ATTRIBUTE = 'redrive';
/** Redriven so often, a message is parked: a plan leaves it in the dead-letter queue. */
export const MAX_REDRIVES = 3;

const redriveMarkSchema = z.object({
  id: z.string().describe('the same whenever this plan sends this message'),
  plan: z.string(),
  redriveCount: z.int().min(1),
  messageId: z.string().describe('that it had in the order queue when it was first sent'),
  firstSeenAt: z.string().describe('when it was first received'),
});
export type RedriveMark = z.infer<typeof redriveMarkSchema>;

/** Undefined where no plan ever moved it, or the attribute is none of ours. */
export function redriveMarkOf({ attributes }: Pick<ReceivedMessage, 'attributes'>): RedriveMark | undefined {
  try {
    return redriveMarkSchema.safeParse(JSON.parse(attributes[REDRIVE_ATTRIBUTE] ?? 'null')).data;
  } catch {
    return undefined;
  }
}

/** How often plans moved it back. */
export const redriveCountOf = (message: Pick<ReceivedMessage, 'attributes'>): number =>
  redriveMarkOf(message)?.redriveCount ?? 0;

export const isParked = (message: Pick<ReceivedMessage, 'attributes'>): boolean =>
  redriveCountOf(message) >= MAX_REDRIVES;

/** The mark with which a plan sends a message of the dead-letter queue. */
export function nextRedriveMark(
  message: ReceivedMessage,
  deadLetter: DeadLetter | undefined,
  plan: string,
): RedriveMark {
  const previous = redriveMarkOf(message);
  const firstSeenAt = (message.firstReceivedAt ?? message.sentAt ?? new Date()).toISOString();
  return {
    id: hash('sha256', `${plan}:${message.messageId}`),
    plan,
    redriveCount: (previous?.redriveCount ?? 0) + 1,
    messageId: previous?.messageId ?? deadLetter?.messageId ?? message.messageId,
    firstSeenAt: previous?.firstSeenAt ?? deadLetter?.firstSeenAt ?? firstSeenAt,
  };
}

export function withRedriveMark(message: MessageToSend, mark: RedriveMark): MessageToSend {
  const attribute = { DataType: 'String', StringValue: JSON.stringify(mark) };
  return { ...message, MessageAttributes: { ...message.MessageAttributes, [REDRIVE_ATTRIBUTE]: attribute } };
}
