import { readdirSync, readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { captureLog } from '../../testing/log-lines.ts';
import { AN_ORDER_ID, anOrder, validOrders } from '../../testing/orders.ts';
import {
  CONTENT_ENCODINGS,
  type ContentEncoding,
  decodeOrderMessage,
  ENCRYPTED_TYPE,
  encodeOrderMessage,
  MAX_ORDER_BYTES,
  MESSAGE_VERSIONS,
  NewerVersionError,
  type OrderMessage,
  UnreadableMessageError,
} from './message.ts';
import { contentHash } from './order.ts';
import { packedEnvelopeSchema, unpackMessages } from './packed-message.ts';

const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

const aMessage = (order = anOrder()): OrderMessage => ({
  order,
  contentHash: contentHash(order),
  traceparent: TRACEPARENT,
});
const encode = (message: OrderMessage, encoding: ContentEncoding = 'identity', compressAboveBytes = 0) =>
  encodeOrderMessage(message, { version: 1, encoding, compressAboveBytes });

/** An envelope as a sender of version 1 writes it, with what the test cares about. */
function anEnvelope(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    specversion: '1.0',
    id: AN_ORDER_ID,
    type: 'order.placed.v1',
    source: '/order-producer',
    time: '2026-11-22T09:00:00.000Z',
    datacontenttype: 'application/json',
    contentencoding: 'identity',
    contenthash: contentHash(anOrder()),
    traceparent: TRACEPARENT,
    data: anOrder(),
    ...overrides,
  };
}

/** The envelope with content packed by some other sender. */
const packed = (contentencoding: string, content: Buffer) =>
  anEnvelope({
    contentencoding,
    contenthash: undefined,
    data: undefined,
    data_base64: content.toString('base64'),
  });

const decode = async (envelope: unknown, attributes?: Record<string, string | undefined>) =>
  decodeOrderMessage(typeof envelope === 'string' ? envelope : JSON.stringify(envelope), attributes);

async function refusalOf(
  envelope: unknown,
  attributes?: Record<string, string>,
): Promise<UnreadableMessageError> {
  const error = await decode(envelope, attributes).catch((error: unknown) => error);
  if (error instanceof UnreadableMessageError) return error;
  throw new Error('the message was not refused', { cause: error });
}

describe('encodeOrderMessage', () => {
  it.each(CONTENT_ENCODINGS)(
    'encodeOrderMessage, given any valid order as %s, can be decoded to the same',
    async (encoding) => {
      await fc.assert(
        fc.asyncProperty(validOrders, async (order) => {
          const { body, attributes } = await encode(aMessage(order), encoding);
          expect(decodeOrderMessage(body, attributes)).toEqual(aMessage(order));
        }),
      );
    },
  );

  it('encodeOrderMessage, given an order, writes a CloudEvent and repeats in attributes what routes it', async () => {
    const { body, attributes } = await encode(aMessage());
    expect(JSON.parse(body)).toEqual({
      specversion: '1.0',
      id: AN_ORDER_ID,
      type: 'order.placed.v1',
      source: '/order-producer',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      datacontenttype: 'application/json',
      contentencoding: 'identity',
      contenthash: contentHash(anOrder()),
      traceparent: TRACEPARENT,
      data: anOrder(),
    });
    expect(attributes).toEqual({
      contentType: 'application/cloudevents+json',
      contentEncoding: 'identity',
      schemaVersion: '1',
    });
  });

  it.each(['gzip', 'zstd'] as const)(
    'encodeOrderMessage, given an order packed with %s, has data_base64 only',
    async (encoding) => {
      const { body, attributes } = await encode(aMessage(), encoding);
      expect(JSON.parse(body)).toMatchObject({ contentencoding: encoding, data_base64: expect.any(String) });
      expect(JSON.parse(body)).not.toHaveProperty('data');
      expect(attributes).toMatchObject({ contentEncoding: encoding });
    },
  );

  it('encodeOrderMessage, given an order at the threshold, packs it, and one byte below it does not', async () => {
    const sizeBytes = Buffer.byteLength(JSON.stringify(anOrder({ customerId: '고객' })));
    const encodingAt = async (threshold: number) =>
      (await encode(aMessage(anOrder({ customerId: '고객' })), 'zstd', threshold)).attributes[
        'contentEncoding'
      ];
    expect(await encodingAt(sizeBytes)).toBe('zstd');
    expect(await encodingAt(sizeBytes + 1)).toBe('identity');
  });

  it('encodeOrderMessage, of characters above U+FFFF, writes none, and they come out again', async () => {
    const order = anOrder({ customerId: 'C-왕복-🛒' });
    const { body } = await encode(aMessage(order), 'identity');
    expect(body).toMatch(/C-왕복-\\ud83d\\uded2/);
    expect(decodeOrderMessage(body).order).toEqual(order);
  });

  it('encodeOrderMessage, without a trace, can be decoded without one', async () => {
    const { body } = await encode({ ...aMessage(), traceparent: undefined });
    expect(decodeOrderMessage(body).traceparent).toBeUndefined();
  });
});

describe('clientid', () => {
  it.each(['web-shop', '0oa1b2c3:tenant|7', 'a'.repeat(128)])(
    'encodeOrderMessage, of an order of the client %s, says so, also to those who look at the envelope alone',
    async (clientId) => {
      const { body } = await encode({ ...aMessage(), clientId });
      expect(JSON.parse(body)).toMatchObject({ clientid: clientId });
      expect(decodeOrderMessage(body)).toMatchObject({ clientId, order: anOrder() });
    },
  );

  it.each([
    undefined,
    null,
    7,
    '',
    ' ',
    '-shop',
    'a b',
    'a'.repeat(129),
    'x\u0000',
    ['shop'],
    { id: 'shop' },
  ])(
    'decodeOrderMessage, of a message with the clientid %j, reads the order, and takes it for nobody’s',
    async (clientid) => {
      expect(await decode(anEnvelope({ clientid }))).toEqual(aMessage());
    },
  );
});

describe('recorded samples', () => {
  const folder = new URL('message-samples/', import.meta.url);
  const names = readdirSync(folder);
  const read = (name: string) => JSON.parse(readFileSync(new URL(name, folder), 'utf8'));
  const kindOf = ({ type, contentencoding }: { type: string; contentencoding: string }) =>
    `${type} ${contentencoding}`;

  it('recorded samples, of every version and encoding, are there', () => {
    const wanted = MESSAGE_VERSIONS.flatMap((version) =>
      CONTENT_ENCODINGS.map((encoding) => `v${version}-${encoding}.json`),
    );
    expect(names).toEqual(expect.arrayContaining(wanted));
    const { type, contentencoding } = packedEnvelopeSchema.shape;
    const kinds = names.map((name) => kindOf(JSON.parse(read(name).body)));
    expect(kinds).toContain(kindOf({ type: type.value, contentencoding: contentencoding.value }));
  });

  // Asked of the reader itself, so that a version that it learns to read, or to write, cannot be forgotten here.
  it('recorded samples, of every type that is not newer than this release, are there', async () => {
    const types = names.map((name) => JSON.parse(read(name).body).type);
    for (let version = 1; ; version++) {
      const type = `order.placed.v${version}`;
      const error = await decode({ specversion: '1.0', type }).catch((error: unknown) => error);
      if (error instanceof NewerVersionError) break;
      expect(types).toContain(type);
    }
  });

  // What was ever sent may still lie in a queue or a DLQ: these files are never changed, only added to.
  it.each(names)('recorded sample %s, decoded by this release, is the order that was sent', async (name) => {
    const { body, attributes, decoded } = read(name);
    // Needs a key: encrypted-message.test.ts
    if (JSON.parse(body).type === ENCRYPTED_TYPE) return;
    if (!Array.isArray(decoded)) return expect(decodeOrderMessage(body, attributes)).toEqual(decoded);
    expect(unpackMessages(body).map((part) => decodeOrderMessage(part))).toEqual(decoded);
  });
});

describe('decodeOrderMessage', () => {
  it('decodeOrderMessage, without a contenthash, computes it', async () => {
    const message = await decode(anEnvelope({ contenthash: undefined }));
    expect(message.contentHash).toBe(contentHash(anOrder()));
  });

  it('decodeOrderMessage, given an envelope with the least, fills in the rest', async () => {
    const { specversion, id, type, source, data } = anEnvelope();
    expect(await decode({ specversion, id, type, source, data })).toEqual({
      ...aMessage(),
      traceparent: undefined,
    });
  });

  it('decodeOrderMessage, of metadata with the key __proto__, refuses the order and drops nothing', async () => {
    const data = JSON.parse(JSON.stringify(anOrder({ metadata: { note: 'gift' } })));
    const smuggled = JSON.stringify(data).replace('"note"', '"__proto__":"x","note"');
    const { contenthash: _, ...envelope } = anEnvelope({ data: 'DATA' });
    const body = JSON.stringify(envelope).replace('"DATA"', smuggled);
    expect(() => decodeOrderMessage(body)).toThrow(
      expect.objectContaining({ code: 'INVALID_ORDER', message: 'metadata: __proto__ is no key' }),
    );
  });

  it('decodeOrderMessage, given an envelope with extensions, does not mind them', async () => {
    expect(await decode(anEnvelope({ partitionkey: 'x', subject: 'order' }))).toEqual(aMessage());
  });

  it.each([
    ['without attributes', {}],
    ['with some of the attributes', { schemaVersion: '1' }],
    ['with attributes of others', { traceId: 'x', contentEncoding: undefined }],
  ])('decodeOrderMessage, %s, decides on the envelope alone', async (_what, attributes) => {
    expect(await decode(anEnvelope(), attributes)).toEqual(aMessage());
  });

  it.each(['contentType', 'contentEncoding', 'schemaVersion'])(
    'decodeOrderMessage, with an attribute %s that contradicts the envelope, refuses it',
    async (name) => {
      expect(await refusalOf(anEnvelope(), { [name]: '2' })).toMatchObject({
        code: 'ATTRIBUTE_MISMATCH',
        message: `attribute ${name} contradicts the envelope`,
        traceparent: TRACEPARENT,
      });
    },
  );

  it.each([
    ['empty', '', 'NOT_JSON'],
    ['no JSON', 'order!', 'NOT_JSON'],
    ['cut short', JSON.stringify(anEnvelope()).slice(0, -1), 'NOT_JSON'],
    ['null', null, 'NOT_AN_ENVELOPE'],
    ['an array', [anEnvelope()], 'NOT_AN_ENVELOPE'],
    ['a bare order', anOrder(), 'NOT_AN_ENVELOPE'],
    ['a text', '"order.placed.v1"', 'NOT_AN_ENVELOPE'],
    ['nested a hundred thousand deep', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, 'NOT_AN_ENVELOPE'],
    ['of another specversion', anEnvelope({ specversion: '0.3' }), 'NOT_AN_ENVELOPE'],
    ['without id', anEnvelope({ id: undefined }), 'NOT_AN_ENVELOPE'],
    ['with a number as type', anEnvelope({ type: 1 }), 'NOT_AN_ENVELOPE'],
    ['of an unknown encoding', anEnvelope({ contentencoding: 'br' }), 'NOT_AN_ENVELOPE'],
    ['of another content type', anEnvelope({ datacontenttype: 'text/xml' }), 'NOT_AN_ENVELOPE'],
    ['with both kinds of data', anEnvelope({ data_base64: 'e30=' }), 'NOT_AN_ENVELOPE'],
    ['packed without data_base64', anEnvelope({ contentencoding: 'gzip' }), 'NOT_AN_ENVELOPE'],
    [
      'with data_base64 that is none',
      anEnvelope({ contentencoding: 'gzip', data_base64: '%%%' }),
      'NOT_AN_ENVELOPE',
    ],
    ['without data', anEnvelope({ data: undefined }), 'INVALID_ORDER'],
    ['with an order that lacks its id', anEnvelope({ data: anOrder({ orderId: '' }) }), 'INVALID_ORDER'],
    ['with an unknown field', anEnvelope({ data: { ...anOrder(), extra: 1 } }), 'INVALID_ORDER'],
    ['with a total that does not match', anEnvelope({ data: anOrder({ totalAmount: 1 }) }), 'INVALID_ORDER'],
    [
      'with a hash of another order',
      anEnvelope({ contenthash: contentHash(anOrder({ customerId: 'C-2' })) }),
      'CONTENT_HASH_MISMATCH',
    ],
    ['with a hash of an unknown kind', anEnvelope({ contenthash: 'v0:abc' }), 'CONTENT_HASH_MISMATCH'],
  ])('decodeOrderMessage, of a body that is %s, refuses it', async (_what, body, code) => {
    expect((await refusalOf(body)).code).toBe(code);
  });

  it.each([
    'order.placed.v0',
    'order.placed.x',
    'order.placed.v',
    'order.placed.v01',
    'order.placed.v-1',
    'order.placed.v1.5',
    'order.shipped.v1',
    '',
  ])('decodeOrderMessage, given the unknown or garbled type %j, refuses it', async (type) => {
    expect((await refusalOf(anEnvelope({ type }))).code).toBe('UNKNOWN_VERSION');
  });

  it('decodeOrderMessage, given an endless type, repeats only its beginning', async () => {
    expect((await refusalOf(anEnvelope({ type: 'x'.repeat(100_000) }))).message.length).toBeLessThan(100);
  });

  it.each([4, 17, 999_999])(
    'decodeOrderMessage, of version %i, says that it is newer, not wrong',
    async (version) => {
      const newer = decode(
        { specversion: '1.0', type: `order.placed.v${version}`, quite: 'different' },
        { schemaVersion: '2' },
      );
      await expect(newer).rejects.toThrow(NewerVersionError);
      await expect(newer).rejects.toMatchObject({ code: 'NEWER_VERSION' });
    },
  );

  it.each(['INVALID_ORDER', 'CONTENT_HASH_MISMATCH', 'UNREADABLE_CONTENT'])(
    'decodeOrderMessage, given a message refused as %s, keeps its trace',
    async (code) => {
      const envelopes: Record<string, unknown> = {
        INVALID_ORDER: anEnvelope({ data: {} }),
        CONTENT_HASH_MISMATCH: anEnvelope({ contenthash: 'v1:0' }),
        UNREADABLE_CONTENT: packed('gzip', Buffer.from('no gzip')),
      };
      expect(await refusalOf(envelopes[code])).toMatchObject({ code, traceparent: TRACEPARENT });
    },
  );
});

describe('decodeOrderMessage, of packed content', () => {
  const pack = { gzip: zlib.gzipSync, zstd: zlib.zstdCompressSync };
  const stream = { gzip: zlib.createGzip, zstd: zlib.createZstdCompress };
  const json = JSON.stringify(anOrder());

  describe.each(['gzip', 'zstd'] as const)('with %s', (encoding) => {
    it('decodeOrderMessage, of content packed by another sender, reads it', async () => {
      expect(await decode(packed(encoding, pack[encoding](json)))).toEqual(aMessage());
    });

    it('decodeOrderMessage, of content cut anywhere, refuses it', async () => {
      const whole = pack[encoding](json);
      for (let length = 0; length < whole.length; length += 7) {
        expect((await refusalOf(packed(encoding, whole.subarray(0, length)))).code).toBe(
          'UNREADABLE_CONTENT',
        );
      }
    });

    it('decodeOrderMessage, given any bytes as content, refuses them', async () => {
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (bytes) => {
          expect((await refusalOf(packed(encoding, Buffer.from(bytes)))).code).toBe('UNREADABLE_CONTENT');
        }),
      );
    });

    it('decodeOrderMessage, of packed content that is no JSON, refuses it', async () => {
      expect(await refusalOf(packed(encoding, pack[encoding]('{"orderId":')))).toMatchObject({
        code: 'UNREADABLE_CONTENT',
        message: 'not valid JSON',
      });
    });

    it('decodeOrderMessage, of content at its limit, unpacks it, and one byte more it does not', async () => {
      const padded = (bytes: number) => packed(encoding, pack[encoding](json.padEnd(bytes, ' ')));
      expect(await decode(padded(MAX_ORDER_BYTES))).toEqual(aMessage());
      expect((await refusalOf(padded(MAX_ORDER_BYTES + 1))).code).toBe('UNREADABLE_CONTENT');
    });

    it('decodeOrderMessage, given a bomb, refuses it without unpacking it into memory', async () => {
      const mebibyte = Buffer.alloc(1024 * 1024);
      const bomb = await buffer(Readable.from(Array(256).fill(mebibyte)).pipe(stream[encoding]()));
      expect(bomb.length).toBeLessThan(mebibyte.length);
      const before = process.resourceUsage().maxRSS;
      expect((await refusalOf(packed(encoding, bomb))).code).toBe('UNREADABLE_CONTENT');
      expect((process.resourceUsage().maxRSS - before) * 1024).toBeLessThan(64 * mebibyte.length);
    });
  });
});

describe('UnreadableMessageError', () => {
  const secret = 'Kim-Minji';
  const withSecret = {
    'a garbled body': `{"customerId":${secret}`,
    'a body with a comma too many': `{"customerId":"${secret}",}`,
    'a wrong type of every field': anEnvelope({
      data: {
        ...anOrder(),
        customerId: [secret],
        currency: secret,
        createdAt: secret,
        orderId: secret,
        totalAmount: secret,
      },
    }),
    'too long a text': anEnvelope({ data: anOrder({ customerId: secret.repeat(100) }) }),
    'a control character': anEnvelope({ data: anOrder({ customerId: `${secret}\u0000` }) }),
    'a wrong hash': anEnvelope({ data: anOrder({ customerId: secret }) }),
    'a wrong value of metadata': anEnvelope({ data: { ...anOrder(), metadata: { [secret]: 1 } } }),
    'a wrong key of metadata': anEnvelope({ data: { ...anOrder(), metadata: { [`${secret}\u0000`]: 'x' } } }),
    'packed content that is no JSON': packed('gzip', zlib.gzipSync(`{"customerId":${secret}`)),
    'an encoding that is none': anEnvelope({ contentencoding: secret }),
    'an attribute that contradicts': anEnvelope({ data: anOrder({ customerId: secret }) }),
  };

  it.each(Object.entries(withSecret))(
    'UnreadableMessageError, of %s, holds no value of the order, nor does its log line',
    async (_what, body) => {
      const error = await refusalOf(body, { schemaVersion: '1' });
      const { logger, lines } = captureLog();
      logger.error({ err: error }, 'message refused');
      expect(error.message).not.toBe('');
      expect(error.message).not.toContain(secret);
      expect(JSON.stringify(lines)).not.toContain(secret);
    },
  );

  it('UnreadableMessageError, given an invalid order, names the fields', async () => {
    const data = {
      ...anOrder(),
      customerId: '',
      items: [{ productId: 'a', name: 'b', quantity: 0, unitPrice: 0 }],
    };
    const { message } = await refusalOf(anEnvelope({ data }));
    expect(message).toContain('customerId: ');
    expect(message).toContain('items.0.quantity: ');
  });

  it('UnreadableMessageError, given a thousand mistakes, stays short', async () => {
    const data = anOrder({ items: Array(1_000).fill({ unknown: 'x' }) });
    expect((await refusalOf(anEnvelope({ data }))).message.length).toBeLessThanOrEqual(500);
  });
});
