import { randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { anOrder, validOrders } from '../../testing/orders.ts';
import { messageSizeBytes } from '../sqs/message-limits.ts';
import { MAX_MESSAGE_BYTES } from '../sqs/queues.ts';
import { decodeOrderMessage, encodeOrderMessage, PACKED_TYPE } from './message.ts';
import { contentHash, type Order } from './order.ts';
import {
  MAX_PACKED_BYTES,
  MAX_PACKED_ORDERS,
  packedEnvelopeSchema,
  packMessages,
  readableOrders,
  unpackMessages,
} from './packed-message.ts';

const options = { version: 1, encoding: 'zstd', compressAboveBytes: 4_096 } as const;
const bodyOf = async (order: Order) =>
  (await encodeOrderMessage({ order, contentHash: contentHash(order), traceparent: undefined }, options))
    .body;

/** A packed message of some other sender. */
const foreign = (lines: string, envelope: Record<string, unknown> = {}) =>
  JSON.stringify({
    specversion: '1.0',
    id: '1',
    type: PACKED_TYPE,
    source: '/foreign',
    datacontenttype: 'application/x-ndjson',
    contentencoding: 'zstd',
    data_base64: zlib.zstdCompressSync(lines).toString('base64'),
    ...envelope,
  });

/** As much of the text as fits, in bytes of UTF-8. */
function fitting(text: string): string[] {
  const bytes = Buffer.from(text).subarray(0, MAX_PACKED_BYTES - 8);
  return [bytes.toString('utf8').replace(/\uFFFD$/, ''), 'x'];
}

describe('packed messages', () => {
  it('unpackMessages, given any orders that were packed, gives their messages back to the letter', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(validOrders, { minLength: 2, maxLength: 20 }), async (orders) => {
        const bodies = await Promise.all(orders.map(bodyOf));
        const { body } = await packMessages(bodies);
        expect(unpackMessages(body)).toEqual(bodies);
        expect(readableOrders(body)).toEqual(orders);
        expect(packedEnvelopeSchema.safeParse(JSON.parse(body)).success).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('packMessages, of as many bytes as may be that nothing packs, fits into a message', async () => {
    const noise = randomBytes(MAX_PACKED_BYTES).toString('latin1').replaceAll('\n', ' ');
    const { body, attributes } = await packMessages(fitting(noise));
    expect(messageSizeBytes(body, attributes)).toBeGreaterThan(MAX_MESSAGE_BYTES * 0.75);
    expect(messageSizeBytes(body, attributes)).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
  });

  it('unpackMessages, given any other message, returns it unchanged', async () => {
    const plain = await bodyOf(anOrder());
    const named = await bodyOf(anOrder({ customerId: PACKED_TYPE }));
    for (const body of [plain, named, 'no JSON', '']) expect(unpackMessages(body)).toEqual([body]);
  });

  it.each([
    ['without data', foreign('{}', { data_base64: undefined })],
    ['packed otherwise', foreign('{}', { contentencoding: 'gzip' })],
    ['garbled', foreign('{}', { data_base64: 'AAAA' })],
    ['a bomb', foreign('a'.repeat(64 * 1024 * 1024))],
    [
      'too many',
      foreign(
        Array(MAX_PACKED_ORDERS + 1)
          .fill('{}')
          .join('\n'),
      ),
    ],
  ])('a packed message that is %s is one that can never be read', async (_name, body) => {
    expect(unpackMessages(body)).toEqual([body]);
    expect(() => decodeOrderMessage(body)).toThrow(expect.objectContaining({ code: 'UNREADABLE_CONTENT' }));
    expect(readableOrders(body)).toEqual([]);
  });

  it('decodeOrderMessage, given a line that is compressed once more, refuses it', async () => {
    const { body } = await encodeOrderMessage(
      { order: anOrder(), contentHash: contentHash(anOrder()), traceparent: undefined },
      { version: 1, encoding: 'zstd', compressAboveBytes: 0 },
    );
    expect(decodeOrderMessage(body).order).toEqual(anOrder());
    expect(() => decodeOrderMessage(body, {}, { packed: true })).toThrow(
      expect.objectContaining({ code: 'UNREADABLE_CONTENT' }),
    );
  });

  it('readableOrders, given a packed message in which one cannot be read, gives the others', async () => {
    const order = anOrder();
    expect(readableOrders(foreign(`{"truncated\n${await bodyOf(order)}`))).toEqual([order]);
  });
});
