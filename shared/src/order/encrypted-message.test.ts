import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import zlib from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { aCipher, aKeyFile, keyLine } from '../../testing/cipher.ts';
import { anOrder } from '../../testing/orders.ts';
import type { MessageCipher } from '../encryption/message-cipher.ts';
import { messageSizeBytes } from '../sqs/message-limits.ts';
import { MAX_MESSAGE_BYTES } from '../sqs/queues.ts';
import { decryptMessages, encryptMessages, isEncrypted, readableOf } from './encrypted-message.ts';
import { decodeOrderMessage, encodeOrderMessage, MAX_ORDER_BYTES } from './message.ts';
import { contentHash } from './order.ts';
import { MAX_PACKED_BYTES, MAX_PACKED_ORDERS, unpackMessages } from './packed-message.ts';

const keys = aKeyFile(keyLine('sample'));
let cipher: MessageCipher;
beforeAll(async () => {
  cipher = await aCipher(keys.env);
});
afterAll(() => {
  cipher.close();
  keys[Symbol.dispose]();
});

const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

async function aLine(traceparent = TRACE) {
  const order = anOrder({ orderId: randomUUID() });
  const message = { order, contentHash: contentHash(order), traceparent };
  const options = { version: 1, encoding: 'zstd', compressAboveBytes: 4_096 } as const;
  const { body } = await encodeOrderMessage(message, options);
  return { order, body, orderId: order.orderId, traceparent };
}

/** What somebody else with the key encrypted. */
async function foreign(plaintext: Buffer, envelope: object = {}) {
  const { body } = await encryptMessages([await aLine()], cipher);
  const data_base64 = (await cipher.encrypt(plaintext)).toString('base64');
  return JSON.stringify({ ...JSON.parse(body), data_base64, ...envelope });
}

describe('encryptMessages', () => {
  it('of one order: nothing of it is readable but its id, type and trace; decryptMessages returns its body', async () => {
    const line = await aLine();
    const { body, attributes } = await encryptMessages([line], cipher);
    expect(JSON.parse(body)).toMatchObject({ id: line.orderId, type: 'order.placed.v3', traceparent: TRACE });
    expect(attributes).toEqual({
      contentType: 'application/cloudevents+json',
      contentEncoding: 'zstd',
      schemaVersion: '3',
    });
    for (const part of [line.order.customerId, line.order.items[0]?.name ?? '', 'contenthash'])
      expect(body).not.toContain(part);
    expect(await decryptMessages(body, cipher)).toEqual([line.body]);
    expect(readableOf(body)).toEqual({ orderIds: [line.orderId], traceparent: TRACE });
  });

  it('of many orders: one encryption, all ids readable, and the trace where it is that of all', async () => {
    const lines = await Promise.all(Array.from({ length: MAX_PACKED_ORDERS }, () => aLine()));
    let encryptions = 0;
    const counting: MessageCipher = {
      ...cipher,
      encrypt: (plaintext) => {
        encryptions++;
        return cipher.encrypt(plaintext);
      },
    };
    const { body } = await encryptMessages(lines, counting);
    expect(encryptions).toBe(1);
    expect(readableOf(body)).toEqual({ orderIds: lines.map(({ orderId }) => orderId), traceparent: TRACE });
    expect(await decryptMessages(body, cipher)).toEqual(lines.map((line) => line.body));
    const [first, second] = [await aLine(), await aLine(TRACE.replace('-b7', '-b8'))];
    expect(readableOf((await encryptMessages([first, second], cipher)).body)?.traceparent).toBeUndefined();
  });

  it('of as much as is packed, of which zstd gains nothing, fits into a message', async () => {
    const bytes = Math.floor(MAX_PACKED_BYTES / MAX_PACKED_ORDERS) - 1;
    const lines = Array.from({ length: MAX_PACKED_ORDERS }, () => ({
      body: randomBytes(bytes)
        .toString('latin1')
        .replaceAll('\n', ' ')
        .slice(0, Math.floor(bytes / 2)),
      orderId: randomUUID(),
      traceparent: TRACE,
    }));
    const { body, attributes } = await encryptMessages(lines, cipher);
    expect(messageSizeBytes(body, attributes)).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
  });
});

describe('decryptMessages', () => {
  it('of a message that is not encrypted, returns undefined, also where the type stands somewhere else in it', async () => {
    const { body } = await aLine();
    const mentioned = JSON.stringify({ ...JSON.parse(body), note: 'order.placed.v3' });
    for (const plain of [body, mentioned, 'order.placed.v3', '{"type":"order.placed.v3']) {
      expect(await decryptMessages(plain, cipher)).toBeUndefined();
      expect([isEncrypted(plain), readableOf(plain)]).toEqual([false, undefined]);
    }
  });

  it.each([
    ['a bomb', zlib.zstdCompressSync(Buffer.alloc(MAX_ORDER_BYTES + 1))],
    ['too many lines', zlib.zstdCompressSync('\n'.repeat(MAX_PACKED_ORDERS))],
    ['nothing compressed', Buffer.from('plain')],
  ])('of %s, throws UNREADABLE_CONTENT', async (_, plaintext) => {
    await expect(decryptMessages(await foreign(plaintext), cipher)).rejects.toMatchObject({
      code: 'UNREADABLE_CONTENT',
    });
  });

  it('of an envelope without content, throws NOT_AN_ENVELOPE; of content cut, UNDECRYPTABLE', async () => {
    const cut = JSON.parse((await encryptMessages([await aLine()], cipher)).body).data_base64.slice(0, 200);
    for (const [data_base64, code] of [
      [undefined, 'NOT_AN_ENVELOPE'],
      ['%%%', 'NOT_AN_ENVELOPE'],
      [cut, 'UNDECRYPTABLE'],
      ['', 'UNDECRYPTABLE'],
    ]) {
      await expect(
        decryptMessages(await foreign(Buffer.alloc(1), { data_base64 }), cipher),
      ).rejects.toMatchObject({
        code,
      });
    }
  });
});

it('decodeOrderMessage and unpackMessages, which have no key, leave an encrypted message to those that do', async () => {
  const { body, attributes } = await encryptMessages([await aLine()], cipher);
  expect(unpackMessages(body)).toEqual([body]);
  expect(() => decodeOrderMessage(body, attributes)).toThrow(
    expect.objectContaining({ code: 'NO_KEY', traceparent: TRACE }),
  );
});

it('the recorded sample, decrypted by this release, is the orders that were sent', async () => {
  const { body, decoded } = JSON.parse(
    readFileSync(new URL('message-samples/v3-zstd.json', import.meta.url), 'utf8'),
  );
  const parts = await decryptMessages(body, cipher);
  expect(parts?.map((part) => decodeOrderMessage(part))).toEqual(decoded);
});
