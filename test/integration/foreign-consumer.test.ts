import { hash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { buildDecrypt, RawAesKeyringNode, RawAesWrappingSuiteIdentifier } from '@aws-crypto/client-node';
import {
  DeleteMessageCommand,
  GetQueueUrlCommand,
  ReceiveMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { startEmulator } from '../../dev/emulator.ts';
import { eventually } from '../support/eventually.ts';
import { post, startPair } from '../support/pair.ts';

/**
 * A consumer of somebody else, who has docs/asyncapi.yaml, the standards that it names, and the SDK as it comes.
 * Nothing of this project's code reads the messages here.
 */
const root = path.join(import.meta.dirname, '..', '..');
const document = parse(readFileSync(path.join(root, 'docs', 'asyncapi.yaml'), 'utf8'));
/** By the names that the document uses, and the standard that it must name with each. */
const UNPACK: Record<string, { standard: string; unpack: (bytes: Buffer) => Buffer }> = {
  gzip: { standard: 'RFC 1952', unpack: (bytes) => zlib.gunzipSync(bytes) },
  zstd: { standard: 'RFC 8878', unpack: (bytes) => zlib.zstdDecompressSync(bytes) },
};

type Described = {
  description: string;
  payload: { properties: Record<string, { const?: string; default?: string }> };
  examples: { name: string; headers: Record<string, string>; payload: object }[];
};
const described = (): Described[] =>
  Object.values<{ $ref: string }>(document.channels.orderQueue.messages).map(({ $ref }) =>
    $ref
      .slice(2)
      .split('/')
      .reduce((node, key) => node[key], document),
  );

/** By the AWS Encryption SDK as it comes, with the key of the recorded message. */
async function decrypted(ciphertext: Buffer): Promise<Buffer> {
  const keyring = new RawAesKeyringNode({
    keyNamespace: 'order-pipeline',
    keyName: 'sample',
    unencryptedMasterKey: Uint8Array.from(hash('sha256', 'sample', 'buffer')),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  });
  return (await buildDecrypt().decrypt(keyring, ciphertext)).plaintext;
}

async function ordersIn(body: string): Promise<unknown[]> {
  const event = JSON.parse(body);
  const message = described().find(({ payload }) => payload.properties['type']?.const === event.type);
  if (!message) throw new Error(`the document does not describe ${event.type}`);
  const given = (name: string) => event[name] ?? message.payload.properties[name]?.default;
  const encoding = given('contentencoding');
  if (encoding === 'identity') return [event.data];
  const { standard, unpack } = UNPACK[encoding] ?? { standard: '', unpack: Buffer.from };
  for (const words of [encoding, standard, 'RFC 4648', 'UTF-8']) expect(message.description).toContain(words);
  const bytes = Buffer.from(event.data_base64, 'base64');
  if (given('encryption') !== undefined)
    for (const words of ['AWS Encryption SDK', 'order-pipeline'])
      expect(message.description).toContain(words);
  const text = unpack(given('encryption') ? await decrypted(bytes) : bytes).toString('utf8');
  if (given('datacontenttype') === 'application/json') return [JSON.parse(text)];
  expect(given('datacontenttype')).toBe('application/x-ndjson');
  expect(message.description).toContain('U+000A');
  return (await Promise.all(text.split('\n').map(ordersIn))).flat();
}

const ajv = new Ajv({ strict: false });
addFormats.default(ajv);
ajv.addSchema(document, 'asyncapi');
const isOrder = ajv.compile({ $ref: 'asyncapi#/components/schemas/Order' });

const ORDERS = [
  {
    customerId: 'C-1',
    items: [{ productId: 'a', name: 'CD', quantity: 2, unitPrice: 1499 }],
    totalAmount: 2998,
  },
  {
    customerId: '고객-🛒',
    items: [{ productId: 'b', name: '책 "Größe"\\', quantity: 1, unitPrice: 5 }],
    totalAmount: 5,
  },
  {
    customerId: 'C-3',
    items: [{ productId: 'c', name: 'x', quantity: 1, unitPrice: 9 }],
    totalAmount: 9,
    metadata: { a: '😀' },
  },
].map((order) => ({ ...order, currency: 'USD', createdAt: '2026-11-22T09:00:00+09:00' }));

describe('a consumer that knows docs/asyncapi.yaml', () => {
  let emulator: Awaited<ReturnType<typeof startEmulator>>;
  let client: SQSClient;
  beforeAll(async () => {
    emulator = await startEmulator({ port: 0 });
    client = new SQSClient({
      endpoint: emulator.endpoint,
      region: 'ap-northeast-2',
      credentials: { accessKeyId: 'x', secretAccessKey: 'x' },
    });
  });
  afterAll(async () => {
    client?.destroy();
    await emulator?.stop();
  });

  test.each([
    { name: 'plain messages', type: 'order.placed.v1', env: { COMPRESS_ABOVE_BYTES: '1000000' } },
    {
      name: 'messages under gzip',
      type: 'order.placed.v1',
      env: { MESSAGE_ENCODING: 'gzip', COMPRESS_ABOVE_BYTES: '0' },
    },
    {
      name: 'messages under zstd',
      type: 'order.placed.v1',
      env: { MESSAGE_ENCODING: 'zstd', COMPRESS_ABOVE_BYTES: '0' },
    },
    { name: 'packed messages', type: 'order.placed.v2', env: { PUBLISH_PACKING: 'on' } },
  ])('gets the orders out of $name of our producer', async ({ type, env }) => {
    await using pair = await startPair({ ...env, AWS_ENDPOINT_URL: emulator.endpoint });
    await pair.stopConsumer();
    const sent = ORDERS.map((order) => ({ ...order, orderId: randomUUID() }));
    const { body } = await post(`${pair.producerUrl}/orders/batch`, sent);
    expect(body).toMatchObject({ accepted: sent.length });
    const { QueueUrl } = await client.send(
      new GetQueueUrlCommand({ QueueName: document.channels.orderQueue.address }),
    );
    const received: unknown[] = [];
    await eventually(async () => {
      const { Messages = [] } = await client.send(
        new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'] }),
      );
      for (const { Body = '', ReceiptHandle } of Messages) {
        expect(JSON.parse(Body).type).toBe(type);
        received.push(...(await ordersIn(Body)));
        await client.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }));
      }
      expect(received).toHaveLength(sent.length);
    });
    for (const order of received) expect(isOrder(order) || isOrder.errors).toBe(true);
    expect(received).toEqual(expect.arrayContaining(sent));
  });

  test('gets the recorded orders out of the examples in the document, of which each message has some', async () => {
    for (const { examples } of described()) {
      expect(examples.length).toBeGreaterThan(0);
      for (const { name, payload } of examples) {
        const file = path.join(root, 'shared', 'src', 'order', 'message-samples', `${name}.json`);
        const { decoded } = JSON.parse(readFileSync(file, 'utf8'));
        const orders = await ordersIn(JSON.stringify(payload));
        for (const order of orders) expect(isOrder(order) || isOrder.errors).toBe(true);
        expect(orders).toEqual([decoded].flat().map(({ order }) => order));
      }
    }
  });
});
