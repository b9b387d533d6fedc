import { hash } from 'node:crypto';
import { z } from 'zod';
import { CURRENCY_CODES } from './currency.ts';

/**
 * Text that SQS and PostgreSQL take: no control characters, no U+FFFE or U+FFFF, and no lone surrogates. The pattern
 * leaves these out, so that it means the same to readers of the schema in every language.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is there to refuse them
const NO_CONTROL_CHARACTERS = /^[^\u0000-\u001f\ufffe\uffff]*$/;

/** One check for the four that the schema shows: an order has a dozen texts, and each check takes its time. */
function text(maxLength: number) {
  return z
    .string()
    .check(({ value, issues }) => {
      if (value.length === 0 || value.length > maxLength) {
        issues.push({ code: 'custom', message: `must have 1 to ${maxLength} characters`, input: value });
      } else if (!NO_CONTROL_CHARACTERS.test(value) || !value.isWellFormed()) {
        const message = 'contains a control character or a character outside Unicode text';
        issues.push({ code: 'custom', message, input: value });
      }
    })
    .meta({ minLength: 1, maxLength, pattern: NO_CONTROL_CHARACTERS.source });
}

const amountMinor = z.int().min(0).describe('amount in minor units of the currency (cents, won, …)');

const itemSchema = z
  .strictObject({
    productId: text(64),
    name: text(256),
    quantity: z.int().min(1).max(1_000_000),
    unitPrice: amountMinor,
  })
  .meta({ id: 'OrderItem' });

const MAX_METADATA_ENTRIES = 20;

const orderFields = {
  customerId: text(64),
  items: z.array(itemSchema).min(1).max(1_000),
  currency: z
    .enum(CURRENCY_CODES, {
      error: ({ input }) => (input === undefined ? 'is required' : 'must be an active ISO 4217 code'),
    })
    .describe('ISO 4217'),
  adjustment: z.int().optional().describe('signed minor units: discount or rounding'),
  totalAmount: amountMinor.describe('sum of quantity × unitPrice, plus adjustment; zero is allowed'),
  createdAt: z.iso.datetime({ offset: true }).describe('RFC 3339, with a zone'),
  metadata: z
    .record(text(64), text(512))
    .refine((entries) => Object.keys(entries).length <= MAX_METADATA_ENTRIES, {
      error: `at most ${MAX_METADATA_ENTRIES} entries`,
    })
    .meta({ maxProperties: MAX_METADATA_ENTRIES })
    .optional(),
};

const orderIdSchema = z.uuid().toLowerCase();
/** Nobody chooses the nil UUID: it is what a field is filled with that was forgotten. */
const chosenIdSchema = z.uuid().regex(/[^0-]/, 'must not be the nil UUID').toLowerCase();

type Amounts = {
  items: { quantity: number; unitPrice: number }[];
  adjustment?: number | undefined;
  totalAmount: number;
};

function checkTotal({ value, issues }: z.core.ParsePayload<Amounts>): void {
  const sum = value.items.reduce(
    (total, item) => total + item.quantity * item.unitPrice,
    value.adjustment ?? 0,
  );
  const problem = !Number.isSafeInteger(sum)
    ? 'the sum of the items is too large'
    : sum !== value.totalAmount && `must equal the sum of the items plus adjustment, ${sum}`;
  if (!problem) return;
  const params = { contradiction: true };
  issues.push({ code: 'custom', path: ['totalAmount'], message: problem, params, input: value.totalAmount });
}

/** What a client sends: the order, with an `orderId` of its own choice or none. Unknown fields are refused. */
export const orderRequestSchema = z
  .strictObject({ orderId: chosenIdSchema.optional(), ...orderFields })
  .check(checkTotal)
  .meta({ id: 'OrderRequest' });

/** What travels in a message and is stored. The one source for validation, OpenAPI and types. */
export const orderSchema = z
  .strictObject({ orderId: orderIdSchema, ...orderFields })
  .check(checkTotal)
  .meta({ id: 'Order' });

export type OrderRequest = z.infer<typeof orderRequestSchema>;
export type Order = z.infer<typeof orderSchema>;

/**
 * Identity of an order's content: `v1:` and the SHA-256 of the RFC 8785 form of the order without `orderId` and
 * `createdAt`, so that a client's retry with a new time is still the same order.
 */
export function contentHash({
  adjustment,
  currency,
  customerId,
  items,
  metadata,
  totalAmount,
}: OrderRequest): string {
  // What RFC 8785 asks for beyond JSON.stringify is the order of the keys, and those of an order are known.
  const sorted = items.map(({ name, productId, quantity, unitPrice }) => ({
    name,
    productId,
    quantity,
    unitPrice,
  }));
  const first = JSON.stringify({ adjustment, currency, customerId, items: sorted }).slice(0, -1);
  const last = JSON.stringify({ totalAmount }).slice(1);
  const between = metadata ? `"metadata":${sortedJson(metadata)},` : '';
  return `v1:${hash('sha256', `${first},${between}${last}`)}`;
}

/** Built by hand: an object would put keys that are numbers first. */
function sortedJson(entries: Record<string, string>): string {
  const names = Object.keys(entries).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${JSON.stringify(entries[name])}`).join()}}`;
}
