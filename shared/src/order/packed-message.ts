import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { z } from 'zod';
import { MAX_MESSAGE_BYTES } from '../sqs/queues.ts';
import {
  attributesOf,
  decodeOrderMessage,
  type EncodedMessage,
  MAX_ORDER_BYTES,
  PACKED_TYPE,
} from './message.ts';
import type { Order } from './order.ts';

/**
 * Many orders in one SQS message: the bodies of their messages, one per line, compressed with zstd in one CloudEvents
 * event. A consumer that does not know it sees a newer version and leaves it to those that do.
 */

/** More are not unpacked: each order that is not stored becomes a message of its own. */
export const MAX_PACKED_ORDERS = 100;
/** Limit of all bodies together: base64 (4 bytes for 3) and the envelope, with ids, fit even if zstd gains nothing. */
export const MAX_PACKED_BYTES = Math.floor(((MAX_MESSAGE_BYTES - 8_192) * 3) / 4);

const CONTENT_ENCODING = 'zstd';
const ATTRIBUTES = attributesOf(2, CONTENT_ENCODING);
const compress = promisify(zlib.zstdCompress);

/** @param bodies of messages, at most {@link MAX_PACKED_ORDERS} and {@link MAX_PACKED_BYTES} together */
export async function packMessages(bodies: readonly string[]): Promise<EncodedMessage> {
  const packed = await compress(bodies.join('\n'));
  return {
    body: JSON.stringify({
      specversion: '1.0',
      id: randomUUID(),
      type: PACKED_TYPE,
      source: '/order-producer',
      time: new Date().toISOString(),
      datacontenttype: 'application/x-ndjson',
      contentencoding: CONTENT_ENCODING,
      data_base64: packed.toString('base64'),
    }),
    attributes: ATTRIBUTES,
  };
}

export const packedEnvelopeSchema = z.looseObject({
  specversion: z.literal('1.0'),
  id: z.string().min(1),
  type: z.literal(PACKED_TYPE),
  source: z.string().min(1),
  time: z.iso.datetime({ offset: true }).optional(),
  datacontenttype: z.literal('application/x-ndjson').describe('one queue message per line'),
  contentencoding: z.literal(CONTENT_ENCODING),
  data_base64: z.base64().describe('the compressed lines in base64'),
});

/**
 * The bodies of the messages in a packed message. Any other message, or one that cannot be unpacked, is its own only part;
 * {@link decodeOrderMessage} then says what is wrong with it.
 */
export function unpackMessages(body: string): string[] {
  if (!body.includes(PACKED_TYPE)) return [body];
  try {
    const { data_base64 } = packedEnvelopeSchema.parse(JSON.parse(body));
    const packed = Buffer.from(data_base64, 'base64');
    const lines = zlib.zstdDecompressSync(packed, { maxOutputLength: MAX_ORDER_BYTES });
    const bodies = lines.toString('utf8').split('\n');
    return bodies.length > MAX_PACKED_ORDERS ? [body] : bodies;
  } catch {
    return [body];
  }
}

/** The orders in a message, packed or not, as far as they can be read. */
export function readableOrders(body: string): Order[] {
  return unpackMessages(body).flatMap((part) => {
    try {
      return [decodeOrderMessage(part, {}, { packed: part !== body }).order];
    } catch {
      return [];
    }
  });
}
