import { NoKeyError, UndecryptableError } from '@orders/shared/encryption/errors.ts';
import { encryptMessages } from '@orders/shared/order/encrypted-message.ts';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { packMessages } from '@orders/shared/order/packed-message.ts';
import { aCipher, aKeyFile } from '@orders/shared/testing/cipher.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { expect, test } from 'vitest';
import { DEAD_LETTER_ATTRIBUTE, type DeadLetter } from '../queue/dead-letter.ts';
import { toReceivedMessage } from '../queue/received-message.ts';
import type { DeadLetteredMessage } from './dead-letter-queue.ts';
import { Groups, MOVED_BY_SQS, read } from './diagnosis.ts';

const DAY_MS = 86_400_000;
const retentionSeconds = 14 * 86_400;

async function messageOf(orderId: string): Promise<string> {
  const order = anOrder({ orderId });
  const { body } = await encodeOrderMessage(
    { order, contentHash: contentHash(order), traceparent: undefined },
    { version: 1, encoding: 'identity', compressAboveBytes: 1e9 },
  );
  return body;
}

let letters = 0;
function letter(
  body: string,
  deadLetter?: Partial<DeadLetter>,
  { ageMs = 0, attributes = {} }: { ageMs?: number; attributes?: Record<string, string> } = {},
): DeadLetteredMessage {
  const full: DeadLetter | undefined = deadLetter && {
    reason: 'INVALID_ORDER',
    detail: '',
    errorClass: 'E',
    attempts: 1,
    failures: 0,
    firstSeenAt: '',
    deadLetteredAt: '2026-01-01T00:00:00Z',
    codeVersion: '1',
    traceId: '',
    messageId: '',
    ...deadLetter,
  };
  const all = { ...attributes, ...(full ? { [DEAD_LETTER_ATTRIBUTE]: JSON.stringify(full) } : {}) };
  return {
    message: toReceivedMessage({
      MessageId: `letter-${letters++}`,
      Body: body,
      Attributes: { SentTimestamp: String(Date.now() - ageMs) },
      MessageAttributes: Object.fromEntries(
        Object.entries(all).map(([name, StringValue]) => [name, { DataType: 'String', StringValue }]),
      ),
    }),
    deadLetter: full,
  };
}

const groupsOf = (all: DeadLetteredMessage[]) => {
  const groups = new Groups({ retentionSeconds });
  for (const each of all) groups.add(each);
  return groups.list();
};

test('read, of an order that this release takes, returns it; of another, says what is wrong with it', async () => {
  const [orderId = ''] = [crypto.randomUUID()];
  const body = await messageOf(orderId);
  expect(read(letter(body)).map(({ order }) => order?.orderId)).toEqual([orderId]);
  expect(read(letter(body.slice(1)))).toEqual([
    { problem: { reason: 'NOT_JSON', detail: 'not valid JSON' } },
  ]);
  expect(read(letter(body.replace('placed.v1', 'placed.v9')))).toMatchObject([
    { problem: { reason: 'NEWER_VERSION' } },
  ]);
  // The attributes count as they did when the consumer read it.
  expect(read(letter(body, {}, { attributes: { schemaVersion: '7' } }))).toMatchObject([
    { problem: { reason: 'ATTRIBUTE_MISMATCH' } },
  ]);
});

test('read, of a packed message with one bad line, reads the others', async () => {
  const good = await messageOf(crypto.randomUUID());
  const { body } = await packMessages([good, 'rubbish', await messageOf(crypto.randomUUID())]);
  expect(read(letter(body)).map(({ problem }) => problem?.reason)).toEqual([
    undefined,
    'NOT_JSON',
    undefined,
  ]);
});

test('read, of an encrypted message, returns its orders, or its ids where it cannot be decrypted here, or that it never can', async () => {
  using keys = aKeyFile();
  const cipher = await aCipher(keys.env);
  const ids = [crypto.randomUUID(), crypto.randomUUID()];
  const lines = await Promise.all(
    ids.map(async (orderId) => ({ body: await messageOf(orderId), orderId, traceparent: undefined })),
  );
  const { body } = await encryptMessages(lines, cipher);
  cipher.close();
  const readAs = (decrypted: DeadLetteredMessage['decrypted']) => read({ ...letter(body), decrypted });
  expect(readAs(lines.map((line) => line.body)).map(({ order }) => order?.orderId)).toEqual(ids);
  const detail = 'no key was given';
  expect(readAs(new NoKeyError(detail))).toEqual(ids.map((orderId) => ({ encrypted: { orderId, detail } })));
  expect(readAs(new UndecryptableError('cut'))).toEqual([
    { problem: { reason: 'UNDECRYPTABLE', detail: 'cut' } },
  ]);
  expect(
    groupsOf([{ ...letter(body, {}), decrypted: new NoKeyError(detail) }, letter(lines[0]?.body ?? '', {})]),
  ).toMatchObject([{ letters: 2, readable: 1, encrypted: 1 }]);
});

test('groups, of letters that differ in ids and numbers, are one; by another reason or detail, several', async () => {
  const good = await messageOf(crypto.randomUUID());
  expect(
    groupsOf([
      letter('x', {
        detail: `items.3.quantity of ${crypto.randomUUID()}`,
        deadLetteredAt: '2026-01-03T00:00:00Z',
      }),
      letter('x', {
        detail: `items.12.quantity of ${crypto.randomUUID()}`,
        deadLetteredAt: '2026-01-01T00:00:00Z',
      }),
      letter(good, { detail: `items.0.quantity of ${crypto.randomUUID()}`, codeVersion: '2' }),
      letter('x', { detail: 'items.0.name' }),
      letter('x', { reason: 'NOT_JSON', detail: 'items.0.name' }),
      letter('x'),
    ]),
  ).toMatchObject([
    {
      reason: 'INVALID_ORDER',
      detail: 'items.#.quantity of …',
      letters: 3,
      readable: 1,
      first: '2026-01-01T00:00:00Z',
      last: '2026-01-03T00:00:00Z',
      releases: ['1', '2'],
    },
    { reason: 'INVALID_ORDER', detail: 'items.#.name', letters: 1, readable: 0 },
    { reason: 'NOT_JSON', detail: 'items.#.name' },
    { reason: MOVED_BY_SQS, detail: 'now NOT_JSON (not valid JSON)', letters: 1 },
  ]);
});

test('groups count what SQS deletes within a day', () => {
  const ages = [0, 12.9 * DAY_MS, 13.1 * DAY_MS, 15 * DAY_MS];
  const [group] = groupsOf(ages.map((ageMs) => letter('x', {}, { ageMs })));
  expect(group).toMatchObject({ letters: 4, expiring: 2 });
});

test('groups, of letters that each have a detail of their own, stay few, and lose none', () => {
  const word = (n: number) => Array.from(String(n), (digit) => 'abcdefghij'[Number(digit)]).join('');
  const groups = groupsOf(Array.from({ length: 5_000 }, (_, n) => letter('x', { detail: word(n) })));
  expect(groups.length).toBeLessThanOrEqual(201);
  expect(groups.reduce((sum, group) => sum + group.letters, 0)).toBe(5_000);
});
