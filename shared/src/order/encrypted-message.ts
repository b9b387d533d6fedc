import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { z } from 'zod';
import type { MessageCipher } from '../encryption/message-cipher.ts';
import {
  attributesOf,
  ENCRYPTED_TYPE,
  type EncodedMessage,
  MAX_ORDER_BYTES,
  UnreadableMessageError,
} from './message.ts';
import { MAX_PACKED_ORDERS } from './packed-message.ts';

/**
 * One order or many, encrypted: the bodies of their messages, one per line, compressed with zstd, encrypted as a whole,
 * in one CloudEvents event. Ids and trace stay readable, for whoever has no key; they are not authenticated, and what is
 * inside counts. A consumer that does not know it sees a newer version and leaves it to those that do.
 */

const CONTENT_ENCODING = 'zstd';
const ATTRIBUTES = attributesOf(3, CONTENT_ENCODING);
/** Of less, handing it to another thread and back costs more than compressing it. */
const COMPRESS_HERE_BYTES = 4_096;
const compressElsewhere = promisify(zlib.zstdCompress);

/** A message to be encrypted, and what of it stays readable. */
export type Line = { body: string; orderId: string | undefined; traceparent: string | undefined };

/**
 * @param lines at most `MAX_PACKED_ORDERS` and `MAX_PACKED_BYTES` together
 * @throws {KeyUnavailableError}
 */
export async function encryptMessages(
  lines: readonly Line[],
  cipher: MessageCipher,
): Promise<EncodedMessage> {
  const ids = lines.map(({ orderId }) => orderId).filter((id) => id !== undefined);
  const [first, ...others] = lines;
  const traceparent = first?.traceparent;
  const plaintext = lines.map(({ body }) => body).join('\n');
  const compressed =
    plaintext.length <= COMPRESS_HERE_BYTES
      ? zlib.zstdCompressSync(plaintext)
      : await compressElsewhere(plaintext);
  return {
    body: JSON.stringify({
      specversion: '1.0',
      id: (others.length === 0 && ids[0]) || randomUUID(),
      type: ENCRYPTED_TYPE,
      source: '/order-producer',
      time: new Date().toISOString(),
      datacontenttype: 'application/x-ndjson',
      contentencoding: CONTENT_ENCODING,
      encryption: 'aws-encryption-sdk',
      orderids: ids.join(' '),
      ...(others.every((other) => other.traceparent === traceparent) ? { traceparent } : {}),
      data_base64: (await cipher.encrypt(compressed)).toString('base64'),
    }),
    attributes: ATTRIBUTES,
  };
}

export const encryptedEnvelopeSchema = z.looseObject({
  specversion: z.literal('1.0'),
  id: z.string().min(1).describe('the orderId, or of several orders a UUID'),
  type: z.literal(ENCRYPTED_TYPE),
  source: z.string().min(1),
  time: z.iso.datetime({ offset: true }).optional(),
  datacontenttype: z.literal('application/x-ndjson').describe('one queue message per line'),
  contentencoding: z.literal(CONTENT_ENCODING).describe('compressed before it was encrypted'),
  encryption: z.literal('aws-encryption-sdk').describe('format of the decoded data_base64'),
  orderids: z.string().default('').describe('the orderIds, separated by spaces; not authenticated'),
  traceparent: z
    .string()
    .optional()
    .catch(undefined)
    .describe('W3C Trace Context, if all orders have the same'),
  data_base64: z.base64().describe('the encrypted lines in base64'),
});

/** Whether that is an encrypted message, as its type says. */
export const isEncrypted = (body: string): boolean => encryptedEvent(body) !== undefined;

/** What of an encrypted message can be read without its key; undefined for any other message. */
export function readableOf(
  body: string,
): { orderIds: readonly string[]; traceparent: string | undefined } | undefined {
  const { data } = encryptedEnvelopeSchema.safeParse(encryptedEvent(body));
  return data && { orderIds: data.orderids.split(' ').filter(Boolean), traceparent: data.traceparent };
}

/**
 * The bodies of the messages in an encrypted message; undefined for any other message.
 * @throws {UndecryptableError}
 * @throws {NoKeyError}
 * @throws {KeyUnavailableError}
 * @throws {UnreadableMessageError} no envelope, or what was encrypted is no compressed lines, too large or too many
 */
export async function decryptMessages(body: string, cipher: MessageCipher): Promise<string[] | undefined> {
  const event = encryptedEvent(body);
  if (!event) return undefined;
  const { data: envelope } = encryptedEnvelopeSchema.safeParse(event);
  if (!envelope) throw new UnreadableMessageError('NOT_AN_ENVELOPE', 'no envelope of encrypted content');
  const compressed = await cipher.decrypt(Buffer.from(envelope.data_base64, 'base64'));
  try {
    const lines = zlib.zstdDecompressSync(compressed, { maxOutputLength: MAX_ORDER_BYTES });
    const bodies = lines.toString('utf8').split('\n');
    if (bodies.length <= MAX_PACKED_ORDERS) return bodies;
  } catch {
    // Said below.
  }
  throw new UnreadableMessageError('UNREADABLE_CONTENT', 'encrypted content that cannot be unpacked');
}

/** Most messages are none, and are not parsed for it. */
function encryptedEvent(body: string): unknown {
  if (!body.includes(ENCRYPTED_TYPE)) return undefined;
  try {
    const event = JSON.parse(body);
    return event?.type === ENCRYPTED_TYPE ? event : undefined;
  } catch {
    return undefined;
  }
}
