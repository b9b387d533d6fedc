import zlib from 'node:zlib';
import {
  DeleteMessageBatchCommand,
  type MessageAttributeValue,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { type DeadLetter, fromDeadLetterMessage } from '@orders/consumer/queue/dead-letter.ts';
import { toReceivedMessage } from '@orders/consumer/queue/received-message.ts';
import {
  CONTENT_TYPE,
  decodeOrderMessage,
  PACKED_TYPE,
  type UnreadableMessageError,
} from '@orders/shared/order/message.ts';
import { contentHash, type Order } from '@orders/shared/order/order.ts';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import { sendEntries } from '@orders/shared/sqs/batch.ts';
import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { MAX_MESSAGE_BYTES } from '@orders/shared/sqs/queues.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import fc from 'fast-check';
import { expect } from 'vitest';
import { findStored } from '../../dev/order-follower.ts';
import { eventually } from '../support/eventually.ts';
import type { Queues } from '../support/queues.ts';
import { drawn, type Mutation, mutated, mutation, NASTY, position } from './input.ts';

export type HostileMessage = { body: string; attributes: Record<string, MessageAttributeValue> };

/** What SQS takes in a text, and what is left of it on an emulator that does not know characters above U+FFFF. */
const SQS_CHARACTERS = /^[\t\n\r -\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]+$/u;
const BMP_CHARACTERS = /^[\t\n\r -\uD7FF\uE000-\uFFFD]+$/;

/** Bytes that are no text, or none that a queue or a database takes. */
const NASTY_BYTES: number[][] = [
  [0x00],
  [0x1b],
  [0xff],
  [0xc0, 0x80],
  [0xed, 0xa0, 0x80],
  [0xef, 0xbf, 0xbf],
  [0x0a],
];
type ByteStep = { at: number; bytes: number[]; replaced: number };
const byteStep: fc.Arbitrary<ByteStep> = fc.oneof(
  fc.record({ at: position, bytes: fc.constantFrom(...NASTY_BYTES), replaced: fc.nat(2) }),
  fc.record({
    at: position,
    bytes: fc.constant<number[]>([]),
    replaced: fc.integer({ min: 1, max: 10_000 }),
  }),
);

const mutations = fc.array(mutation, { maxLength: 2 });
const byteSteps: fc.Arbitrary<ByteStep[]> = fc.oneof(
  { arbitrary: fc.constant<ByteStep[]>([]), weight: 3 },
  { arbitrary: fc.array(byteStep, { minLength: 1, maxLength: 2 }), weight: 1 },
);

/** What is done to an order on its way into an envelope. */
type EnvelopePlan = {
  encoding: 'identity' | 'gzip' | 'zstd';
  /** Without one, changed content is not found out by its hash. */
  hashed: boolean;
  content: Mutation[];
  contentBytes: ByteStep[];
  packedBytes: ByteStep[];
  envelope: Mutation[];
};
const envelopePlan: fc.Arbitrary<EnvelopePlan> = fc.record({
  encoding: fc.constantFrom('identity', 'gzip', 'zstd'),
  hashed: fc.boolean(),
  content: mutations,
  contentBytes: byteSteps,
  packedBytes: byteSteps,
  envelope: mutations,
});

type PackedPlan = { lines: EnvelopePlan[]; packedBytes: ByteStep[]; envelope: Mutation[] };
const packedPlan: fc.Arbitrary<PackedPlan> = fc.record({
  lines: fc.array(envelopePlan, { minLength: 1, maxLength: 4 }),
  packedBytes: byteSteps,
  envelope: mutations,
});

/** Of any kind and content that SQS takes, with names that it takes. */
const attributeValue: fc.Arbitrary<MessageAttributeValue> = fc.oneof(
  fc.record({
    DataType: fc.constantFrom('String', 'String.order'),
    StringValue: fc.oneof(
      fc.constantFrom(...NASTY.filter((value) => typeof value === 'string')),
      fc.constantFrom('1', '2', '999', 'gzip', 'zstd', 'identity', 'br', CONTENT_TYPE, '{"reason":"forged"}'),
      fc.string({ unit: 'binary', maxLength: 20 }),
    ),
  }),
  fc.record({ DataType: fc.constant('Number'), StringValue: fc.integer().map(String) }),
  fc.record({ DataType: fc.constant('Binary'), BinaryValue: fc.uint8Array({ minLength: 1, maxLength: 64 }) }),
);
const KNOWN_ATTRIBUTES = ['contentType', 'contentEncoding', 'schemaVersion', 'deadLetter'];
type AttributesPlan = { dropped: string[]; given: Record<string, MessageAttributeValue> };
const attributesPlan: fc.Arbitrary<AttributesPlan> = fc.oneof(
  { arbitrary: fc.constant<AttributesPlan>({ dropped: [], given: {} }), weight: 2 },
  {
    arbitrary: fc.record({
      dropped: fc.subarray(KNOWN_ATTRIBUTES),
      given: fc.dictionary(
        fc.oneof(
          fc.constantFrom(...KNOWN_ATTRIBUTES, 'constructor', 'Id'),
          fc.stringMatching(/^[a-zA-Z0-9_-]{1,20}$/),
        ),
        attributeValue,
        { maxKeys: 8, noNullPrototype: true },
      ),
    }),
    weight: 1,
  },
);
const MAX_ATTRIBUTES = 10;

const messagePlan = fc.record({
  content: fc.oneof({ arbitrary: envelopePlan, weight: 3 }, { arbitrary: packedPlan, weight: 1 }),
  attributes: attributesPlan,
});

/**
 * Messages made of valid ones, plain, under gzip, under zstd and packed, by changes of the order, of its bytes, of the
 * packed bytes, of the envelope and of the attributes: each changed somewhere, and each one that SQS takes.
 */
export function* hostileMessages(
  count: number,
  seed: number,
  { astral }: { astral: boolean },
): Generator<HostileMessage> {
  const characters = astral ? SQS_CHARACTERS : BMP_CHARACTERS;
  let order = 0;
  const nextOrder = () =>
    anOrder({
      orderId: `${seed.toString(16).padStart(8, '0').slice(-8)}-0000-7000-8000-${(order++).toString(16).padStart(12, '0')}`,
      metadata: { channel: 'web' },
    });
  let left = count;
  for (let round = 0; left > 0; round++) {
    for (const plan of drawn(messagePlan, left, seed + round * 1_000_000)) {
      const message = toMessage(plan, nextOrder);
      if (message && isSendable(message, characters)) {
        left--;
        yield message;
      }
    }
  }
}

function toMessage(
  {
    content,
    attributes: { dropped, given },
  }: { content: EnvelopePlan | PackedPlan; attributes: AttributesPlan },
  nextOrder: () => Order,
): HostileMessage | undefined {
  const packed = 'lines' in content;
  if (!isChanged(content) && dropped.length === 0 && Object.keys(given).length === 0) return undefined;
  const body = packed ? packedBody(content, nextOrder) : envelopeOf(content, nextOrder());
  const usual = {
    contentType: CONTENT_TYPE,
    contentEncoding: packed ? 'zstd' : content.encoding,
    schemaVersion: packed ? '2' : '1',
  };
  const attributes: HostileMessage['attributes'] = {};
  for (const [name, StringValue] of Object.entries(usual))
    if (!dropped.includes(name)) attributes[name] = { DataType: 'String', StringValue };
  return { body, attributes: { ...attributes, ...given } };
}

function isChanged(plan: EnvelopePlan | PackedPlan): boolean {
  if ('lines' in plan)
    return plan.lines.some(isChanged) || plan.packedBytes.length + plan.envelope.length > 0;
  const { content, contentBytes, packedBytes, envelope } = plan;
  const ofContent = plan.encoding === 'identity' ? 0 : contentBytes.length + packedBytes.length;
  return content.length + envelope.length + ofContent > 0;
}

const PACK = { gzip: zlib.gzipSync, zstd: zlib.zstdCompressSync };

function envelopeOf(plan: EnvelopePlan, order: Order): string {
  const data = mutated(JSON.stringify(order), plan.content);
  const envelope = JSON.stringify({
    specversion: '1.0',
    id: order.orderId,
    type: 'order.placed.v1',
    source: '/order-producer',
    time: '2026-11-22T09:00:00.000Z',
    datacontenttype: 'application/json',
    contentencoding: plan.encoding,
    ...(plan.hashed ? { contenthash: contentHash(order) } : {}),
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  });
  const carried =
    plan.encoding === 'identity'
      ? `"data":${data}`
      : `"data_base64":"${changedBytes(PACK[plan.encoding](changedBytes(Buffer.from(data), plan.contentBytes)), plan.packedBytes).toString('base64')}"`;
  return mutated(`${envelope.slice(0, -1)},${carried}}`, plan.envelope);
}

function packedBody({ lines, ...plan }: PackedPlan, nextOrder: () => Order): string {
  const bodies = lines.flatMap((line) => envelopeOf(line, nextOrder()).split('\n'));
  const packed = changedBytes(zlib.zstdCompressSync(bodies.join('\n')), plan.packedBytes);
  const envelope = {
    specversion: '1.0',
    id: 'packed',
    type: PACKED_TYPE,
    source: '/order-producer',
    time: '2026-11-22T09:00:00.000Z',
    datacontenttype: 'application/x-ndjson',
    contentencoding: 'zstd',
    data_base64: packed.toString('base64'),
  };
  return mutated(JSON.stringify(envelope), plan.envelope);
}

function changedBytes(bytes: Buffer, steps: readonly ByteStep[]): Buffer {
  return steps.reduce((before, { at, bytes, replaced }) => {
    const start = Math.floor(at * before.length);
    return Buffer.concat([before.subarray(0, start), Buffer.from(bytes), before.subarray(start + replaced)]);
  }, bytes);
}

function isSendable({ body, attributes }: HostileMessage, characters: RegExp): boolean {
  const values = Object.values(attributes);
  return (
    values.length <= MAX_ATTRIBUTES &&
    [body, ...values.flatMap(({ StringValue }) => StringValue ?? [])].every((text) =>
      characters.test(text),
    ) &&
    sizeOf({ body, attributes }) <= MAX_MESSAGE_BYTES
  );
}

/** Never less than what SQS counts. */
function sizeOf({ body, attributes }: HostileMessage): number {
  const sizes = Object.entries(attributes).map(
    ([name, { DataType = '', StringValue = '', BinaryValue }]) =>
      Buffer.byteLength(name + DataType + StringValue) + (BinaryValue?.length ?? 0) * 2,
  );
  return sizes.reduce((sum, size) => sum + size, Buffer.byteLength(body));
}

/**
 * Sends the messages and waits until all are settled. Then each must be in the DLQ as it was sent, with a reason, or
 * its order in the store; so must be each order of a packed message. Leaves the DLQ empty.
 */
export async function sendAndAccountFor(
  messages: readonly HostileMessage[],
  { client, urls, consumerUrl }: Queues & { consumerUrl: string },
): Promise<{ deadLettered: number; stored: number }> {
  await sendAll(messages, { client, urls });
  await eventually(async () => expect(await messagesIn(client, urls.queueUrl)).toBe(0), 120_000);
  const letters = new Map<string, number>();
  let deadLettered = 0;
  for await (const { original, deadLetter } of emptied(client, urls.deadLetterQueueUrl)) {
    expect(deadLetter).toMatchObject({
      reason: expect.stringMatching(/^[A-Z_]+$/),
      attempts: 1,
      failures: 0,
    });
    const key = keyOf(original);
    letters.set(key, (letters.get(key) ?? 0) + 1);
    deadLettered++;
  }
  const isDeadLetter = (message: HostileMessage) => {
    const key = keyOf(message);
    const count = letters.get(key) ?? 0;
    if (count === 1) letters.delete(key);
    else if (count > 1) letters.set(key, count - 1);
    return count > 0;
  };
  const readable = new Set<string>();
  const lost: string[] = [];
  for (const message of messages) {
    // As a whole: what cannot be read at all, or a packed one with lines that no queue takes.
    const whole = isDeadLetter(message);
    const parts = unpackMessages(message.body);
    if (whole && parts.length === 1) continue;
    for (const body of parts) {
      if (parts.length > 1 && isDeadLetter({ body, attributes: {} })) continue;
      try {
        readable.add(decodeOrderMessage(body, {}, { packed: body !== message.body }).order.orderId);
      } catch (error) {
        if (!whole) lost.push(`${(error as UnreadableMessageError).code}: ${body.slice(0, 1_000)}`);
      }
    }
  }
  expect({ lost, letters: [...letters.keys()] }).toEqual({ lost: [], letters: [] });
  const stored = await findStored(consumerUrl, [...readable]);
  expect([...readable].filter((id) => !stored.has(id))).toEqual([]);
  return { deadLettered, stored: stored.size };
}

function keyOf({ body, attributes }: HostileMessage): string {
  const { deadLetter: _forged, ...others } = attributes;
  const plain = Object.entries(others).map(([name, { DataType, StringValue, BinaryValue }]) => [
    name,
    DataType,
    BinaryValue ? Buffer.from(BinaryValue).toString('base64') : StringValue,
  ]);
  return JSON.stringify([body, plain.toSorted()]);
}

type Letter = { original: HostileMessage; deadLetter: DeadLetter | undefined };

async function* emptied(client: SQSClient, QueueUrl: string): AsyncGenerator<Letter> {
  while ((await messagesIn(client, QueueUrl)) > 0) {
    const { Messages = [] } = await client.send(
      new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'] }),
    );
    if (Messages.length === 0) continue;
    const Entries = Messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
    await client.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
    for (const message of Messages) {
      const { original, deadLetter } = fromDeadLetterMessage(toReceivedMessage(message));
      yield { original: { body: original.MessageBody, attributes: original.MessageAttributes }, deadLetter };
    }
  }
}

const BATCH = { entries: 10, bytes: 200_000 };

export async function sendAll(messages: Iterable<HostileMessage>, { client, urls }: Queues): Promise<void> {
  let batch: HostileMessage[] = [];
  const flush = async () => {
    const entries = batch.map(({ body, attributes }) => ({
      MessageBody: body,
      MessageAttributes: attributes,
    }));
    batch = [];
    if (entries.length === 0) return;
    const results = await sendEntries(entries, (Entries) =>
      client.send(new SendMessageBatchCommand({ QueueUrl: urls.queueUrl, Entries })),
    );
    expect(results.filter((result) => result instanceof Error)).toEqual([]);
  };
  let bytes = 0;
  for (const message of messages) {
    const size = sizeOf(message);
    if (batch.length === BATCH.entries || bytes + size > BATCH.bytes) {
      await flush();
      bytes = 0;
    }
    batch.push(message);
    bytes += size;
  }
  await flush();
}
