import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SendMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { queueDepth, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { type Pair, post, startPair } from '../support/pair.ts';

// Each starts tools.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const ROOT = path.join(import.meta.dirname, '..', '..');
const folder = mkdtempSync(path.join(tmpdir(), 'order-fates-'));
const file = path.join(folder, 'orders.db');
const rejected = crypto.randomUUID();
let pair: Pair;
let client: SQSClient;
let deadLetterQueueUrl: string;
let stored: string;

beforeAll(async () => {
  pair = await startPair({ DATABASE_URL: `sqlite:${file}` });
  client = sqsClient({ AWS_ENDPOINT_URL: pair.endpoint });
  const names = { APP_ENV: 'dev', ORDER_QUEUE_NAME: 'order-queue', ORDER_DLQ_NAME: 'order-dlq' } as const;
  const urls = await resolveQueues(client, names as never);
  ({ deadLetterQueueUrl } = urls);
  stored = (await post(`${pair.producerUrl}/orders`, anOrderRequest())).body.orderId;
  const event = {
    specversion: '1.0',
    id: rejected,
    source: '/x',
    type: 'order.placed.v1',
    data: { customerId: 7 },
  };
  await client.send(new SendMessageCommand({ QueueUrl: urls.queueUrl, MessageBody: JSON.stringify(event) }));
});
afterAll(async () => {
  client?.destroy();
  await pair?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const tool = (name: string, ...args: string[]) =>
  new Promise<{ status: number; out: string; error: string }>((resolve) => {
    const env = {
      ...process.env,
      ...{ AWS_ENDPOINT_URL: pair.endpoint, AWS_ENDPOINT_URL_SQS: '', DATABASE_URL: `sqlite:${file}` },
    };
    const child = execFile(
      process.execPath,
      [path.join(ROOT, 'scripts', name), ...args],
      { env },
      (_, out, error) => resolve({ status: child.exitCode ?? -1, out, error }),
    );
  });
const get = async (id: string, rest = ''): Promise<Record<string, never>> =>
  (await fetch(`${pair.consumerUrl}/orders/${id}${rest}`)).json() as never;
const eventsOf = async (id: string) =>
  ((await get(id, '/history'))['events'] as unknown as { event: string }[]).map(({ event }) => event);
const letterIsBack = () =>
  eventually(async () =>
    expect(await queueDepth(client, deadLetterQueueUrl)).toMatchObject({ visible: 1, inFlight: 0 }),
  );

test('GET /orders/{id}, of an order that the consumer rejected, says why; of one that it stored, has it', async () => {
  await eventually(async () =>
    expect(await get(rejected)).toMatchObject({ state: 'REJECTED', reason: 'INVALID_ORDER', attempts: 1 }),
  );
  await eventually(async () => expect(await get(stored)).toMatchObject({ state: 'STORED' }));
  expect(await eventsOf(rejected)).toEqual(['RECEIVED', 'REJECTED']);
  expect(await eventsOf(stored)).toEqual(['STORED']);
});

test('dlq.sh record, of a rejection that the store does not know, records what the consumer would have', async () => {
  await letterIsBack();
  const before = await get(rejected);
  const db = new DatabaseSync(file);
  db.exec('DELETE FROM order_fates');
  db.close();
  expect(await get(rejected)).toMatchObject({ status: 404 });
  for (const _ of ['once', 'again']) {
    const { out } = await tool('dlq.ts', 'record');
    expect(out).toContain('1 orders of 1 messages are recorded as rejected');
  }
  expect(await get(rejected)).toEqual(before);
  expect(await eventsOf(rejected)).toEqual(['RECEIVED', 'REJECTED']);
});

test('where-is says what became of each order, and what to do', async () => {
  await letterIsBack();
  expect(await tool('where-is.ts', stored)).toMatchObject({
    status: 0,
    out: expect.stringMatching(/was stored at .*: nothing to do/),
  });
  expect((await tool('where-is.ts', rejected)).out).toMatch(
    /rejected with INVALID_ORDER and is in the dead-letter/,
  );
  expect((await tool('where-is.ts', crypto.randomUUID())).out).toMatch(/is found nowhere/);
});

test('dlq.sh redrive marks the order as on its way again, until it is rejected again', async () => {
  await letterIsBack();
  const held = new DatabaseSync(file);
  await pair.stopConsumer();
  expect((await tool('dlq.ts', 'redrive')).out).toMatch(/ INVALID_ORDER\n1 moved\n$/);
  const kinds = held.prepare('SELECT kind FROM order_fates ORDER BY occurred_at_ms').all();
  held.close();
  expect(kinds).toEqual([{ kind: 'REJECTED' }, { kind: 'REDRIVEN' }]);
  expect((await tool('where-is.ts', rejected)).out).toMatch(/was moved back .* wait, then ask again/);
  await pair.startConsumerAgain();
  await eventually(async () => expect(await get(rejected)).toMatchObject({ state: 'REJECTED' }));
  expect(await eventsOf(rejected)).toEqual(['RECEIVED', 'REJECTED', 'REDRIVEN', 'RECEIVED', 'REJECTED']);
});
