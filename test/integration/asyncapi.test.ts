import { readFileSync } from 'node:fs';
import path from 'node:path';
import asyncApiSpecs from '@asyncapi/specs';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { packMessages } from '@orders/shared/order/packed-message.ts';
import { validOrders } from '@orders/shared/testing/orders.ts';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parse } from 'yaml';

const document = parse(
  readFileSync(path.join(import.meta.dirname, '..', '..', 'docs', 'asyncapi.yaml'), 'utf8'),
);

/** A reader who knows nothing but the document. */
function validatorOf(pointer: string) {
  const ajv = new Ajv({ strict: false, allErrors: true, formats: { base64: true } });
  addFormats.default(ajv);
  ajv.addSchema(document, 'asyncapi');
  return ajv.compile({ $ref: `asyncapi#${pointer}` });
}

test('AsyncAPI document, against the specification of AsyncAPI 3.0, is valid', () => {
  const { $schema: _draft, ...specification } = asyncApiSpecs.schemas['3.0.0'] as object & {
    $schema: string;
  };
  const ajv = new Ajv({ strict: false, validateFormats: false, meta: false, validateSchema: false });
  expect(ajv.validate(specification, document) || ajv.errors).toBe(true);
});

test('AsyncAPI document, of every message that the producer writes, describes body and attributes', async () => {
  const message = '/components/messages/orderPlacedV1';
  const [isPayload, isHeaders] = [validatorOf(`${message}/payload`), validatorOf(`${message}/headers`)];
  await fc.assert(
    fc.asyncProperty(validOrders, fc.constantFrom('identity', 'gzip', 'zstd'), async (order, encoding) => {
      const content = { order, contentHash: contentHash(order), traceparent: undefined };
      const { body, attributes } = await encodeOrderMessage(content, {
        version: 1,
        encoding,
        compressAboveBytes: 0,
      });
      expect(isPayload(JSON.parse(body)) || isPayload.errors).toBe(true);
      expect(isHeaders(attributes) || isHeaders.errors).toBe(true);
    }),
    { numRuns: 50 },
  );
});

test('AsyncAPI document, of packed messages, describes them', async () => {
  const message = '/components/messages/ordersPacked';
  const [isPayload, isHeaders] = [validatorOf(`${message}/payload`), validatorOf(`${message}/headers`)];
  const { body, attributes } = await packMessages(['{}', '{}']);
  expect(isPayload(JSON.parse(body)) || isPayload.errors).toBe(true);
  expect(isHeaders(attributes) || isHeaders.errors).toBe(true);
});

test('AsyncAPI document, of a message with an order that the consumer would reject, does not describe it', () => {
  const isPayload = validatorOf('/components/messages/orderPlacedV1/payload');
  expect(
    isPayload({
      specversion: '1.0',
      type: 'order.placed.v1',
      id: '1',
      source: '/x',
      data: { customerId: '' },
    }),
  ).toBe(false);
});
