import { hash } from 'node:crypto';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AN_ORDER_ID, anOrder, anOrderRequest, validOrders } from '../testing/orders.ts';
import { contentHash, type OrderRequest, orderRequestSchema, orderSchema } from './order.ts';

const anItem = { productId: 'SKU-1', name: 'CD', quantity: 2, unitPrice: 1499 };

/** What the schema has against an order: `field: message`, line by line. */
function problemsOf(order: unknown): string[] {
  const parsed = orderRequestSchema.safeParse(order);
  return parsed.success
    ? []
    : parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

const withField = (field: string, value: unknown) => ({ ...anOrderRequest(), [field]: value });
const withItemField = (field: string, value: unknown) => withField('items', [{ ...anItem, [field]: value }]);

describe('orderRequestSchema', () => {
  it('orderRequestSchema, of the example order, takes it as it is', () => {
    expect(orderRequestSchema.parse(anOrderRequest())).toEqual(anOrderRequest());
  });

  it('orderRequestSchema, of any valid order, takes it as it is', () => {
    fc.assert(
      fc.property(validOrders, (order) => {
        expect(orderSchema.parse(order)).toEqual(order);
      }),
    );
  });

  it.each<[string, unknown, string]>([
    ['no object', null, ': Invalid input'],
    ['an array', [anOrderRequest()], ': Invalid input'],
    ['an unknown field', withField('discount', 1), ': Unrecognized key: "discount"'],
    ['an unknown field of an item', withItemField('colour', 'red'), 'items.0: Unrecognized key: "colour"'],
    ['no customer', withField('customerId', undefined), 'customerId: Invalid input'],
    ['an empty customer', withField('customerId', ''), 'customerId: must have 1 to 64 characters'],
    ['a customer of 65 characters', withField('customerId', 'x'.repeat(65)), 'customerId: must have 1 to 64'],
    ['a number as customer', withField('customerId', 1001), 'customerId: Invalid input'],
    ['no items', withField('items', []), 'items: Too small'],
    ['1,001 items', withField('items', Array(1_001).fill(anItem)), 'items: Too big'],
    ['a negative quantity', withItemField('quantity', -2), 'items.0.quantity: Too small'],
    ['no quantity', withItemField('quantity', 0), 'items.0.quantity: Too small'],
    ['half a piece', withItemField('quantity', 0.5), 'items.0.quantity: Invalid input'],
    ['a quantity above a million', withItemField('quantity', 1_000_001), 'items.0.quantity: Too big'],
    ['a negative price', withItemField('unitPrice', -1), 'items.0.unitPrice: Too small'],
    ['a price with a fraction', withItemField('unitPrice', 14.99), 'items.0.unitPrice: Invalid input'],
    ['NaN', withField('totalAmount', Number.NaN), 'totalAmount: Invalid input'],
    [
      'a number beyond IEEE 754 (1e400)',
      withField('totalAmount', JSON.parse('1e400')),
      'totalAmount: Invalid input',
    ],
    ['an unsafe integer', withField('totalAmount', 2 ** 53), 'totalAmount: Too big'],
    ['the text "NaN"', withField('totalAmount', 'NaN'), 'totalAmount: Invalid input'],
    ['a number as text', withField('totalAmount', '2998'), 'totalAmount: Invalid input'],
    ['null as amount', withField('totalAmount', null), 'totalAmount: Invalid input'],
    ['a fraction as adjustment', withField('adjustment', 0.5), 'adjustment: Invalid input'],
    ['an unknown currency', withField('currency', 'XYZ'), 'currency: must be an active ISO 4217 code'],
    ['a currency in lower case', withField('currency', 'usd'), 'currency: must be an active ISO 4217 code'],
    ['a withdrawn currency', withField('currency', 'DEM'), 'currency: must be an active ISO 4217 code'],
    ['a bad UUID', withField('orderId', 'order-1'), 'orderId: Invalid UUID'],
    ['a UUID in braces', withField('orderId', `{${AN_ORDER_ID}}`), 'orderId: Invalid UUID'],
    ['a date without zone', withField('createdAt', '2026-11-22T09:00:00'), 'createdAt: Invalid ISO datetime'],
    ['a date without time', withField('createdAt', '2026-11-22'), 'createdAt: Invalid ISO datetime'],
    ['a day that is none', withField('createdAt', '2026-02-30T09:00:00Z'), 'createdAt: Invalid ISO datetime'],
    ['a date as number', withField('createdAt', 1_795_338_000_000), 'createdAt: Invalid input'],
    [
      '21 metadata',
      withField('metadata', Object.fromEntries([...Array(21).keys()].map((i) => [`k${i}`, 'v']))),
      'metadata: at most 20 entries',
    ],
    ['nested metadata', withField('metadata', { a: { b: 'c' } }), 'metadata.a: Invalid input'],
    [
      'metadata of 513 characters',
      withField('metadata', { a: 'x'.repeat(513) }),
      'metadata.a: must have 1 to 512',
    ],
  ])('orderRequestSchema, of an order with %s, names the field', (_what, order, problem) => {
    expect(problemsOf(order)[0]).toContain(problem);
  });

  it.each([
    ['NUL', '\u0000'],
    ['a line feed', '\n'],
    ['an escape character', '\u001B'],
    ['a lone high surrogate', '\uD800'],
    ['a lone low surrogate', '\uDC00'],
    ['surrogates in the wrong order', '\uDC00\uD800'],
    ['U+FFFE', '\uFFFE'],
    ['U+FFFF', '\uFFFF'],
  ])('orderRequestSchema, of a text with %s, refuses it in every field of text', (_what, character) => {
    const bad = `a${character}b`;
    const refusal = 'contains a control character or a character outside Unicode text';
    expect(problemsOf(withField('customerId', bad))).toEqual([`customerId: ${refusal}`]);
    expect(problemsOf(withItemField('productId', bad))).toEqual([`items.0.productId: ${refusal}`]);
    expect(problemsOf(withItemField('name', bad))).toEqual([`items.0.name: ${refusal}`]);
    expect(problemsOf(withField('metadata', { key: bad }))).toEqual([`metadata.key: ${refusal}`]);
    expect(problemsOf(withField('metadata', { [bad]: 'value' }))).toHaveLength(1);
  });

  it.each(['주문 №1', '😀 smile', 'U+D7FF \uD7FF, U+E000 \uE000, U+FFFD \uFFFD', '\u{10FFFF}'])(
    'orderRequestSchema, of the text %j, takes it',
    (name) => {
      expect(problemsOf(withItemField('name', name))).toEqual([]);
    },
  );

  it('orderRequestSchema, of a hundred thousand levels of nesting, refuses them without a crash', () => {
    const deep = JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`);
    expect(problemsOf(deep)).toHaveLength(1);
    expect(problemsOf(withField('metadata', { deep }))[0]).toContain('metadata.deep');
    expect(problemsOf(withField('extra', deep))).toEqual([': Unrecognized key: "extra"']);
  });

  it('orderRequestSchema, of several mistakes, reports each', () => {
    const order = { ...anOrderRequest(), customerId: '', currency: 'XYZ', createdAt: 'now' };
    expect(problemsOf(order).map((problem) => problem.split(':')[0])).toEqual([
      'customerId',
      'currency',
      'createdAt',
    ]);
  });

  it('orderRequestSchema, of a UUID in capitals, makes it lower case', () => {
    const parsed = orderRequestSchema.parse(anOrderRequest({ orderId: AN_ORDER_ID.toUpperCase() }));
    expect(parsed.orderId).toBe(AN_ORDER_ID);
  });

  it('orderRequestSchema, of the nil UUID, refuses it; orderSchema reads it, since it may have been sent', () => {
    const order = anOrderRequest({ orderId: '00000000-0000-0000-0000-000000000000' });
    expect(orderRequestSchema.safeParse(order).error?.issues).toMatchObject([{ path: ['orderId'] }]);
    expect(orderSchema.safeParse(order).success).toBe(true);
  });

  it.each(['2026-11-22T09:00:00Z', '2026-11-22T18:00:00.123+09:00', '2024-02-29T00:00:00-03:30'])(
    'orderRequestSchema, of the time %s, keeps it as it came',
    (createdAt) => {
      expect(orderRequestSchema.parse(anOrderRequest({ createdAt })).createdAt).toBe(createdAt);
    },
  );

  it('orderSchema, without an orderId, refuses the order', () => {
    const parsed = orderSchema.safeParse(anOrderRequest());
    expect(parsed.error?.issues[0]?.path).toEqual(['orderId']);
  });
});

describe('total', () => {
  it.each<[string, Partial<OrderRequest>]>([
    ['equal to the sum', { totalAmount: 2998 }],
    ['below it by a discount', { adjustment: -998, totalAmount: 2000 }],
    ['above it by rounding', { adjustment: 2, totalAmount: 3000 }],
    ['zero by a discount of everything', { adjustment: -2998, totalAmount: 0 }],
    ['zero for free items', { items: [{ ...anItem, unitPrice: 0 }], totalAmount: 0 }],
    [
      'the largest safe integer',
      {
        items: [{ ...anItem, quantity: 1, unitPrice: Number.MAX_SAFE_INTEGER }],
        totalAmount: Number.MAX_SAFE_INTEGER,
      },
    ],
  ])('total, %s, is taken', (_what, fields) => {
    expect(problemsOf(anOrderRequest(fields))).toEqual([]);
  });

  it('total, that is not the sum, is a contradiction and says the sum', () => {
    const { error } = orderRequestSchema.safeParse(anOrderRequest({ totalAmount: 2999 }));
    expect(error?.issues).toMatchObject([
      {
        path: ['totalAmount'],
        message: 'must equal the sum of the items plus adjustment, 2998',
        params: { contradiction: true },
      },
    ]);
  });

  it('total, below zero by the adjustment, is refused though the sum matches', () => {
    const problems = problemsOf(anOrderRequest({ adjustment: -2999, totalAmount: -1 }));
    expect(problems).toEqual(['totalAmount: Too small: expected number to be >=0']);
  });

  it.each<[string, Partial<OrderRequest>]>([
    ['a product', { items: [{ ...anItem, quantity: 1_000_000, unitPrice: Number.MAX_SAFE_INTEGER }] }],
    [
      'a sum of items',
      { items: Array(2).fill({ ...anItem, quantity: 1, unitPrice: Number.MAX_SAFE_INTEGER }) },
    ],
    [
      'the adjustment',
      { items: [{ ...anItem, quantity: 1, unitPrice: Number.MAX_SAFE_INTEGER }], adjustment: 1 },
    ],
  ])('total, when %s leaves the safe integers, is refused', (_what, fields) => {
    const order = anOrderRequest({ ...fields, totalAmount: Number.MAX_SAFE_INTEGER });
    expect(problemsOf(order)).toEqual(['totalAmount: the sum of the items is too large']);
  });

  it('total, of an order that is malformed elsewhere, does not hide that', () => {
    expect(problemsOf({ ...anOrderRequest(), items: 'none' })).toEqual([expect.stringContaining('items: ')]);
  });
});

describe('contentHash', () => {
  // The contract with every message ever sent and every row ever stored: these values never change.
  it('contentHash, of the example order, is the value it always was', () => {
    expect(contentHash(anOrderRequest())).toBe(
      'v1:241ff5e1e4ebfe6c34dcde40b916c91b24dacfd347aab616130079db32c7af8d',
    );
  });

  it('contentHash, of an order with all fields, is the value it always was', () => {
    const order = anOrderRequest({
      adjustment: -998,
      totalAmount: 2000,
      metadata: { coupon: 'SPRING', 'größe 😀': '"대" \\ /' },
    });
    expect(contentHash(order)).toBe('v1:78a6224359624d518c0bf473911b05a41b998bc5f4496602353dcdf7c609402a');
  });

  it('contentHash, of any order, is the hash of its RFC 8785 form without orderId and createdAt', () => {
    fc.assert(
      fc.property(validOrders, (order) => {
        const { orderId: _orderId, createdAt: _createdAt, ...content } = order;
        expect(contentHash(order)).toBe(`v1:${hash('sha256', canonicalize(content) ?? '')}`);
      }),
      { numRuns: 1_000 },
    );
  });

  it('contentHash, of keys that an object would sort otherwise, has them in the order of RFC 8785', () => {
    const metadata = { '10': 'c', '9': 'b', '\uff21': 'e', '😀': 'd', ' ': 'a' };
    const { createdAt: _createdAt, ...content } = anOrderRequest({ metadata });
    expect(contentHash(anOrderRequest({ metadata }))).toBe(
      `v1:${hash('sha256', canonicalize(content) ?? '')}`,
    );
  });

  it('contentHash, with another orderId and createdAt, stays the same', () => {
    const hash = contentHash(anOrderRequest());
    expect(contentHash(anOrder())).toBe(hash);
    expect(contentHash(anOrderRequest({ createdAt: '2027-01-01T00:00:00+09:00' }))).toBe(hash);
  });

  it('contentHash, with the keys in another order, stays the same', () => {
    const shuffle = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(shuffle);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, inner]) => [key, shuffle(inner)]),
      );
    };
    fc.assert(
      fc.property(validOrders, (order) => {
        expect(contentHash(shuffle(order) as typeof order)).toBe(contentHash(order));
      }),
    );
  });

  it.each<[string, Partial<OrderRequest>]>([
    ['customer', { customerId: 'C-1002' }],
    ['item', { items: [{ ...anItem, name: 'DVD' }] }],
    ['currency', { currency: 'EUR' }],
    ['total', { totalAmount: 2999 }],
    ['adjustment, even of zero', { adjustment: 0 }],
    ['metadata', { metadata: { note: 'gift' } }],
  ])('contentHash, with another %s, changes', (_what, fields) => {
    expect(contentHash(anOrderRequest(fields))).not.toBe(contentHash(anOrderRequest()));
  });

  it('contentHash, with the items in another order, changes', () => {
    const [first, second] = [anItem, { ...anItem, productId: 'SKU-2' }];
    expect(contentHash(anOrderRequest({ items: [first, second] }))).not.toBe(
      contentHash(anOrderRequest({ items: [second, first] })),
    );
  });
});
