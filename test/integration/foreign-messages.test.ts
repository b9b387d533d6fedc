import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { aKeyFile, keyLine } from '@orders/shared/testing/cipher.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { Producer } from 'sqs-producer';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { getJson, type Pair, startPair } from '../support/pair.ts';
import { type FoundQueues, findQueues } from '../support/queues.ts';

const run = promisify(execFile);
const AWS_CLI = process.env['AWS_CLI'] ?? 'aws';
/** The AWS CLI speaks the JSON protocol that the embedded emulator understands since 1.29; older ones do not. */
const awsCli = await run(AWS_CLI, ['--version']).then(
  ({ stdout }) => /aws-cli\/(1\.(29|[3-9]\d)|2\.(1[2-9]|[2-9]\d))/.test(stdout),
  () => false,
);
// Whoever names one has it run.
if (process.env['AWS_CLI'] && !awsCli) throw new Error(`AWS_CLI=${AWS_CLI} is none that speaks JSON`);

/** That of the recorded message that is encrypted. The producer does not encrypt. */
const keys = aKeyFile(keyLine('sample'));
let pair: Pair;
/** Of somebody else, as the SDK comes. */
let theirs: SQSClient;
let queues: FoundQueues;

beforeAll(async () => {
  pair = await startPair({ MESSAGE_ENCRYPTION_KEY_FILE: keys.file });
  queues = await findQueues(pair.endpoint);
  theirs = new SQSClient({
    endpoint: pair.endpoint,
    region: 'ap-northeast-2',
    credentials: { accessKeyId: 'x', secretAccessKey: 'x' },
  });
});
afterAll(async () => {
  theirs?.destroy();
  queues?.[Symbol.dispose]();
  await pair?.[Symbol.asyncDispose]();
  keys[Symbol.dispose]();
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
    timeout: 30_000,
    interval: 50,
  });
const isDeadLettered = (body: string, reason: string) =>
  vi.waitFor(
    async () => {
      const found = await new DeadLetterQueue(queues.client, queues.urls).peek(100);
      expect(found.find(({ message }) => message.body === body)?.deadLetter?.reason).toBe(reason);
    },
    { timeout: 30_000, interval: 200 },
  );

describe('messages of sqs-producer', () => {
  const send = (body: string) =>
    Producer.create({ queueUrl: queues.urls.queueUrl, sqs: theirs }).send([{ id: '1', body }]);

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

describe('recorded messages of all versions', () => {
  const folder = new URL('../../shared/src/order/message-samples/', import.meta.url);

  test.each(readdirSync(folder))('consumer, with recorded message %s, stores its orders', async (name) => {
    const { body, attributes, decoded } = JSON.parse(readFileSync(new URL(name, folder), 'utf8'));
    const MessageAttributes = Object.fromEntries(
      Object.entries<string>(attributes).map(([name, StringValue]) => [
        name,
        { DataType: 'String', StringValue },
      ]),
    );
    // The embedded emulator takes no characters above U+FFFF; escaped, they are the same JSON.
    const MessageBody = body.replaceAll(
      /[\uD800-\uDFFF]/g,
      (half: string) => `\\u${half.charCodeAt(0).toString(16)}`,
    );
    const { client, urls } = queues;
    const deadLetters = await messagesIn(client, urls.deadLetterQueueUrl);
    await theirs.send(
      new SendMessageCommand({ QueueUrl: queues.urls.queueUrl, MessageBody, MessageAttributes }),
    );
    await eventually(async () => expect(await messagesIn(client, queues.urls.queueUrl)).toBe(0));
    expect(await messagesIn(client, urls.deadLetterQueueUrl)).toBe(deadLetters);
    for (const { order } of [decoded].flat())
      expect((await getJson(`${pair.consumerUrl}/orders/${order.orderId}`)).body).toMatchObject(order);
  });
});

describe.skipIf(!awsCli)(
  'messages of the AWS CLI (skipped where none that speaks JSON is on the path or in AWS_CLI)',
  () => {
    const send = (body: string) => {
      const env = {
        ...process.env,
        AWS_ACCESS_KEY_ID: 'x',
        AWS_SECRET_ACCESS_KEY: 'x',
        AWS_DEFAULT_REGION: 'ap-northeast-2',
      };
      const target = ['--endpoint-url', pair.endpoint, '--queue-url', queues.urls.queueUrl];
      return run(AWS_CLI, ['sqs', 'send-message', ...target, '--message-body', body], { env });
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
