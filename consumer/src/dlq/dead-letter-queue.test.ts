import type { Message } from '@aws-sdk/client-sqs';
import { MAX_REQUEST_BYTES } from '@orders/shared/sqs/queues.ts';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Call, FakeSqs } from '../../testing/fake-sqs.ts';
import { DEAD_LETTER_ATTRIBUTE } from '../queue/dead-letter.ts';
import { DeadLetterQueue, ofRelease, RedriveIncompleteError } from './dead-letter-queue.ts';

// Vitest's clock does not reach `node:timers/promises`.
vi.mock('node:timers/promises', () => ({
  setTimeout: (delayMs: number) => new Promise((resolve) => setTimeout(resolve, delayMs)),
}));

const letter = (messageId: string, codeVersion = '1', deadLetteredAt = '', reason = 'NOT_JSON') => ({
  [DEAD_LETTER_ATTRIBUTE]: {
    DataType: 'String',
    StringValue: JSON.stringify({
      reason,
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

  test('redrive, when some messages cannot be sent, deletes only the others, releases these and says so', async () => {
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

  test('redrive, while there is no room, moves nothing, and then as many as there is room for', async () => {
    const { sqs, queue } = subject(['a', 'b', 'c']);
    const rooms = [0, 1, 0, 5];
    const sizes: number[] = [];
    const room = () => rooms.shift() ?? 0;
    expect(await queue.redrive({ room, before: async ({ length }) => void sizes.push(length) })).toBe(3);
    expect(sizes).toEqual([1, 2]);
    expect(sqs.deletedHandles()).toHaveLength(3);
  });

  test('redrive, when what comes before a move fails, moves nothing, and releases all', async () => {
    const { sqs, queue } = subject(['a', 'b']);
    const before = () => Promise.reject(new Error('no journal'));
    await expect(queue.redrive({ before })).rejects.toThrow('no journal');
    expect([sqs.entries('SendMessageBatch'), sqs.deletedHandles()]).toEqual([[], []]);
    expect(sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(2);
  });

  test('redrive, when a send cannot be written down, keeps the message, and says which failed', async () => {
    const { sqs, queue } = subject(['a']);
    const failed: string[] = [];
    const onSent = () => {
      throw new Error('no journal');
    };
    const redriving = queue.redrive({ onSent, onFailed: ({ message }) => failed.push(message.body) });
    await expect(redriving).rejects.toThrow(RedriveIncompleteError);
    expect(failed).toEqual(['a']);
    expect(sqs.deletedHandles()).toEqual([]);
  });

  test('redrive sends another message where it is told to, and where none, just deletes', async () => {
    const { sqs, queue } = subject(['a', 'b']);
    await queue.redrive({
      toSend: ({ message }) =>
        message.body === 'a' ? { MessageBody: 'repaired', MessageAttributes: {} } : undefined,
    });
    expect(sqs.entries('SendMessageBatch').map(({ MessageBody }) => MessageBody)).toEqual(['repaired']);
    expect(sqs.deletedHandles()).toHaveLength(2);
  });

  /** Its consumers reject at once what is sent to the order queue, for so long as a test lasts. */
  function rejectsAgain(sqs: FakeSqs, { most }: { most: number }) {
    let sent = 0;
    sqs.intercept = ({ operation, input }) => {
      if (operation !== 'SendMessageBatch' || sent >= most) return undefined;
      const ids = (input.Entries ?? []).map(() => `sent-${sent++}`);
      for (const [index, id] of ids.entries())
        sqs.put(input.Entries?.[index]?.MessageBody ?? '', { MessageAttributes: letter(id) });
      return { Successful: input.Entries?.map(({ Id }, index) => ({ Id, MessageId: ids[index] })) };
    };
  }

  test.each([
    ['says nothing of its clock', undefined],
    ['has our time', () => Date.now()],
    ['is an hour behind', () => Date.now() - 3_600_000],
    ['is an hour ahead', () => Date.now() + 3_600_000],
  ])(
    'redrive, two at once, of letters that are always rejected again, by an SQS that %s, each moves them once',
    async (_which, clock) => {
      const { sqs, queue } = subject([]);
      sqs.clock = clock;
      for (const body of ['a', 'b', 'c']) sqs.put(body, { MessageAttributes: letter(body) });
      rejectsAgain(sqs, { most: 100 });
      const another = new DeadLetterQueue(sqs.client, { queueUrl: 'queue', deadLetterQueueUrl: 'dlq' });
      const moved = await Promise.all([queue.redrive({}), another.redrive({})]);
      expect(Math.max(...moved)).toBeLessThanOrEqual(3);
      expect(moved[0] + moved[1]).toBeGreaterThanOrEqual(3);
    },
  );

  test('redrive, while new letters come all the time, moves what was there, leaves them and ends', async () => {
    const { sqs, queue } = subject(['old']);
    let came = 0;
    sqs.intercept = ({ operation }) => {
      if (operation === 'SendMessageBatch') came = 1;
      if (operation === 'ReceiveMessage' && came > 0 && came < 500)
        sqs.put(`new-${came++}`, { MessageAttributes: letter('new') });
      return undefined;
    };
    const left: string[] = [];
    expect(await queue.redrive({ onLeft: ({ message }, why) => left.push(`${why} ${message.body}`) })).toBe(
      1,
    );
    expect(left).toContain('LATER new-1');
    expect(came).toBeLessThan(500);
    expect(sqs.entries('SendMessageBatch').map(({ MessageBody }) => MessageBody)).toEqual(['old']);
  });

  test('redrive leaves conflicts in the DLQ unless it is told to move them too', async () => {
    const { sqs, queue } = subject(['other']);
    const conflict = sqs.put('conflict', { MessageAttributes: letter('c', '1', '', 'CONFLICT') });
    const left: string[] = [];
    expect(await queue.redrive({ onLeft: ({ message }, why) => left.push(`${why} ${message.body}`) })).toBe(
      1,
    );
    expect(left).toEqual(['CONFLICT conflict']);
    sqs.waiting.push(conflict);
    expect(await queue.redrive({ conflicts: true })).toBe(1);
    expect(sqs.entries('SendMessageBatch').map(({ MessageBody }) => MessageBody)).toEqual([
      'other',
      'conflict',
    ]);
  });

  test('redrive, of one release, moves what that release sent since then, and releases the others', async () => {
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

describe('a queue that shows again what was hidden for too long', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** What comes again has a new receipt, and the visibility of what is visible cannot be changed: as on AWS. */
  function visibleAgain(letters: Message[]) {
    const { sqs, queue } = subject([]);
    let rest = letters.map((message) => ({ message, receipt: '', visibleAt: 0 }));
    let receipts = 0;
    const isVisible = ({ visibleAt }: { visibleAt: number }) => visibleAt <= performance.now();
    const hiddenFor = (seconds: unknown) => performance.now() + Number(seconds) * 1_000;
    const receive = ({ input }: Call) => {
      const due = rest.filter(isVisible).slice(0, Number(input['MaxNumberOfMessages']));
      for (const each of due) {
        each.receipt = `receipt-${receipts++}`;
        each.visibleAt = hiddenFor(input['VisibilityTimeout']);
      }
      return { Messages: due.map(({ message, receipt }) => ({ ...message, ReceiptHandle: receipt })) };
    };
    const changeVisibility = ({ input: { Entries = [] } }: Call) => {
      const held = ({ ReceiptHandle }: { ReceiptHandle?: string }) =>
        rest.find((each) => each.receipt === ReceiptHandle && !isVisible(each));
      const failed = Entries.filter((entry) => !held(entry));
      for (const entry of Entries)
        Object.assign(held(entry) ?? {}, { visibleAt: hiddenFor(entry.VisibilityTimeout) });
      return {
        Successful: Entries.filter((entry) => !failed.includes(entry)).map(({ Id }) => ({ Id })),
        Failed: failed.map(({ Id }) => ({ Id, Code: 'InvalidParameterValue', SenderFault: true })),
      };
    };
    sqs.intercept = (call) => {
      if (call.operation === 'ReceiveMessage') return receive(call);
      if (call.operation === 'ChangeMessageVisibilityBatch') return changeVisibility(call);
      if (call.operation === 'DeleteMessageBatch')
        rest = rest.filter(
          ({ receipt }) => !call.input.Entries?.some(({ ReceiptHandle }) => ReceiptHandle === receipt),
        );
      return undefined;
    };
    const bodies = () => rest.filter(isVisible).map(({ message }) => message.Body);
    return { sqs, queue, bodies };
  }
  const letters = (count: number, body: string) =>
    Array.from({ length: count }, (_, n) => ({
      MessageId: `${body}-${n}`,
      Body: body,
      MessageAttributes: letter(`${body}-${n}`),
    }));

  test('redrive, slower than that, still moves all that match, and releases the others', async () => {
    const { sqs, queue, bodies } = visibleAgain([...letters(30, 'kept'), ...letters(400, 'meant')]);
    const moving = queue.redrive({ ratePerSecond: 1, where: ({ message }) => message.body === 'meant' });
    await vi.runAllTimersAsync();
    expect(await moving).toBe(400);
    expect(sqs.entries('SendMessageBatch')).toHaveLength(400);
    expect(bodies()).toEqual(Array(30).fill('kept'));
  });

  test('readAll, slower than that, returns each message once, and releases all', async () => {
    const { queue, bodies } = visibleAgain(letters(100, 'a'));
    const seen: string[] = [];
    const reading = (async () => {
      for await (const batch of queue.readAll()) {
        seen.push(...batch.map(({ message }) => message.messageId));
        await new Promise((resolve) => setTimeout(resolve, 50_000));
      }
    })();
    await vi.runAllTimersAsync();
    await reading;
    expect(seen).toHaveLength(100);
    expect(new Set(seen).size).toBe(100);
    expect(bodies()).toHaveLength(100);
  });

  test('peek returns messages even when they cannot be released', async () => {
    const { sqs, queue } = subject(['a']);
    sqs.intercept = ({ operation, input }) =>
      operation === 'ChangeMessageVisibilityBatch'
        ? {
            Failed: input.Entries?.map(({ Id }) => ({
              Id,
              Code: 'InvalidParameterValue',
              SenderFault: true,
            })),
          }
        : undefined;
    const peeking = queue.peek(1);
    await vi.runAllTimersAsync();
    expect(await peeking).toHaveLength(1);
  });
});
