import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import type { SQSClient } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { resolveQueues } from '@orders/shared/queue-admin.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { Producer } from 'sqs-producer';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createTool } from '../scripts/sqs-tool.ts';
import { getJson, type Pair, startPair } from './pair.ts';

const run = promisify(execFile);
/** The AWS CLI speaks the JSON protocol that the embedded emulator understands since 1.29; older ones do not. */
const awsCli = await run('aws', ['--version']).then(
  ({ stdout }) => /aws-cli\/(1\.(29|[3-9]\d)|2\.(1[2-9]|[2-9]\d))/.test(stdout),
  () => false,
);

let pair: Pair;
let client: SQSClient;
let queues: { queueUrl: string; deadLetterQueueUrl: string };

beforeAll(async () => {
  pair = await startPair();
  const tool = createTool('dev', { AWS_ENDPOINT_URL: pair.endpoint });
  client = tool.client;
  queues = await resolveQueues(client, tool.config);
});
afterAll(async () => {
  client?.destroy();
  await pair?.[Symbol.asyncDispose]();
});

/** An envelope as somebody writes it who has read docs/asyncapi.yaml and nothing else. */
const envelopeOf = (order: object) =>
  JSON.stringify({
    specversion: '1.0',
    type: 'order.placed.v1',
    id: randomUUID(),
    source: '/somebody-else',
    data: order,
  });

const isStored = (orderId: string) =>
  vi.waitFor(async () => expect((await getJson(`${pair.consumerUrl}/orders/${orderId}`)).status).toBe(200), {
    timeout: 10_000,
    interval: 50,
  });
const isDeadLettered = (body: string, reason: string) =>
  vi.waitFor(
    async () => {
      const found = await new DeadLetterQueue(client, queues).peek(100);
      expect(found.find(({ message }) => message.body === body)?.deadLetter?.reason).toBe(reason);
    },
    { timeout: 15_000, interval: 200 },
  );

describe('messages of sqs-producer', () => {
  const send = (body: string) =>
    Producer.create({ queueUrl: queues.queueUrl, sqs: client as never }).send([{ id: '1', body }]);

  test('consumer, with a valid envelope of somebody else, stores the order', async () => {
    const order = anOrder({ orderId: randomUUID() });
    await send(envelopeOf(order));
    await isStored(order.orderId);
  });

  test('consumer, with a bare order without an envelope, dead-letters it and says why', async () => {
    const body = JSON.stringify(anOrder({ orderId: randomUUID() }));
    await send(body);
    await isDeadLettered(body, 'NOT_AN_ENVELOPE');
  });
});

describe.skipIf(!awsCli)(
  'messages of the AWS CLI (skipped where none that speaks JSON is on the path)',
  () => {
    const send = (body: string) => {
      const env = {
        ...process.env,
        AWS_ACCESS_KEY_ID: 'x',
        AWS_SECRET_ACCESS_KEY: 'x',
        AWS_DEFAULT_REGION: 'ap-northeast-2',
      };
      const target = ['--endpoint-url', pair.endpoint, '--queue-url', queues.queueUrl];
      return run('aws', ['sqs', 'send-message', ...target, '--message-body', body], { env });
    };

    test('consumer, with a valid envelope, stores the order', { timeout: 60_000 }, async () => {
      const order = anOrder({ orderId: randomUUID() });
      await send(envelopeOf(order));
      await isStored(order.orderId);
    });

    test('consumer, with text, dead-letters it and says why', { timeout: 60_000 }, async () => {
      const body = `hello from the command line ${randomUUID()}`;
      await send(body);
      await isDeadLettered(body, 'NOT_JSON');
    });
  },
);
