import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { planEntry } from '@orders/consumer/dlq/plan-entry.ts';
import { toReceivedMessage } from '@orders/consumer/queue/received-message.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterAll, expect, it } from 'vitest';
import { type Call, FakeSqs } from '../../consumer/testing/fake-sqs.ts';
import { Journal } from './journal.ts';
import { PlanWriter, readPlan } from './plan-file.ts';
import { isClosed, type RunOptions, runPlan } from './run-plan.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'runs-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a plan of so many good messages, of which nobody stores any but as the test says. */
async function run(
  messages: number,
  store: Partial<RunOptions['store']>,
  intercept: (call: Call, sqs: FakeSqs) => unknown = () => undefined,
) {
  const sqs = new FakeSqs();
  sqs.redelivers = true;
  const file = path.join(folder, `${randomUUID()}.plan`);
  const now = Date.now();
  const writer = new PlanWriter(file, {
    ...{ purpose: 'redrive', environment: 'dev', queue: 'arn', chosen: '{}' },
    ...{ createdAt: new Date(now).toISOString(), expiresAt: new Date(now + 3_600_000).toISOString() },
  });
  for (let n = 0; n < messages; n++) {
    const order = anOrder({ orderId: randomUUID() });
    const event = {
      specversion: '1.0',
      id: order.orderId,
      source: '/x',
      type: 'order.placed.v1',
      data: order,
    };
    const message = sqs.put(JSON.stringify(event));
    writer.add(await planEntry({ message: toReceivedMessage(message), deadLetter: undefined }, {}));
  }
  writer.finish();
  sqs.intercept = (call) => intercept(call, sqs);
  const plan = await readPlan(file);
  const journal = await Journal.open(plan);
  const account = await runPlan({
    ...{ plan, journal, ratePerSecond: 1_000, maxFailingShare: 0.1, waitMs: 300 },
    deadLetterQueue: new DeadLetterQueue(sqs.client, { queueUrl: 'queue', deadLetterQueueUrl: 'dlq' }),
    depth: async () => ({ inFlight: 0 }),
    store: { findByIds: async () => [], findFates: async () => [], recordFates: async () => {}, ...store },
    signal: new AbortController().signal,
  });
  journal.close();
  plan.close();
  return { account, sent: sqs.entries('SendMessageBatch').length, deleted: sqs.deletedHandles().length };
}
const away = () => Promise.reject(new Error('away'));

it('run, while the store does not answer, sends nothing and says so', async () => {
  const { account, sent, deleted } = await run(3, { findByIds: away });
  expect([sent, deleted]).toEqual([0, 0]);
  expect(account).toMatchObject({ notSent: 3, stopped: 'the store does not answer (away)' });
});

it('run, when the store goes away, stops after what was sent, and its account does not close', async () => {
  let asked = 0;
  const findByIds = async () => (asked++ === 0 ? [] : away());
  const { account, sent } = await run(30, { findByIds });
  expect(sent).toBe(1);
  expect(account).toMatchObject({ onTheWay: 1, notSent: 29, stopped: expect.stringContaining('away') });
  expect(isClosed(account)).toBe(false);
});

it('run, when the queue takes no message, stops, and keeps all', async () => {
  const { account, deleted } = await run(30, {}, ({ operation, input }) =>
    operation === 'SendMessageBatch'
      ? { Failed: input.Entries?.map(({ Id }) => ({ Id, Code: 'X', SenderFault: true })) }
      : undefined,
  );
  expect(deleted).toBe(0);
  expect(account).toMatchObject({ notSent: 30, stopped: expect.stringContaining('could not be moved') });
});

it('run, when nothing is heard of what was sent, stops; what the store was not told, the dead-letter queue tells', async () => {
  const { account, sent } = await run(30, {}, ({ operation, input }, sqs) => {
    if (operation !== 'SendMessageBatch') return undefined;
    // Rejected at once, and nobody recorded it.
    return {
      Successful: input.Entries?.map(({ Id, MessageBody }) => {
        const MessageId = randomUUID();
        const letter = {
          ...{ reason: 'INVALID_ORDER', detail: '', errorClass: 'E', attempts: 1, failures: 0 },
          ...{ firstSeenAt: '', deadLetteredAt: '', codeVersion: '', traceId: '', messageId: MessageId },
        };
        sqs.put(MessageBody ?? '', {
          MessageAttributes: { deadLetter: { DataType: 'String', StringValue: JSON.stringify(letter) } },
        });
        return { Id, MessageId };
      }),
    };
  });
  expect(sent).toBe(1);
  expect(account.rejected).toEqual({ INVALID_ORDER: 1 });
  expect(account).toMatchObject({
    onTheWay: 0,
    notSent: 29,
    stopped: 'nothing is heard of 1 messages for 0.3 s',
  });
});
