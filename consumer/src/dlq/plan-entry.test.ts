import { NoKeyError } from '@orders/shared/encryption/errors.ts';
import { encryptMessages } from '@orders/shared/order/encrypted-message.ts';
import { decodeOrderMessage, encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash, type Order } from '@orders/shared/order/order.ts';
import { packMessages } from '@orders/shared/order/packed-message.ts';
import { aCipher, aKeyFile } from '@orders/shared/testing/cipher.ts';
import { AN_ORDER_ID, anOrder } from '@orders/shared/testing/orders.ts';
import { describe, expect, test } from 'vitest';
import { DEAD_LETTER_ATTRIBUTE } from '../queue/dead-letter.ts';
import { toReceivedMessage } from '../queue/received-message.ts';
import { REDRIVE_ATTRIBUTE, redriveMarkOf } from '../queue/redrive-mark.ts';
import type { DeadLetteredMessage } from './dead-letter-queue.ts';
import { letterHash, type PlanOptions, planEntry, plannedMessage } from './plan-entry.ts';
import { jsonPatch } from './repair.ts';

const LETTER = {
  ...{ reason: 'INVALID_ORDER', detail: '', errorClass: 'E', attempts: 1, failures: 0 },
  ...{ firstSeenAt: '2026-01-01T00:00:00Z', deadLetteredAt: '2026-01-01T00:00:01Z', codeVersion: '1' },
  ...{ traceId: '', messageId: 'first' },
};

function letter(body: string, about = {}, attributes: Record<string, string> = {}): DeadLetteredMessage {
  const deadLetter = { ...LETTER, ...about };
  const all = { ...attributes, [DEAD_LETTER_ATTRIBUTE]: JSON.stringify(deadLetter) };
  return {
    message: toReceivedMessage({
      MessageId: 'letter',
      Body: body,
      MessageAttributes: Object.fromEntries(
        Object.entries(all).map(([name, StringValue]) => [name, { DataType: 'String', StringValue }]),
      ),
    }),
    deadLetter,
  };
}

async function bodyOf(order: Order = anOrder(), encoding: 'identity' | 'gzip' = 'identity'): Promise<string> {
  const message = { order, contentHash: contentHash(order), traceparent: undefined, clientId: 'web-shop' };
  const compressAboveBytes = encoding === 'identity' ? 1e9 : 0;
  return (await encodeOrderMessage(message, { version: 1, encoding, compressAboveBytes })).body;
}
const faulty = async () => (await bodyOf()).replace('"quantity":2', '"quantity":-1');
const QUANTITY = { op: 'replace', path: '/items/0/quantity', value: 2 };
const entryOf = (body: string, options: PlanOptions = {}, about = {}) =>
  planEntry(letter(body, about), options);
const repaired = (body: string, patch: unknown = [QUANTITY], options: PlanOptions = {}) =>
  entryOf(body, { repair: jsonPatch(patch), ...options });

describe('planEntry', () => {
  test('plan, of what this release reads, redrives it; of what it does not, only on demand', async () => {
    const orders = [{ orderId: AN_ORDER_ID, contentHash: contentHash(anOrder()), clientId: 'web-shop' }];
    expect(await entryOf(await bodyOf())).toMatchObject({ action: 'redrive', orders });
    const bad = await faulty();
    expect(await entryOf(bad)).toMatchObject({
      action: 'leave',
      why: expect.stringMatching(/^still INVALID_ORDER \(items\.0\.quantity/),
    });
    expect(await entryOf(bad, { unreadable: true })).toMatchObject({ action: 'redrive', orders });
  });

  test('plan leaves what nobody could account for: of no order, encrypted without a key', async () => {
    expect(await entryOf('no JSON', { unreadable: true })).toMatchObject({ why: 'names no order' });
    const other = (await faulty()).replaceAll(AN_ORDER_ID, 'x'.repeat(36));
    expect(await entryOf(other, { unreadable: true })).toMatchObject({ why: 'names no order' });
    using keys = aKeyFile();
    const cipher = await aCipher(keys.env);
    const line = { body: await bodyOf(), orderId: AN_ORDER_ID, traceparent: undefined };
    const { body } = await encryptMessages([line], cipher);
    cipher.close();
    const sealed = { ...letter(body), decrypted: new NoKeyError('no key was given') };
    expect(await planEntry(sealed, { unreadable: true })).toMatchObject({
      action: 'leave',
      why: expect.stringContaining('encrypted'),
    });
    expect(await repaired(body)).toMatchObject({
      action: 'leave',
      why: 'encrypted messages are not repaired',
    });
  });

  test('plan leaves a conflict, unless told otherwise, and what has no room for its count', async () => {
    const conflict = { reason: 'CONFLICT' };
    expect((await entryOf(await bodyOf(), {}, conflict)).why).toContain('CONFLICT');
    expect((await entryOf(await bodyOf(), { conflicts: true }, conflict)).action).toBe('redrive');
    const nine = Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`a${n}`, 'x']));
    expect((await planEntry(letter(await bodyOf(), {}, nine), {})).why).toContain('ten attributes');
  });

  test('plan, of what was redriven three times, parks it; a mark that is none of ours counts nothing', async () => {
    const body = await bodyOf();
    const marked = (redriveCount: number) => ({
      [REDRIVE_ATTRIBUTE]: JSON.stringify({
        ...{ id: 'x', plan: 'p', redriveCount, messageId: 'm', firstSeenAt: '' },
      }),
    });
    expect((await planEntry(letter(body, {}, marked(2)), {})).action).toBe('redrive');
    expect(await planEntry(letter(body, {}, marked(3)), {})).toMatchObject({
      action: 'leave',
      why: 'parked: redriven 3 times',
    });
    expect((await planEntry(letter(body, {}, marked(3)), { discard: true })).action).toBe('discard');
    for (const forged of ['no JSON', '{"redriveCount":-5}', '7'])
      expect((await planEntry(letter(body, {}, { [REDRIVE_ATTRIBUTE]: forged }), {})).action).toBe('redrive');
  });
});

describe('a repair', () => {
  test.each(['identity', 'gzip'] as const)(
    'repair, of an order that is %s, is what this release reads, with what differs',
    async (encoding) => {
      const bad = anOrder();
      const [item] = bad.items;
      if (item) item.quantity = -1;
      const entry = await repaired(await bodyOf(bad, encoding));
      expect(entry).toMatchObject({
        action: 'repair',
        changes: [{ path: '/items/0/quantity', before: -1, after: 2 }],
        attributes: { contentEncoding: encoding },
      });
      expect(decodeOrderMessage(entry.body ?? '', entry.attributes)).toMatchObject({
        order: anOrder(),
        contentHash: entry.orders[0]?.contentHash,
        clientId: 'web-shop',
      });
    },
  );

  test('repair, with nothing to change, mends a wrong hash and a wrong type', async () => {
    for (const body of [
      (await bodyOf()).replace(/v1:[0-9a-f]{8}/, 'v1:00000000'),
      (await bodyOf()).replace('order.placed.v1', 'order.placed'),
    ])
      expect(await repaired(body, [])).toMatchObject({ action: 'repair', changes: [] });
  });

  test.each([
    ['makes no good order', [{ ...QUANTITY, value: 3 }], /^still INVALID_ORDER \(totalAmount/],
    ['does not apply', [{ op: 'remove', path: '/nothing' }], /operation 1 of the patch does not apply/],
    ['tests what is not so', [{ op: 'test', path: '/currency', value: 'KRW' }, QUANTITY], /operation 1/],
    ['changes the customer', [QUANTITY, { op: 'replace', path: '/customerId', value: 'C-2' }], /customerId/],
    [
      'changes the id',
      [QUANTITY, { op: 'replace', path: '/orderId', value: '019a0000-0000-7000-8000-000000000002' }],
      /orderId/,
    ],
    ['makes it no object', [{ op: 'replace', path: '', value: null }], /^still INVALID_ORDER/],
    ['reaches for what every object has', [{ op: 'add', path: '/__proto__/x', value: 1 }], /INVALID_ORDER/],
  ])('repair, when the patch %s, leaves the message and says why', async (_, patch, why) => {
    expect(await repaired(await faulty(), patch)).toMatchObject({
      action: 'leave',
      why: expect.stringMatching(why),
    });
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  test('repair may change whose order it is where that was asked for', async () => {
    const patch = [QUANTITY, { op: 'replace', path: '/customerId', value: 'C-2' }];
    expect(await repaired(await faulty(), patch, { identity: true })).toMatchObject({ action: 'repair' });
  });

  test.each([
    ['not JSON', 'x', /^still NOT_JSON/],
    ['no event', '{}', /^still NOT_AN_ENVELOPE/],
    [
      'nested without end',
      `{"id":"x","source":"x","data":${'['.repeat(50_000)}${']'.repeat(50_000)}}`,
      /deep/,
    ],
  ])('repair, of a message that is %s, leaves it and says why', async (_, body, why) => {
    expect(await repaired(body, [])).toMatchObject({ action: 'leave', why: expect.stringMatching(why) });
  });

  test('repair, of a packed message, leaves it', async () => {
    expect((await repaired((await packMessages([await bodyOf()])).body)).why).toContain('packed');
  });

  test('repair by a module, that fails, leaves the message without a word of the order', async () => {
    const repair = (order: unknown) => {
      throw new TypeError(JSON.stringify(order));
    };
    expect((await entryOf(await faulty(), { repair })).why).toBe('the repair fails with TypeError');
    const half = async (order: unknown) => ({ ...(order as Order), items: anOrder().items });
    expect((await entryOf(await faulty(), { repair: half })).action).toBe('repair');
  });

  test.each([[{}], [[{ op: 'replace' }]], [[{ op: 'move', path: '/a' }]], [[{ op: 'x', path: '' }]], ['x']])(
    'a patch such as %j is refused',
    (patch) => {
      expect(() => jsonPatch(patch)).toThrow();
    },
  );
});

describe('plannedMessage', () => {
  test('message of a plan keeps all attributes, its first id and time, and has the same id whenever it is sent', async () => {
    const bad = letter(await faulty(), {}, { mine: 'kept', contentType: 'application/cloudevents+json' });
    const entry = await planEntry(bad, { repair: jsonPatch([QUANTITY]) });
    const sent = plannedMessage(bad, entry, 'plan-1');
    expect(sent).toEqual(plannedMessage(bad, entry, 'plan-1'));
    expect(sent.MessageBody).toBe(entry.body);
    expect(sent.MessageAttributes).toMatchObject({
      mine: { StringValue: 'kept' },
      contentEncoding: { StringValue: 'identity' },
    });
    expect(sent.MessageAttributes[DEAD_LETTER_ATTRIBUTE]).toBeUndefined();
    const again = toReceivedMessage({ MessageAttributes: sent.MessageAttributes, MessageId: 'letter-2' });
    const mark = redriveMarkOf(again);
    expect(mark).toMatchObject({ redriveCount: 1, messageId: 'first', firstSeenAt: LETTER.firstSeenAt });
    const next = plannedMessage({ message: again, deadLetter: undefined }, {}, 'plan-2');
    const nextMark = redriveMarkOf(toReceivedMessage({ MessageAttributes: next.MessageAttributes }));
    expect(nextMark).toMatchObject({ redriveCount: 2, messageId: 'first', firstSeenAt: LETTER.firstSeenAt });
    expect(nextMark?.id).not.toBe(mark?.id);
  });
});

test('letterHash differs with every part of a message, and not with the order of its attributes', () => {
  const hashes = [
    letter('a'),
    letter('b'),
    letter('a', { reason: 'X' }),
    letter('a', {}, { x: '1' }),
    letter('a', {}, { x: '2' }),
  ].map(letterHash);
  expect(new Set(hashes).size).toBe(5);
  const inOrder = letterHash(letter('a', {}, { x: '1', y: '2' }));
  expect(letterHash(letter('a', {}, { y: '2', x: '1' }))).toBe(inOrder);
});
