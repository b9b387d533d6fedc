import { DEAD_LETTER_HEADROOM_BYTES } from '@orders/shared/sqs/queues.ts';
import { expect, test } from 'vitest';
import { DEAD_LETTER_ATTRIBUTE, fromDeadLetterMessage, toDeadLetterMessage } from './dead-letter.ts';
import { toReceivedMessage } from './received-message.ts';

const reason = {
  reason: 'INVALID_ORDER' as const,
  detail: 'items: too few',
  errorClass: 'UnreadableMessageError',
  attempts: 3,
  failures: 0,
  firstSeenAt: '2026-11-22T09:00:00.000Z',
  deadLetteredAt: '2026-11-22T09:00:01.000Z',
  codeVersion: '1.2.3',
  traceId: 'a'.repeat(32),
  messageId: 'm-1',
};
const attribute = (n: number) =>
  n % 2 === 0
    ? { DataType: 'String', StringValue: `value ${n}` }
    : { DataType: 'Binary', BinaryValue: new Uint8Array([n, 0, 255]) };
const received = (attributes: number, body = 'body') =>
  toReceivedMessage({
    Body: body,
    MessageAttributes: Object.fromEntries(
      Array.from({ length: attributes }, (_, n) => [`a${n}`, attribute(n)]),
    ),
  });
/** What SQS would deliver of a message that was sent. */
const delivered = ({ MessageBody, MessageAttributes }: ReturnType<typeof toDeadLetterMessage>) =>
  toReceivedMessage({ Body: MessageBody, MessageAttributes });

test.each([0, 3, 9, 10])('dead letter, of a message with %i attributes, goes back as it came', (count) => {
  const message = received(count);
  const sent = toDeadLetterMessage(message, reason);
  expect(Object.keys(sent.MessageAttributes).length).toBeLessThanOrEqual(10);
  const { original, deadLetter } = fromDeadLetterMessage(delivered(sent));
  expect(original.MessageBody).toBe('body');
  expect(Object.keys(original.MessageAttributes)).toEqual(Object.keys(message.rawAttributes));
  for (const [name, { BinaryValue, StringValue }] of Object.entries(message.rawAttributes)) {
    expect(original.MessageAttributes[name]?.StringValue).toBe(StringValue);
    if (BinaryValue)
      expect([...(original.MessageAttributes[name]?.BinaryValue ?? [])]).toEqual([...BinaryValue]);
  }
  expect(deadLetter).toMatchObject(reason);
});

test('dead letter, of a message with a group, keeps it there and back', () => {
  const message = toReceivedMessage({ Body: 'body', Attributes: { MessageGroupId: 'a-client' } });
  const sent = toDeadLetterMessage(message, reason);
  expect(sent).toMatchObject({ MessageGroupId: 'a-client' });
  const back = toReceivedMessage({ Body: 'body', Attributes: { MessageGroupId: 'a-client' } });
  expect(fromDeadLetterMessage(back).original).toMatchObject({ MessageGroupId: 'a-client' });
  expect(toDeadLetterMessage(received(1), reason)).not.toHaveProperty('MessageGroupId');
});

test.each([0, 4, 9])('dead letter, of a message whose attribute %i is large, is not much larger', (large) => {
  const message = received(10);
  const value = { DataType: 'Binary', BinaryValue: new Uint8Array(200_000) };
  message.rawAttributes[`a${large}`] = value;
  const { MessageAttributes } = toDeadLetterMessage(message, reason);
  const bytes = Object.values(MessageAttributes)
    .map(({ StringValue = '', BinaryValue = '' }) => StringValue.length + BinaryValue.length)
    .reduce((sum, length) => sum + length, 0);
  expect(bytes).toBeLessThan(200_000 + DEAD_LETTER_HEADROOM_BYTES);
  const { original } = fromDeadLetterMessage(delivered({ MessageBody: '', MessageAttributes }));
  expect(original.MessageAttributes[`a${large}`]).toEqual(value);
  expect(Object.keys(original.MessageAttributes)).toHaveLength(10);
});

test('dead letter, of a message that was dead-lettered before, carries only the newest reason', () => {
  const first = toDeadLetterMessage(received(2), reason);
  const second = toDeadLetterMessage(delivered(first), { ...reason, reason: 'CONFLICT' });
  expect(fromDeadLetterMessage(delivered(second)).deadLetter?.reason).toBe('CONFLICT');
  expect(Object.keys(second.MessageAttributes)).toEqual(['a0', 'a1', DEAD_LETTER_ATTRIBUTE]);
});

test('dead letter, with a detail that SQS would refuse, replaces the characters and keeps it short', () => {
  const { deadLetter } = fromDeadLetterMessage(
    delivered(
      toDeadLetterMessage(received(0), { ...reason, detail: `\u0000bad \ud800 ${'x'.repeat(5_000)}` }),
    ),
  );
  expect(deadLetter?.detail.startsWith('\uFFFDbad \uFFFD x')).toBe(true);
  expect(deadLetter?.detail.length).toBe(1_000);
});

test('dead letter, of a message that SQS itself moved or with a garbled reason, has none', () => {
  expect(fromDeadLetterMessage(received(1)).deadLetter).toBeUndefined();
  const garbled = toReceivedMessage({
    Body: '',
    MessageAttributes: { [DEAD_LETTER_ATTRIBUTE]: { DataType: 'String', StringValue: '{' } },
  });
  expect(fromDeadLetterMessage(garbled).deadLetter).toBeUndefined();
});
