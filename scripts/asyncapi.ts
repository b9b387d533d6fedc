import { readFileSync } from 'node:fs';
import path from 'node:path';
import { DEAD_LETTER_ATTRIBUTE, deadLetterSchema } from '@orders/consumer/queue/dead-letter.ts';
import { encryptedEnvelopeSchema } from '@orders/shared/order/encrypted-message.ts';
import {
  CONTENT_ENCODINGS,
  CONTENT_TYPE,
  envelopeSchema,
  MAX_ORDER_BYTES,
  MESSAGE_VERSIONS,
  PACKED_TYPE,
} from '@orders/shared/order/message.ts';
import { MAX_PACKED_ORDERS, packedEnvelopeSchema } from '@orders/shared/order/packed-message.ts';
import { z } from 'zod';

/** A message as it was sent once, kept for the tests. */
function recorded(name: string): { name: string; headers: object; payload: object } {
  const file = path.join(
    import.meta.dirname,
    '..',
    'shared',
    'src',
    'order',
    'message-samples',
    `${name}.json`,
  );
  const { body, attributes } = JSON.parse(readFileSync(file, 'utf8'));
  return { name, headers: attributes, payload: JSON.parse(body) };
}

const ATTRIBUTES = 'SQS message attributes of type String. They repeat the body; missing ones do not matter.';

/** The messages on both queues, for whoever reads or writes them without this code (https://www.asyncapi.com, 3.0). */
export function asyncApiDocument(version: string): object {
  const { properties, required = [] } = jsonSchema(envelopeSchema) as {
    properties: object;
    required?: string[];
  };
  const messages: [string, object][] = MESSAGE_VERSIONS.map((messageVersion) => [
    `orderPlacedV${messageVersion}`,
    {
      name: `order.placed.v${messageVersion}`,
      title: 'An order was placed',
      description: `contentencoding says where the order is. With identity, or without it, data is the order. With gzip (RFC 1952) or zstd (RFC 8878), data_base64 is the order as JSON in UTF-8, compressed and in base64 (RFC 4648); uncompressed it has at most ${MAX_ORDER_BYTES} bytes.`,
      contentType: CONTENT_TYPE,
      headers: {
        type: 'object',
        description: ATTRIBUTES,
        properties: {
          contentType: { const: CONTENT_TYPE },
          contentEncoding: { enum: [...CONTENT_ENCODINGS] },
          schemaVersion: { const: String(messageVersion) },
        },
      },
      payload: {
        type: 'object',
        required: ['specversion', 'type', ...required],
        properties: {
          specversion: { const: '1.0' },
          type: { const: `order.placed.v${messageVersion}` },
          ...properties,
          data: { $ref: '#/components/schemas/Order' },
        },
      },
      examples: CONTENT_ENCODINGS.map((encoding) => recorded(`v${messageVersion}-${encoding}`)),
    },
  ]);
  messages.push([
    'ordersPacked',
    messageOfSeveral(packedEnvelopeSchema, {
      version: 2,
      title: `Up to ${MAX_PACKED_ORDERS} messages in one, a line each, under zstd`,
      description: `data_base64 is text in UTF-8, compressed with zstd (RFC 8878) and in base64 (RFC 4648); uncompressed it has at most ${MAX_ORDER_BYTES} bytes. Its lines are separated by a line feed (U+000A). Each line is the body of an ${MESSAGE_VERSIONS.map((version) => `order.placed.v${version}`).join(' or ')}, with contentencoding identity, and has the meaning of that message sent alone. There are at most ${MAX_PACKED_ORDERS} lines.`,
    }),
  ]);
  messages.push([
    'ordersEncrypted',
    messageOfSeveral(encryptedEnvelopeSchema, {
      version: 3,
      title: `1 to ${MAX_PACKED_ORDERS} messages in one, a line each, under zstd, encrypted`,
      description: `data_base64 is a message of the AWS Encryption SDK in base64 (RFC 4648), with the algorithm suite 0x0478 and the encryption context {environment, schema: "3"}; a key that is not of KMS is a raw AES key of the provider order-pipeline. Decrypted, it is text in UTF-8, compressed with zstd (RFC 8878), of at most ${MAX_ORDER_BYTES} bytes uncompressed. Its lines are separated by U+000A, and are those of ${PACKED_TYPE}; a single line may be compressed itself.`,
    }),
  ]);
  const refs = messages.map(([name]) => [name, { $ref: `#/components/messages/${name}` }]);
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Order queues',
      version,
      license: { name: 'Apache-2.0' },
      description:
        'CloudEvents 1.0 in JSON on Amazon SQS. Messages are delivered at least once and in any order; the orderId identifies an order.',
    },
    channels: {
      orderQueue: { address: 'order-queue', messages: Object.fromEntries(refs) },
      deadLetterQueue: {
        address: 'order-dlq',
        description: `The body as it was received, whatever it is, with the reason as JSON in the message attribute ${DEAD_LETTER_ATTRIBUTE}.`,
        messages: { deadLetter: { $ref: '#/components/messages/deadLetter' } },
      },
    },
    operations: {
      sendOrder: { action: 'send', channel: { $ref: '#/channels/orderQueue' } },
      receiveOrder: { action: 'receive', channel: { $ref: '#/channels/orderQueue' } },
      sendDeadLetter: { action: 'send', channel: { $ref: '#/channels/deadLetterQueue' } },
    },
    components: {
      schemas: { ...namedSchemas('Order', 'OrderItem'), DeadLetter: jsonSchema(deadLetterSchema) },
      messages: {
        ...Object.fromEntries(messages),
        deadLetter: {
          headers: {
            type: 'object',
            properties: {
              [DEAD_LETTER_ATTRIBUTE]: {
                type: 'string',
                contentMediaType: 'application/json',
                contentSchema: { $ref: '#/components/schemas/DeadLetter' },
              },
            },
          },
          payload: { type: 'string' },
        },
      },
    },
  };
}

/** The schema without its dialect, which AsyncAPI states for the whole document. */
/** A message of many orders in one. */
function messageOfSeveral(
  envelope: typeof packedEnvelopeSchema | typeof encryptedEnvelopeSchema,
  { version, title, description }: { version: number; title: string; description: string },
): object {
  return {
    name: envelope.shape.type.value,
    title,
    description,
    contentType: CONTENT_TYPE,
    headers: {
      type: 'object',
      description: ATTRIBUTES,
      properties: {
        contentType: { const: CONTENT_TYPE },
        contentEncoding: { const: envelope.shape.contentencoding.value },
        schemaVersion: { const: String(version) },
      },
    },
    payload: jsonSchema(envelope),
    examples: [recorded(`v${version}-zstd`)],
  };
}

function jsonSchema(schema: z.ZodType): object {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return rest;
}

/** Schemas that have a name, each on its own, referring to each other by it. */
function namedSchemas(...names: string[]): Record<string, object> {
  const { schemas } = z.toJSONSchema(z.globalRegistry, {
    io: 'input',
    uri: (name) => `#/components/schemas/${name}`,
  });
  return Object.fromEntries(
    names.map((name) => {
      const { $schema: _dialect, $id: _name, ...rest } = schemas[name] as Record<string, unknown>;
      return [name, rest];
    }),
  );
}
