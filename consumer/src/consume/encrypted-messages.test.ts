import { randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import { KeyUnavailableError } from '@orders/shared/encryption/errors.ts';
import {
  decryptMessages,
  encryptMessages,
  type Line,
  readableOf,
} from '@orders/shared/order/encrypted-message.ts';
import { packMessages } from '@orders/shared/order/packed-message.ts';
import { aCipher, aKeyFile, keyLine } from '@orders/shared/testing/cipher.ts';
import { FakeKms } from '@orders/shared/testing/fake-kms.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { describe, expect, onTestFinished, test } from 'vitest';
import { eventually } from '../../../test/support/eventually.ts';
import { deadLetterOf, type Harness, startHarness } from '../../testing/consumer-harness.ts';
import { anOrder, bodyOf } from '../../testing/orders.ts';
import type { ConsumerConfig } from '../config.ts';
import { OrderNotStorableError } from '../domain/errors.ts';
import { createConsumerMetrics } from '../metrics.ts';
import { Condition } from './condition.ts';
import { KeyGate } from './key-gate.ts';

const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

async function aLine(order = anOrder()): Promise<Line & { order: typeof order }> {
  return { order, body: await bodyOf(order), orderId: order.orderId, traceparent: TRACE };
}

/** A cipher with a key in a file, or with KMS, behind a gate. */
async function keys(env?: Record<string, string>) {
  const file = aKeyFile();
  const metrics = createConsumerMetrics('test');
  const log = captureLog();
  const changed = new Condition();
  const gate = new KeyGate({ shutMs: { min: 10, max: 20 }, changed, logger: log.logger, metrics });
  const cipher = await aCipher(env ?? file.env, { guard: (call) => gate.pass(call) });
  onTestFinished(() => {
    gate.stop();
    cipher.close();
    file[Symbol.dispose]();
  });
  const state = async () => (await metrics.breakerState.get()).values[0]?.value;
  return { cipher, file, gate, changed, state, lines: log.lines };
}

type Keys = Awaited<ReturnType<typeof keys>>;

const start = (
  { cipher, gate, changed }: Keys,
  prepare: (harness: Harness) => void,
  config: Partial<ConsumerConfig> = {},
) => startHarness(config, prepare, { decryption: { cipher, gate }, changed });

const delays = ({ sqs }: Harness) =>
  sqs.entries('ChangeMessageVisibilityBatch').map(({ VisibilityTimeout }) => VisibilityTimeout);

describe('consumer with the key', () => {
  test('consumer, of messages encrypted and not, packed and not, stores every order once', async () => {
    const own = await keys();
    const [alone, plain, first, second] = [await aLine(), await aLine(), await aLine(), await aLine()];
    const [third, fourth] = [await aLine(), await aLine()];
    const lines = [alone, plain, first, second, third, fourth];
    const bodies = [
      (await encryptMessages([alone], own.cipher)).body,
      plain.body,
      (await encryptMessages([first, second], own.cipher)).body,
      (await packMessages([third.body, fourth.body])).body,
    ];
    const harness = start(own, ({ sqs }) => {
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(4));
    expect([...harness.repository.stored.keys()].toSorted()).toEqual(
      lines.map(({ orderId }) => orderId).toSorted(),
    );
    expect(harness.sqs.deadLetters).toEqual([]);
  });

  type Bad = {
    reason: string;
    damage?: (ciphertext: Buffer, own: Keys) => Buffer | Promise<Buffer>;
    /** What whoever encrypted it was told, if it was not the consumer's own cipher. */
    env?: (own: Keys) => Record<string, string>;
  };
  const flippedAt = (at: number) => (ciphertext: Buffer) => {
    const index = ciphertext.length + at;
    ciphertext.writeUInt8(ciphertext.readUInt8(index) ^ 1, index);
    return ciphertext;
  };
  const encrypted = (content: Buffer) => (_: Buffer, own: Keys) => own.cipher.encrypt(content);
  const anotherKey = () => {
    const file = aKeyFile(`test ${randomBytes(32).toString('base64')}\n`);
    onTestFinished(() => file[Symbol.dispose]());
    return file.env;
  };
  const staging = { APP_ENV: 'staging', ALLOW_PLAINTEXT: 'sqs' };
  test.each<[string, Bad]>([
    ['cut in its header', { reason: 'UNDECRYPTABLE', damage: (text) => text.subarray(0, 60) }],
    ['cut in its content', { reason: 'UNDECRYPTABLE', damage: (text) => text.subarray(0, -20) }],
    ['with a flipped bit in its content', { reason: 'UNDECRYPTABLE', damage: flippedAt(-40) }],
    ['with a flipped bit in its tag', { reason: 'UNDECRYPTABLE', damage: flippedAt(-1) }],
    ['of rubbish', { reason: 'UNDECRYPTABLE', damage: () => randomBytes(300) }],
    ['of 1 MB of rubbish', { reason: 'UNDECRYPTABLE', damage: () => randomBytes(1_048_576) }],
    ['of nothing', { reason: 'UNDECRYPTABLE', damage: () => Buffer.alloc(0) }],
    [
      'of another environment, with the same key',
      { reason: 'UNDECRYPTABLE', env: ({ file }) => ({ ...file.env, ...staging }) },
    ],
    ['of another key with the same id', { reason: 'UNDECRYPTABLE', env: anotherKey }],
    [
      'that is a bomb once it is decrypted',
      {
        reason: 'UNREADABLE_CONTENT',
        damage: encrypted(zlib.zstdCompressSync(Buffer.alloc(64 * 1_048_576))),
      },
    ],
    [
      'whose content is not compressed',
      { reason: 'UNREADABLE_CONTENT', damage: encrypted(Buffer.from('{}')) },
    ],
  ])(
    'consumer, of an encrypted message %s, dead-letters it as it came, with the readable trace',
    async (_, { reason, damage = (text) => text, env }) => {
      const own = await keys();
      const { cipher } = env ? await keys(env(own)) : own;
      const event = JSON.parse((await encryptMessages([await aLine()], cipher)).body);
      const damaged = await damage(Buffer.from(event.data_base64, 'base64'), own);
      const bad = JSON.stringify({ ...event, data_base64: damaged.toString('base64') });
      const line = await aLine();
      const { body: good } = await encryptMessages([line], own.cipher);
      const harness = start(own, ({ sqs }) => {
        for (const body of [bad, good]) sqs.put(body);
      });
      await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
      expect(harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody)).toEqual([bad]);
      expect(deadLetterOf(harness)).toMatchObject({ reason, traceId: TRACE.slice(3, 35) });
      expect([...harness.repository.stored.keys()]).toEqual([line.orderId]);
    },
  );

  test('consumer, of a packed message of which an order can never be stored, dead-letters that order encrypted', async () => {
    const own = await keys();
    const [good, bad] = [await aLine(), await aLine()];
    const { body } = await encryptMessages([good, bad], own.cipher);
    const harness = start(own, ({ sqs, repository }) => {
      repository.beforeSave = (orders) => {
        if (orders.some(({ order }) => order.orderId === bad.orderId)) throw new OrderNotStorableError('no');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const [letter, ...others] = harness.sqs.deadLetters.map(({ MessageBody = '' }) => MessageBody);
    expect(others).toEqual([]);
    expect(letter).not.toContain(bad.order.customerId);
    expect(readableOf(letter ?? '')).toEqual({ orderIds: [bad.orderId], traceparent: undefined });
    expect(await decryptMessages(letter ?? '', own.cipher)).toEqual([bad.body]);
    expect(deadLetterOf(harness)).toMatchObject({ reason: 'ORDER_NOT_STORABLE' });
    expect([...harness.repository.stored.keys()]).toEqual([good.orderId]);
  });

  test('consumer, of a packed message of which an order fails for a while, requeues that order encrypted, and stores it', async () => {
    const own = await keys();
    const [good, bad] = [await aLine(), await aLine()];
    const { body } = await encryptMessages([good, bad], own.cipher);
    let fails = true;
    const harness = start(own, ({ sqs, repository }) => {
      sqs.deliversWhatIsSent = true;
      repository.beforeSave = (orders) => {
        if (fails && orders.some(({ order }) => order.orderId === bad.orderId))
          throw new Error('for a while');
      };
      sqs.intercept = ({ operation, input }) => {
        if (operation === 'SendMessageBatch') {
          fails = false;
          for (const { MessageBody } of input.Entries ?? [])
            expect(MessageBody).not.toContain(bad.order.customerId);
        }
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.repository.stored.size).toBe(2));
    expect(harness.sqs.deadLetters).toEqual([]);
  });

  test('consumer, where encryption is required, dead-letters what is not encrypted, packed as it came, and holds what is newer', async () => {
    const own = await keys();
    const [first, second] = [await aLine(), await aLine()];
    const packed = (await packMessages([first.body, second.body])).body;
    const newer = first.body.replace('order.placed.v1', 'order.placed.v9');
    const encrypted = (await encryptMessages([await aLine()], own.cipher)).body;
    const harness = start(
      own,
      ({ sqs }) => {
        for (const body of [first.body, packed, newer, encrypted, '{"truncated']) sqs.put(body);
      },
      { MESSAGE_ENCRYPTION: 'local', MESSAGE_ENCRYPTION_REQUIRED: 'on' },
    );
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(4));
    await eventually(() => expect(delays(harness)).toEqual([60]));
    const letters = harness.sqs.deadLetters.map(({ MessageBody }, index) => [
      deadLetterOf(harness, index).reason,
      MessageBody,
    ]);
    expect(letters.toSorted()).toEqual(
      [
        ['NOT_JSON', '{"truncated'],
        ['UNENCRYPTED', first.body],
        ['UNENCRYPTED', packed],
      ].toSorted(),
    );
    expect(harness.repository.stored.size).toBe(1);
  });
});

describe('consumer without the key', () => {
  const anHourAgo = String(Date.now() - 3_600_000);

  test.each([
    ['that has none', undefined],
    ['that has another one', keyLine('other')],
  ])(
    'consumer %s, releases an encrypted message for a minute, and dead-letters it after an hour',
    async (_, text) => {
      const { body } = await encryptMessages([await aLine()], (await keys()).cipher);
      using file = aKeyFile(text);
      const harness = text
        ? start(await keys(file.env), ({ sqs }) => sqs.put(body))
        : startHarness({}, ({ sqs }) => sqs.put(body));
      await eventually(() => expect(delays(harness)).toEqual([60]));
      expect(harness.sqs.deadLetters).toEqual([]);
      expect(harness.lines).toContainEqual(
        expect.objectContaining({
          message: 'message released',
          cause: 'no-key',
          traceId: TRACE.slice(3, 35),
        }),
      );
      harness.sqs.put(body, {
        Attributes: { ApproximateReceiveCount: '10', ApproximateFirstReceiveTimestamp: anHourAgo },
      });
      await eventually(() => expect(harness.sqs.deadLetters).toHaveLength(1));
      expect(deadLetterOf(harness)).toMatchObject({
        reason: 'NEWER_VERSION',
        detail: 'no consumer with its key has taken the message',
      });
    },
  );
});

describe('consumer, while KMS is away', () => {
  test('consumer releases the message for long, polls no more, also for plain ones, and stores all once KMS is back', async () => {
    using kms = await FakeKms.start();
    const producer = await keys(kms.env);
    const [secret, plain] = [await aLine(), await aLine()];
    const { body } = await encryptMessages([secret], producer.cipher);
    kms.answer = () => 'DisabledException';
    const own = await keys(kms.env);
    const harness = start(own, ({ sqs }) => sqs.put(body));
    await eventually(() => expect(delays(harness)).toHaveLength(1));
    expect(delays(harness)[0]).toBeGreaterThanOrEqual(30);
    expect(await own.state()).toBeGreaterThan(0);
    const polls = () => harness.sqs.calls.filter(({ operation }) => operation === 'ReceiveMessage').length;
    const begun = polls();
    const empty = async () => (await harness.metrics.emptyPolls.get()).values[0]?.value ?? 0;
    await eventually(async () => expect(await empty()).toBe(begun - 1));
    harness.sqs.put(plain.body);
    harness.sqs.put(body, { Attributes: { ApproximateReceiveCount: '19' } });
    const asked = kms.calls.length;
    await eventually(() => expect(kms.calls.length).toBeGreaterThan(asked + 5));
    expect([polls(), harness.sqs.waiting.length]).toEqual([begun, 2]);
    expect(own.gate.open).toBe(false);

    kms.answer = () => undefined;
    await eventually(() => expect(harness.repository.stored.size).toBe(2));
    expect(await own.state()).toBe(0);
    expect(harness.sqs.deadLetters).toEqual([]);
    expect(own.lines.filter(({ message }) => message === 'breaker closed')).toHaveLength(1);
  });

  test('consumer goes on with what was encrypted by a data key that it knows', async () => {
    using kms = await FakeKms.start();
    const producer = await keys(kms.env);
    const own = await keys(kms.env);
    const { body: first } = await encryptMessages([await aLine()], producer.cipher);
    const { body: second } = await encryptMessages([await aLine()], producer.cipher);
    const harness = start(own, ({ sqs }) => sqs.put(first));
    await eventually(() => expect(harness.repository.stored.size).toBe(1));
    kms.answer = () => 'ThrottlingException';
    harness.sqs.put(second);
    await eventually(() => expect(harness.repository.stored.size).toBe(2));
  });
});

describe('KeyGate', () => {
  test('of two calls that fail at once, the first is tried again, until it is answered, be it with a refusal', async () => {
    const { gate } = await keys();
    const away = new KeyUnavailableError('away');
    let answers = false;
    let tried = 0;
    const first = async () => {
      tried++;
      throw answers ? new Error('no such data key') : away;
    };
    const results = await Promise.allSettled([gate.pass(first), gate.pass(() => Promise.reject(away))]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await expect(gate.pass(async () => 'not made')).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
    await eventually(() => expect(tried).toBeGreaterThan(2));
    answers = true;
    await eventually(() => expect(gate.open).toBe(true));
    expect(await gate.pass(async () => 'made')).toBe('made');
  });
});
