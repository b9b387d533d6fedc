import { describe, expect, test, vi } from 'vitest';
import { DeliveryLedger } from './delivery-ledger.ts';

const messages = (count: number, receive = 1) =>
  Array.from({ length: count }, (_, index) => ({
    MessageId: `m${index}`,
    ReceiptHandle: `r${index}-${receive}`,
  }));
const handles = (...given: string[]) => given.map((ReceiptHandle) => ({ ReceiptHandle }));
const copyOf = (messageId: string) => ({
  MessageBody: 'body',
  MessageAttributes: { deadLetter: { StringValue: JSON.stringify({ messageId }) } },
});

describe('DeliveryLedger', () => {
  test('of what a consumer received and asked to delete or gave back, knows the most that it had at once', () => {
    const ledger = new DeliveryLedger(5);
    ledger.delivered('a', messages(10));
    ledger.asked('a', 'DeleteMessageBatch', handles('r0-1', 'r1-1'));
    ledger.asked('a', 'ChangeMessageVisibilityBatch', [
      { ReceiptHandle: 'r2-1', VisibilityTimeout: 5 },
      { ReceiptHandle: 'r3-1', VisibilityTimeout: 2 },
    ]);
    ledger.delivered('a', [{ MessageId: 'n', ReceiptHandle: 'n-1' }]);
    ledger.delivered('b', messages(3, 2));
    expect(ledger.peaks).toEqual({ a: 10, b: 3 });
    ledger.delivered(
      'a',
      Array.from({ length: 4 }, (_, n) => ({ MessageId: `p${n}`, ReceiptHandle: `p${n}` })),
    );
    expect(ledger.peaks['a']).toBe(12);
  });

  test('of what a process had that ended, or what its lease had run out of, counts nothing', () => {
    vi.useFakeTimers();
    try {
      const ledger = new DeliveryLedger(5);
      ledger.delivered('a', messages(10));
      ledger.ended('a');
      ledger.delivered('a', messages(8, 2));
      vi.advanceTimersByTime(4_000);
      ledger.asked('a', 'ChangeMessageVisibilityBatch', [{ ReceiptHandle: 'r0-2', VisibilityTimeout: 5 }]);
      vi.advanceTimersByTime(2_000);
      ledger.delivered('a', messages(10, 3).slice(0, 9));
      expect(ledger.peaks['a']).toBe(10);
    } finally {
      vi.useRealTimers();
    }
  });

  test('explains a second copy of what was disturbed or came twice, and of nothing else', () => {
    const ledger = new DeliveryLedger(5);
    ledger.delivered('a', messages(4));
    ledger.disturbed('a', 'DeleteMessageBatch', handles('r0-1'));
    ledger.disturbed('a', 'SendMessageBatch', [copyOf('m1'), copyOf('m1')]);
    ledger.delivered('a', messages(3).slice(2));
    expect(['m0', 'm1', 'm2', 'm3'].map((id) => ledger.explains(id))).toEqual([1, 1, 1, 0]);
  });

  test('explains a second copy by the same request of a consumer that stood still meanwhile, and by no other', () => {
    const ledger = new DeliveryLedger(5);
    ledger.delivered('a', messages(4));
    const send = (...given: [consumer: string, messageId: string][]) => {
      for (const [consumer, id] of given) ledger.sent(consumer, [copyOf(id), copyOf(id)]);
    };
    send(['a', 'm0'], ['b', 'm1'], ['a', 'm2'], ['a', 'm3'], ['a', 'm3']);
    ledger.disturbed('a', 'SendMessageBatch', [copyOf('m2'), copyOf('m2')]);
    ledger.interrupted();
    send(['a', 'm1']);
    ledger.resumed('a');
    send(['a', 'm1'], ['a', 'm0'], ['b', 'm1'], ['a', 'm2'], ['a', 'm0']);
    expect(['m0', 'm1', 'm2', 'm3'].map((id) => ledger.explains(id))).toEqual([1, 1, 1, 0]);
  });

  test('of an order on its way back to the queue by itself, blames any packed message in work', () => {
    const ledger = new DeliveryLedger(5);
    ledger.delivered('a', messages(3));
    ledger.asked('a', 'DeleteMessageBatch', handles('r2-1'));
    ledger.disturbed('a', 'SendMessageBatch', [{ MessageBody: 'an order' }]);
    expect(['m0', 'm1', 'm2'].map((id) => ledger.explains(id))).toEqual([1, 1, 0]);
  });
});
