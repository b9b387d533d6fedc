import { MAX_REQUEST_BYTES } from '@orders/shared/queues.ts';
import { describe, expect, test } from 'vitest';
import { FakeSqs } from '../../testing/fake-sqs.ts';
import { DEAD_LETTER_ATTRIBUTE } from '../sqs/dead-letter.ts';
import { DeadLetterQueue, ofRelease, RedriveIncompleteError } from './dead-letter-queue.ts';

const letter = (messageId: string, codeVersion = '1', deadLetteredAt = '') => ({
  [DEAD_LETTER_ATTRIBUTE]: {
    DataType: 'String',
    StringValue: JSON.stringify({
      reason: 'NOT_JSON',
      detail: '',
      errorClass: 'E',
      attempts: 1,
      failures: 0,
      firstSeenAt: '',
      deadLetteredAt,
      codeVersion,
      traceId: '',
      messageId,
    }),
  },
});

function subject(bodies: string[]) {
  const sqs = new FakeSqs();
  for (const [index, body] of bodies.entries()) sqs.put(body, { MessageAttributes: letter(`old-${index}`) });
  const queue = new DeadLetterQueue(sqs.client, { queueUrl: 'queue', deadLetterQueueUrl: 'dlq' });
  return { sqs, queue };
}

const bytesOf = (entries: { MessageBody?: string }[]) =>
  entries.reduce((sum, { MessageBody = '' }) => sum + Buffer.byteLength(MessageBody), 0);

describe('redrive', () => {
  test('redrive, of messages too large for one request, sends several, each below the limit', async () => {
    const { sqs, queue } = subject(Array.from({ length: 12 }, () => 'x'.repeat(100_000)));
    expect(await queue.redrive({})).toBe(12);
    const requests = sqs.calls.filter(({ operation }) => operation === 'SendMessageBatch');
    expect(requests.length).toBeGreaterThan(4);
    for (const { input } of requests)
      expect(bytesOf(input.Entries ?? [])).toBeLessThanOrEqual(MAX_REQUEST_BYTES);
    expect(sqs.deletedHandles()).toHaveLength(12);
  });

  test('redrive, of each message, sends it without the reason before it deletes it', async () => {
    const { sqs, queue } = subject(['a']);
    await queue.redrive({});
    const operations = sqs.calls.map(({ operation }) => operation);
    expect(operations.indexOf('SendMessageBatch')).toBeLessThan(operations.indexOf('DeleteMessageBatch'));
    expect(sqs.entries('SendMessageBatch')[0]?.MessageAttributes).toEqual({});
  });

  test('redrive, when some cannot be sent, deletes only the others, gives these back and says so', async () => {
    const { sqs, queue } = subject(['a', 'b', 'c']);
    sqs.intercept = ({ operation, input }) =>
      operation === 'SendMessageBatch'
        ? {
            Successful: input.Entries?.filter(({ MessageBody }) => MessageBody !== 'b').map(({ Id }) => ({
              Id,
              MessageId: 'm',
            })),
            Failed: input.Entries?.filter(({ MessageBody }) => MessageBody === 'b').map(({ Id }) => ({
              Id,
              Code: 'X',
              SenderFault: true,
            })),
          }
        : undefined;
    await expect(queue.redrive({})).rejects.toThrow(RedriveIncompleteError);
    expect(sqs.deletedHandles()).toHaveLength(2);
    expect(
      sqs.entries('ChangeMessageVisibilityBatch').map(({ VisibilityTimeout }) => VisibilityTimeout),
    ).toEqual([0]);
  });

  test('redrive, of a message that comes back while it runs, leaves it for the next time', async () => {
    const { sqs, queue } = subject(['a']);
    sqs.intercept = ({ operation, input }) => {
      if (operation !== 'SendMessageBatch') return undefined;
      // The consumer rejects it at once: it is in the DLQ again, and names the id under which it was sent.
      sqs.put('a', { MessageAttributes: letter('sent-1') });
      return { Successful: input.Entries?.map(({ Id }) => ({ Id, MessageId: 'sent-1' })) };
    };
    expect(await queue.redrive({})).toBe(1);
    expect(sqs.entries('SendMessageBatch')).toHaveLength(1);
    expect(sqs.waiting).toHaveLength(0);
    expect(sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1);
  });

  test('redrive, of one release, moves what that release sent since then, and gives the others back', async () => {
    const { sqs, queue } = subject([]);
    const put = (body: string, codeVersion: string, at: string) =>
      sqs.put(body, { MessageAttributes: letter(body, codeVersion, at) });
    put('older', '2', '2026-01-01T00:00:00Z');
    put('meant', '2', '2026-01-02T00:00:01Z');
    put('other', '1', '2026-01-02T00:00:01Z');
    sqs.put('moved by SQS');
    expect(await queue.redrive({ where: ofRelease('2', new Date('2026-01-02T00:00:00Z')) })).toBe(1);
    expect(sqs.entries('SendMessageBatch').map(({ MessageBody }) => MessageBody)).toEqual(['meant']);
    expect(sqs.deletedHandles()).toHaveLength(1);
    expect(sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(3);
  });

  test('redrive, when what it keeps comes again before it has ended, ends', async () => {
    const { sqs, queue } = subject([]);
    const kept = sqs.put('kept', { MessageAttributes: letter('kept') });
    sqs.intercept = ({ operation }) => (operation === 'ReceiveMessage' ? { Messages: [kept] } : undefined);
    expect(await queue.redrive({ where: () => false })).toBe(0);
  });
});
