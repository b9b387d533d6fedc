import { DEAD_LETTER_ATTRIBUTE, deadLetterSchema } from '@orders/consumer/sqs/dead-letter.ts';
import {
  CONTENT_ENCODINGS,
  CONTENT_TYPE,
  envelopeSchema,
  MESSAGE_VERSIONS,
  PACKED_TYPE,
} from '@orders/shared/message.ts';
import { MAX_PACKED_ORDERS, packedEnvelopeSchema } from '@orders/shared/packed-message.ts';
import { z } from 'zod';

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
      contentType: CONTENT_TYPE,
      headers: {
        type: 'object',
        description:
          'SQS message attributes of type String. They repeat the body; missing ones do not matter.',
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
    },
  ]);
  messages.push([
    'ordersPacked',
    {
      name: PACKED_TYPE,
      title: `Up to ${MAX_PACKED_ORDERS} messages in one, a line each, under zstd`,
      contentType: CONTENT_TYPE,
      payload: jsonSchema(packedEnvelopeSchema),
    },
  ]);
  const refs = messages.map(([name]) => [name, { $ref: `#/components/messages/${name}` }]);
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Order queues',
      version,
      license: { name: 'Apache-2.0' },
      description:
        'CloudEvents 1.0 in JSON on Amazon SQS. Delivered at least once, in no order: the orderId identifies.',
    },
    channels: {
      orderQueue: { address: 'order-queue', messages: Object.fromEntries(refs) },
      deadLetterQueue: {
        address: 'order-dlq',
        description: `Any body, as it came, with the reason as JSON in the message attribute ${DEAD_LETTER_ATTRIBUTE}.`,
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
