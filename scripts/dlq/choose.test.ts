import type { DeadLetteredMessage } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { fingerprintOf, Groups } from '@orders/consumer/dlq/diagnosis.ts';
import { DEAD_LETTER_ATTRIBUTE } from '@orders/consumer/queue/dead-letter.ts';
import { toReceivedMessage } from '@orders/consumer/queue/received-message.ts';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { expect, it } from 'vitest';
import { type Choice, chosen } from './choose.ts';

async function letter(customerId: string, change = (body: string) => body): Promise<DeadLetteredMessage> {
  const order = anOrder({ customerId });
  const message = { order, contentHash: contentHash(order), traceparent: undefined, clientId: 'web-shop' };
  const options = { version: 1, encoding: 'gzip', compressAboveBytes: 1e9 } as const;
  const deadLetter = {
    ...{ reason: 'INVALID_ORDER', detail: 'items.7: too small', errorClass: 'E', attempts: 1, failures: 0 },
    ...{ firstSeenAt: '', deadLetteredAt: '2026-03-01T12:00:00Z', codeVersion: '1.2.3', traceId: '' },
    ...{ messageId: '' },
  };
  return {
    message: toReceivedMessage({
      MessageId: 'm',
      Body: change((await encodeOrderMessage(message, options)).body),
      MessageAttributes: {
        [DEAD_LETTER_ATTRIBUTE]: { DataType: 'String', StringValue: JSON.stringify(deadLetter) },
      },
    }),
    deadLetter,
  };
}
const at = (time: string) => new Date(`2026-03-01T${time}Z`);

it.each<[Choice, Choice]>([
  [{ reason: 'INVALID_ORDER' }, { reason: 'NOT_JSON' }],
  [{ since: at('12:00:00') }, { since: at('12:00:01') }],
  [{ until: at('12:00:00') }, { until: at('11:59:59') }],
  [{ 'code-version': '1.2.3' }, { 'code-version': '1.2.4' }],
  [{ 'schema-version': 1 }, { 'schema-version': 2 }],
  [{ client: 'web-shop' }, { client: 'other' }],
  [{ customer: 'C-1' }, { customer: 'C-2' }],
  [{ readable: true }, { readable: true, reason: 'NOT_JSON' }],
])('a letter for which %j holds is chosen, and not by %j', async (right, wrong) => {
  const one = await letter('C-1');
  expect(chosen(right)(one)).toBe(true);
  expect(chosen(wrong)(one)).toBe(false);
});

it('a letter of an order that breaks a rule is found by its customer, and is not readable', async () => {
  const one = await letter('C-1', (body) => body.replace('"quantity":2', '"quantity":-1'));
  expect(chosen({ customer: 'C-1' })(one)).toBe(true);
  expect(chosen({ readable: true })(one)).toBe(false);
});

it('a letter that SQS moved, of no message of ours, is chosen by nothing that asks for more', async () => {
  const moved = { message: toReceivedMessage({ MessageId: 'm', Body: 'x' }), deadLetter: undefined };
  expect(chosen({ reason: 'MOVED_BY_SQS' })(moved)).toBe(true);
  const others = [{ since: at('00:00:00') }, { customer: 'C-1' }, { client: 'x' }, { 'schema-version': 1 }];
  for (const choice of others) expect(chosen(choice)(moved)).toBe(false);
});

it('the fingerprint that summary shows chooses the letters of its group', async () => {
  const one = await letter('C-1');
  const groups = new Groups({ retentionSeconds: 1 });
  groups.add(one);
  const [{ fingerprint = '' } = {}] = groups.list();
  expect(fingerprint).toBe(fingerprintOf(one));
  expect(chosen({ fingerprint })(one)).toBe(true);
  expect(chosen({ fingerprint: '00000000' })(one)).toBe(false);
});
