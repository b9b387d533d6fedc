import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { bulkhead } from 'cockatiel';
import { z } from 'zod';
import { CLIENT_ID } from '../auth/client.ts';
import { NoKeyError } from '../encryption/errors.ts';
import { contentHash, type Order, orderSchema } from './order.ts';

// The message on the queue: one CloudEvents 1.0 event in JSON (https://github.com/cloudevents/spec), its data plain
// (`data`) or compressed (`data_base64`). The body alone decides; the message attributes only repeat a part of it
// for tools that route without parsing.

/** Versions that this code reads and writes. A consumer reads every version that was ever sent. */
export const MESSAGE_VERSIONS = [1] as const;
export type MessageVersion = (typeof MESSAGE_VERSIONS)[number];
/** Version 2 is many messages in one (`packed-message.ts`); each of them is of version 1. */
export const PACKED_TYPE = 'order.placed.v2';
/** Version 3 is one or more messages, encrypted (`encrypted-message.ts`); each of them is of version 1. */
export const ENCRYPTED_TYPE = 'order.placed.v3';
const NEWEST_VERSION = 3;

/** How an order may be compressed in its message. */
export const CONTENT_ENCODINGS = ['identity', 'gzip', 'zstd'] as const;
export type ContentEncoding = (typeof CONTENT_ENCODINGS)[number];

export const CONTENT_TYPE = 'application/cloudevents+json';
/** An order cannot be larger than this when decompressed: the guard against decompression bombs. */
export const MAX_ORDER_BYTES = 1024 * 1024;

export type OrderMessage = {
  order: Order;
  contentHash: string;
  traceparent: string | undefined;
  /** Who placed the order; undefined where nobody was asked, and in messages of earlier releases. */
  clientId?: string | undefined;
};
export type EncodedMessage = { body: string; attributes: Readonly<Record<string, string>> };
export type EncodeOptions = {
  version: MessageVersion;
  /** How data of at least `compressAboveBytes` is compressed; for smaller data compression does not pay. */
  encoding: ContentEncoding;
  compressAboveBytes: number;
};

/** Why a message can never be read. The codes are the reasons that operators see in the DLQ. */
export type UnreadableReason =
  | 'NOT_JSON'
  | 'NOT_AN_ENVELOPE'
  | 'UNKNOWN_VERSION'
  | 'UNREADABLE_CONTENT'
  | 'ATTRIBUTE_MISMATCH'
  | 'INVALID_ORDER'
  | 'CONTENT_HASH_MISMATCH';

/** What a message that cannot be read says of its order. */
export type ClaimedOrder = { orderId: string; contentHash: string; clientId: string | undefined };

/** The message can never be read, by any release that knows its version. */
export class UnreadableMessageError extends Error {
  override readonly name = 'UnreadableMessageError';
  readonly code: UnreadableReason;
  /** The sender's, if the message has one. */
  traceparent: string | undefined;
  /** Where the message is an event at least. */
  claimed: ClaimedOrder | undefined;

  constructor(code: UnreadableReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A newer release wrote the message: not an error, but this release cannot read it. */
export class NewerVersionError extends Error {
  override readonly name = 'NewerVersionError';
  readonly code = 'NEWER_VERSION';
  traceparent: string | undefined;
  claimed: ClaimedOrder | undefined;
}

/** The order is larger than any consumer decompresses. */
export class MessageTooLargeError extends Error {
  override readonly name = 'MessageTooLargeError';
  readonly code = 'MESSAGE_TOO_LARGE';
}

/** One frozen object per kind of message: what is computed from it is cached (`message-limits.ts`). */
export const attributesOf = (version: number, contentEncoding: ContentEncoding) =>
  Object.freeze({ contentType: CONTENT_TYPE, contentEncoding, schemaVersion: String(version) });
const ATTRIBUTES = {
  1: {
    identity: attributesOf(1, 'identity'),
    gzip: attributesOf(1, 'gzip'),
    zstd: attributesOf(1, 'zstd'),
  },
} as const satisfies Record<MessageVersion, Record<ContentEncoding, object>>;

const compress = { gzip: promisify(zlib.gzip), zstd: promisify(zlib.zstdCompress) };
/** As many at once as libuv has threads: even one that waits for a thread holds a megabyte or two. */
const compressing = bulkhead(4, Number.POSITIVE_INFINITY);
/** In this thread: the result is at most a megabyte, and using another thread costs more. */
const decompress = { gzip: zlib.gunzipSync, zstd: zlib.zstdDecompressSync };

/** @throws {MessageTooLargeError} no consumer would decompress it; the limit is the same on both sides */
export async function encodeOrderMessage(
  message: OrderMessage,
  options: EncodeOptions,
): Promise<EncodedMessage> {
  const { order, contentHash: contenthash, traceparent, clientId: clientid } = message;
  const data = JSON.stringify(order);
  const dataBytes = Buffer.byteLength(data);
  if (dataBytes > MAX_ORDER_BYTES) {
    throw new MessageTooLargeError(`the order has ${dataBytes} bytes, more than ${MAX_ORDER_BYTES}`);
  }
  const contentencoding = dataBytes >= options.compressAboveBytes ? options.encoding : ('identity' as const);
  const envelope = JSON.stringify({
    specversion: '1.0',
    id: order.orderId,
    type: `order.placed.v${options.version}`,
    source: '/order-producer',
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    contentencoding,
    contenthash,
    traceparent,
    clientid,
  });
  const payload =
    contentencoding === 'identity'
      ? `"data":${escapeSurrogates(data)}`
      : `"data_base64":"${(await compressing.execute(() => compress[contentencoding](data))).toString('base64')}"`;
  return {
    body: `${envelope.slice(0, -1)},${payload}}`,
    attributes: ATTRIBUTES[options.version][contentencoding],
  };
}

/** The same JSON without characters above U+FFFF: SQS accepts them, but not every emulator does. */
function escapeSurrogates(json: string): string {
  return json.replaceAll(/[\uD800-\uDFFF]/g, (half) => `\\u${half.charCodeAt(0).toString(16)}`);
}

/** The CloudEvents attributes of a message, and its data as it travels. */
export const envelopeSchema = z
  .looseObject({
    id: z.string().min(1).describe('the orderId: an order that is sent again is the same event'),
    source: z.string().min(1),
    time: z.iso.datetime({ offset: true }).optional(),
    datacontenttype: z.literal('application/json').default('application/json'),
    contentencoding: z.enum(CONTENT_ENCODINGS).default('identity').describe('how data_base64 is compressed'),
    contenthash: z
      .string()
      .optional()
      .describe(
        'v1: followed by the SHA-256 of the order without orderId and createdAt, in the canonical form of RFC 8785',
      ),
    traceparent: z.string().optional().describe('W3C Trace Context'),
    clientid: z
      .string()
      .regex(CLIENT_ID)
      .optional()
      .catch(undefined)
      .describe('the client that placed the order; one of another form counts as none'),
    data: z.unknown().optional().describe('the order, if contentencoding is identity'),
    data_base64: z
      .base64()
      .optional()
      .describe('the compressed order in base64, for any other contentencoding'),
  })
  .refine((event) => (event.contentencoding === 'identity') === (event.data_base64 === undefined), {
    error: 'compressed content, and nothing else, travels in data_base64',
  });
export type Envelope = z.infer<typeof envelopeSchema>;

/**
 * Reads a message of any known version. A line of a packed message must not be compressed by itself: a few bytes could
 * expand to a hundred megabytes.
 * @throws {UnreadableMessageError} it can never be read, by this release or an older one
 * @throws {NewerVersionError} a newer release may be able to read it
 * @throws {NoKeyError} it is encrypted
 */
export function decodeOrderMessage(
  body: string,
  attributes: Readonly<Record<string, string | undefined>> = {},
  { packed = false } = {},
): OrderMessage {
  const json = parseJson(body, 'NOT_JSON');
  try {
    return readMessage(json, attributes, packed);
  } catch (error) {
    const { traceparent } = Object(json) as { traceparent?: unknown };
    if (
      error instanceof UnreadableMessageError ||
      error instanceof NewerVersionError ||
      error instanceof NoKeyError
    ) {
      error.traceparent = typeof traceparent === 'string' ? traceparent : undefined;
      // What can be read of an encrypted message has no content to compare.
      if (!(error instanceof NoKeyError)) error.claimed = claimedBy(json);
    }
    throw error;
  }
}

function claimedBy(json: unknown): ClaimedOrder | undefined {
  const { id, contenthash, clientid } = Object(json) as Record<string, unknown>;
  // No longer than ours: these are kept in memory for a while.
  if (typeof id !== 'string' || id.length !== 36) return undefined;
  return {
    orderId: id,
    contentHash: typeof contenthash === 'string' && contenthash.length <= 100 ? contenthash : '',
    clientId: typeof clientid === 'string' && CLIENT_ID.test(clientid) ? clientid : undefined,
  };
}

function readMessage(
  json: unknown,
  attributes: Readonly<Record<string, string | undefined>>,
  packed: boolean,
): OrderMessage {
  const version = readVersion(json);
  const parsed = envelopeSchema.safeParse(json);
  if (!parsed.success) throw unreadable('NOT_AN_ENVELOPE', parsed.error);
  const envelope = parsed.data;
  if (packed && envelope.contentencoding !== 'identity')
    throw new UnreadableMessageError('UNREADABLE_CONTENT', 'compressed content in a packed message');
  checkAttributes(attributes, envelope, version);
  const data = readData(envelope);
  const order = orderSchema.safeParse(data);
  if (!order.success) throw unreadable('INVALID_ORDER', order.error);
  // zod silently drops this key from a record; the HTTP parser refuses it everywhere.
  if (Object.hasOwn((data as Order).metadata ?? {}, '__proto__'))
    throw new UnreadableMessageError('INVALID_ORDER', 'metadata: __proto__ is no key');
  const computed = contentHash(order.data);
  const { contenthash: given = computed, traceparent, clientid } = envelope;
  if (/^v(?!1:)[1-9]\d*:/.test(given)) throw new NewerVersionError('contenthash of a newer scheme');
  if (given !== computed) {
    throw new UnreadableMessageError('CONTENT_HASH_MISMATCH', 'contenthash does not match the data');
  }
  return { order: order.data, contentHash: computed, traceparent, clientId: clientid };
}

function readVersion(json: unknown): MessageVersion {
  const { specversion, type } = Object(json) as { specversion?: unknown; type?: unknown };
  if (specversion !== '1.0' || typeof type !== 'string')
    throw new UnreadableMessageError('NOT_AN_ENVELOPE', 'no CloudEvents 1.0 event with a type');
  if (type === PACKED_TYPE) {
    throw new UnreadableMessageError('UNREADABLE_CONTENT', 'packed orders that cannot be unpacked');
  }
  if (type === ENCRYPTED_TYPE) throw new NoKeyError('encrypted, and no key was given');
  const version = Number(/^order\.placed\.v([1-9]\d{0,5})$/.exec(type)?.[1] ?? Number.NaN);
  if (version > NEWEST_VERSION) {
    throw new NewerVersionError(`version ${version} is newer than ${NEWEST_VERSION}`);
  }
  const known = MESSAGE_VERSIONS.find((each) => each === version);
  if (known !== undefined) return known;
  throw new UnreadableMessageError('UNKNOWN_VERSION', 'type is none that was ever written');
}

function checkAttributes(
  attributes: Readonly<Record<string, string | undefined>>,
  envelope: Envelope,
  version: MessageVersion,
) {
  for (const [name, value] of Object.entries(ATTRIBUTES[version][envelope.contentencoding])) {
    if (attributes[name] !== undefined && attributes[name] !== value) {
      throw new UnreadableMessageError('ATTRIBUTE_MISMATCH', `attribute ${name} contradicts the envelope`);
    }
  }
}

/**
 * What is in a message, checked for nothing but its envelope, whatever its type and version say: for a repair.
 * @throws {UnreadableMessageError} it has no envelope, or its content cannot be decompressed
 */
export function openEnvelope(body: string): { envelope: Envelope; data: unknown } {
  const parsed = envelopeSchema.safeParse(parseJson(body, 'NOT_JSON'));
  if (!parsed.success) throw unreadable('NOT_AN_ENVELOPE', parsed.error);
  return { envelope: parsed.data, data: readData(parsed.data) };
}

function readData({ contentencoding, data, data_base64 = '' }: Envelope): unknown {
  if (contentencoding === 'identity') return data;
  return parseJson(decompressed(contentencoding, data_base64), 'UNREADABLE_CONTENT');
}

function decompressed(encoding: keyof typeof decompress, base64: string): string {
  try {
    const compressed = Buffer.from(base64, 'base64');
    return decompress[encoding](compressed, { maxOutputLength: MAX_ORDER_BYTES }).toString('utf8');
  } catch (cause) {
    throw new UnreadableMessageError('UNREADABLE_CONTENT', `cannot decompress ${encoding} content`, {
      cause,
    });
  }
}

function parseJson(text: string, code: UnreadableReason): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // V8's message quotes part of the text, which may hold personal data. Not even as a cause: loggers write causes too.
    throw new UnreadableMessageError(code, 'not valid JSON');
  }
}

/** Names the fields and what is wrong, never their values. Field names chosen by the sender count as values. */
function unreadable(code: UnreadableReason, error: z.ZodError): UnreadableMessageError {
  const fieldOf = ({ path }: z.core.$ZodIssue) =>
    path[0] === 'metadata' ? 'metadata' : path.join('.') || '(root)';
  const issues = error.issues
    .slice(0, 5)
    .map(
      (issue) => `${fieldOf(issue)}: ${issue.code === 'unrecognized_keys' ? 'unknown field' : issue.message}`,
    );
  return new UnreadableMessageError(code, issues.join('; ').slice(0, 500));
}
