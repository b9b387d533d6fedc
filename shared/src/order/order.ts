import { hash } from 'node:crypto';
import { z } from 'zod';
import { CURRENCY_CODES } from './currency.ts';

// The rules for clients are stricter than those for reading: an order queued or stored under earlier rules stays readable.

/** Characters that SQS and PostgreSQL refuse: control characters, U+FFFE, U+FFFF. Lone surrogates are checked apart. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is there to refuse them
const UNREADABLE = /[\u0000-\u001f\ufffe\uffff]/;
/**
 * A client may not send DEL, C1 control characters, or characters that override the direction of text and so display
 * another text than is there (https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters).
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is there to refuse them
const UNSENDABLE = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufffe\uffff]/;

/**
 * One check for the four that the schema shows: an order has a dozen texts, and each check takes time. The pattern leaves
 * surrogates out, so that it means the same in every language that reads the schema.
 */
function text(maxLength: number, refused: RegExp) {
  return z
    .string()
    .check(({ value, issues }) => {
      if (value.length === 0 || value.length > maxLength) {
        issues.push({ code: 'custom', message: `must have 1 to ${maxLength} characters`, input: value });
      } else if (refused.test(value) || !value.isWellFormed()) {
        issues.push({ code: 'custom', message: refusalOf(value, refused), input: value });
      }
    })
    .meta({ minLength: 1, maxLength, pattern: `^[^${refused.source.slice(1)}*$` });
}

function refusalOf(value: string, refused: RegExp): string {
  const [character = ''] = refused.exec(value) ?? /\p{Surrogate}/u.exec(value) ?? [];
  const code = character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0');
  return `contains U+${code}: control characters, direction overrides and invalid Unicode are refused`;
}

const MAX_METADATA_ENTRIES = 20;

type Rules = {
  itemId: string;
  refused: RegExp;
  price: z.ZodInt;
  adjustment: z.ZodInt;
  total: z.ZodInt;
  createdAt: z.ZodType<string>;
};

const fieldsBy = ({ itemId, refused, price, adjustment, total, createdAt }: Rules) => ({
  customerId: text(64, refused),
  items: z
    .array(
      z
        .strictObject({
          productId: text(64, refused),
          name: text(256, refused),
          quantity: z.int().min(1).max(1_000_000),
          unitPrice: price.describe('amount in minor units of the currency (cents, won, …)'),
        })
        .meta({ id: itemId }),
    )
    .min(1)
    .max(1_000),
  currency: z
    .enum(CURRENCY_CODES, {
      error: ({ input }) => (input === undefined ? 'is required' : 'must be an active ISO 4217 code'),
    })
    .describe('ISO 4217'),
  adjustment: adjustment.optional().describe('signed minor units: discount or rounding; left out when 0'),
  totalAmount: total.describe('sum of quantity × unitPrice, plus adjustment; zero is allowed'),
  createdAt,
  metadata: z
    .record(text(64, refused), text(512, refused), {
      error: (issue) => (issue.code === 'invalid_key' ? `key ${issue.issues[0]?.message}` : undefined),
    })
    .refine((entries) => Object.keys(entries).length <= MAX_METADATA_ENTRIES, {
      error: `at most ${MAX_METADATA_ENTRIES} entries`,
    })
    .meta({ maxProperties: MAX_METADATA_ENTRIES, description: 'any key but __proto__; left out when empty' })
    .optional(),
});

const instant = z.iso.datetime({ offset: true });
/** In minor units: enough for any currency, and small enough that a number holds fractions, to be refused. */
const [MAX_PRICE, MAX_TOTAL] = [10 ** 12, 10 ** 15];

const requestFields = fieldsBy({
  itemId: 'OrderRequestItem',
  refused: UNSENDABLE,
  price: z.int().min(0).max(MAX_PRICE),
  adjustment: z.int().min(-MAX_TOTAL).max(MAX_TOTAL),
  total: z.int().min(0).max(MAX_TOTAL),
  createdAt: instant
    .regex(/^[^.]*(?:\.\d{1,9}(?:Z|[+-].*))?$/, 'must have at most 9 digits after the point: nanoseconds')
    .describe('RFC 3339, with a zone, to the nanosecond at most'),
});
const storedFields = fieldsBy({
  itemId: 'OrderItem',
  refused: UNREADABLE,
  price: z.int().min(0),
  adjustment: z.int(),
  total: z.int().min(0),
  createdAt: instant.describe('RFC 3339, with a zone'),
});

/**
 * An id that a client may choose. Not the nil UUID, which often fills a forgotten field. Not version 8: those are made from
 * idempotency keys and are not secret, so whoever sent one first would turn its owner's order into a conflict.
 */
const chosenIdSchema = z
  .uuid()
  .regex(/[^0-]/, 'must not be the nil UUID')
  .regex(/^.{14}[^8]/, 'must not be of version 8: such ids are made from idempotency keys')
  .toLowerCase();

type Amounts = {
  items: { quantity: number; unitPrice: number }[];
  adjustment?: number | undefined;
  totalAmount: number;
};

function checkTotal({ value, issues }: z.core.ParsePayload<Amounts>): void {
  const sum = sumOf(value);
  const problem =
    sum > Number.MAX_SAFE_INTEGER
      ? 'the sum of the items is too large'
      : Number(sum) !== value.totalAmount && `must equal the sum of the items plus adjustment, ${sum}`;
  if (!problem) return;
  const params = { contradiction: true };
  issues.push({ code: 'custom', path: ['totalAmount'], message: problem, params, input: value.totalAmount });
}

/** Exact: uses bigint if a step leaves the safe integers, as in orders accepted before there were limits. */
function sumOf({ items, adjustment = 0 }: Amounts): number | bigint {
  let sum = adjustment;
  for (const { quantity, unitPrice } of items) {
    const price = quantity * unitPrice;
    sum += price;
    if (!Number.isSafeInteger(price) || !Number.isSafeInteger(sum)) return exactSumOf({ items, adjustment });
  }
  return sum;
}

const exactSumOf = ({ items, adjustment = 0 }: Omit<Amounts, 'totalAmount'>): bigint =>
  items.reduce(
    (sum, { quantity, unitPrice }) => sum + BigInt(quantity) * BigInt(unitPrice),
    BigInt(adjustment),
  );

/** Drops empty fields: an order with them and one without are the same order, with the same hash. */
function inOneForm(order: z.infer<typeof requestObject>) {
  if (order.adjustment === 0) delete order.adjustment;
  if (order.metadata && Object.keys(order.metadata).length === 0) delete order.metadata;
  return order;
}

const requestObject = z.strictObject({ orderId: chosenIdSchema.optional(), ...requestFields });

/** Shown on the API's page, and accepted as it stands. */
export const EXAMPLE_ORDER = {
  customerId: 'C-1001',
  items: [{ productId: 'SKU-1', name: 'CD', quantity: 2, unitPrice: 1499 }],
  currency: 'USD',
  totalAmount: 2998,
  createdAt: '2026-11-22T09:00:00Z',
} satisfies z.input<typeof requestObject>;

/** What a client sends: the order, with an `orderId` of its own choice or none. Unknown fields are refused. */
export const orderRequestSchema = requestObject
  .check(checkTotal)
  .overwrite(inOneForm)
  .meta({ id: 'OrderRequest', examples: [EXAMPLE_ORDER] });

/** An order in a message and in the store, also of earlier releases. Source of the message's schema and types. */
export const orderSchema = z
  .strictObject({ orderId: z.uuid().toLowerCase(), ...storedFields })
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
  // Beyond JSON.stringify, RFC 8785 only asks for sorted keys, and an order's keys are known.
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

/** Built by hand: an object would put numeric keys first. */
function sortedJson(entries: Record<string, string>): string {
  const names = Object.keys(entries).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${JSON.stringify(entries[name])}`).join()}}`;
}
