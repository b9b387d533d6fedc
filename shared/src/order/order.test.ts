import { hash } from 'node:crypto';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AN_ORDER_ID, anOrder, anOrderRequest, validOrders } from '../../testing/orders.ts';
import { contentHash, type OrderRequest, orderRequestSchema, orderSchema } from './order.ts';

const A_KEYED_ID = 'bbf5dd63-0e82-82a4-a5d6-a8cf901c1ed5';
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
  it('orderRequestSchema, given the example order, accepts it unchanged', () => {
    expect(orderRequestSchema.parse(anOrderRequest())).toEqual(anOrderRequest());
  });

  it('orderRequestSchema, given any valid order, accepts it unchanged', () => {
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
    ['a total above 10¹⁵', withField('totalAmount', 10 ** 15 + 1), 'totalAmount: Too big'],
    [
      'a total that JSON.parse rounds to an integer',
      withField('totalAmount', JSON.parse('9007199254740991.4')),
      'totalAmount: Too big',
    ],
    ['a price above 10¹²', withItemField('unitPrice', 10 ** 12 + 1), 'items.0.unitPrice: Too big'],
    ['an adjustment above 10¹⁵', withField('adjustment', 10 ** 15 + 1), 'adjustment: Too big'],
    ['an adjustment below -10¹⁵', withField('adjustment', -(10 ** 15) - 1), 'adjustment: Too small'],
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
    [
      'a time with ten digits after the point',
      withField('createdAt', '2026-11-22T09:00:00.1234567890Z'),
      'createdAt: must have at most 9 digits after the point: nanoseconds',
    ],
    [
      'a time with a million digits after the point',
      withField('createdAt', `2026-11-22T09:00:00.${'1'.repeat(1_000_000)}+09:00`),
      'createdAt: must have at most 9 digits after the point: nanoseconds',
    ],
    ['an id of version 8', withField('orderId', A_KEYED_ID), 'orderId: must not be of version 8'],
    [
      'an id of version 8 in capitals',
      withField('orderId', A_KEYED_ID.toUpperCase()),
      'orderId: must not be',
    ],
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
    ['NUL', '\u0000', '0000'],
    ['a line feed', '\n', '000A'],
    ['an escape character', '\u001B', '001B'],
    ['DEL', '\u007F', '007F'],
    ['the first C1 control character', '\u0080', '0080'],
    ['a next line', '\u0085', '0085'],
    ['the last C1 control character', '\u009F', '009F'],
    ['a left-to-right embedding', '\u202A', '202A'],
    ['a right-to-left override', '\u202E', '202E'],
    ['a left-to-right isolate', '\u2066', '2066'],
    ['a pop directional isolate', '\u2069', '2069'],
    ['a lone high surrogate', '\uD800', 'D800'],
    ['a lone low surrogate', '\uDC00', 'DC00'],
    ['surrogates in the wrong order', '\uDC00\uD800', 'DC00'],
    ['U+FFFE', '\uFFFE', 'FFFE'],
    ['U+FFFF', '\uFFFF', 'FFFF'],
  ])(
    'orderRequestSchema, given a text with %s, names it in every field of text',
    (_what, character, code) => {
      const bad = `a😀${character}b`;
      const refusal = `contains U+${code}: control characters, direction overrides and invalid Unicode are refused`;
      expect(problemsOf(withField('customerId', bad))).toEqual([`customerId: ${refusal}`]);
      expect(problemsOf(withItemField('productId', bad))).toEqual([`items.0.productId: ${refusal}`]);
      expect(problemsOf(withItemField('name', bad))).toEqual([`items.0.name: ${refusal}`]);
      expect(problemsOf(withField('metadata', { key: bad }))).toEqual([`metadata.key: ${refusal}`]);
      expect(problemsOf(withField('metadata', { [bad]: 'value' }))).toEqual([
        `metadata.${bad}: key ${refusal}`,
      ]);
    },
  );

  it.each(['\u007F', '\u0085', '\u202E', '\u2066'])(
    'orderSchema, given the text %j that may have been sent, reads it',
    (character) => {
      const order = anOrder({ customerId: character, metadata: { [character]: character } });
      expect(orderSchema.parse(order)).toEqual(order);
    },
  );

  it.each([
    '주문 №1',
    '😀 smile',
    'U+D7FF \uD7FF, U+E000 \uE000, U+FFFD \uFFFD',
    '\u{10FFFF}',
    'שלום\u200F',
    '👩\u200D💻 \u00A0é',
  ])('orderRequestSchema, given the text %j, takes it', (name) => {
    expect(problemsOf(withItemField('name', name))).toEqual([]);
  });

  it('orderRequestSchema, given a hundred thousand levels of nesting, refuses them without a crash', () => {
    const deep = JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`);
    expect(problemsOf(deep)).toHaveLength(1);
    expect(problemsOf(withField('metadata', { deep }))[0]).toContain('metadata.deep');
    expect(problemsOf(withField('extra', deep))).toEqual([': Unrecognized key: "extra"']);
  });

  it('orderRequestSchema, given several mistakes, reports each', () => {
    const order = { ...anOrderRequest(), customerId: '', currency: 'XYZ', createdAt: 'now' };
    expect(problemsOf(order).map((problem) => problem.split(':')[0])).toEqual([
      'customerId',
      'currency',
      'createdAt',
    ]);
  });

  it('orderRequestSchema, given a UUID in capitals, makes it lower case', () => {
    const parsed = orderRequestSchema.parse(anOrderRequest({ orderId: AN_ORDER_ID.toUpperCase() }));
    expect(parsed.orderId).toBe(AN_ORDER_ID);
  });

  it('orderRequestSchema, given the nil UUID, refuses it; orderSchema reads it, since it may have been sent', () => {
    const order = anOrderRequest({ orderId: '00000000-0000-0000-0000-000000000000' });
    expect(orderRequestSchema.safeParse(order).error?.issues).toMatchObject([{ path: ['orderId'] }]);
    expect(orderSchema.safeParse(order).success).toBe(true);
  });

  it('orderSchema, given an id made from an idempotency key, reads it', () => {
    expect(orderSchema.parse(anOrder({ orderId: A_KEYED_ID })).orderId).toBe(A_KEYED_ID);
  });

  it('orderSchema, given a time with ten digits after the point, reads it, since it may have been sent', () => {
    const order = anOrder({ createdAt: '2026-11-22T09:00:00.1234567890Z' });
    expect(orderSchema.parse(order)).toEqual(order);
  });

  it.each<[string, Partial<OrderRequest>]>([
    ['empty metadata', { metadata: {} }],
    ['an adjustment of zero', { adjustment: 0 }],
    ['an adjustment of minus zero', { adjustment: -0 }],
    ['both', { metadata: {}, adjustment: 0 }],
  ])('orderRequestSchema, of an order with %s, leaves out what says nothing', (_what, fields) => {
    const parsed = orderRequestSchema.parse(anOrderRequest(fields));
    expect(Object.keys(parsed)).toEqual(Object.keys(anOrderRequest()));
    expect(contentHash(parsed)).toBe(contentHash(anOrderRequest()));
  });

  it('orderRequestSchema, given an order with one that says nothing beside one that does, keeps the other', () => {
    const metadata = { note: 'gift' };
    expect(orderRequestSchema.parse(anOrderRequest({ metadata, adjustment: 0 }))).toEqual(
      anOrderRequest({ metadata }),
    );
    const adjusted = { adjustment: -998, totalAmount: 2000 };
    expect(orderRequestSchema.parse(anOrderRequest({ ...adjusted, metadata: {} }))).toEqual(
      anOrderRequest(adjusted),
    );
  });

  it('orderSchema, of what says nothing, keeps it: the hash that was sent with it holds', () => {
    const order = anOrder({ metadata: {}, adjustment: 0 });
    expect(orderSchema.parse(order)).toEqual(order);
  });

  it.each([
    '2026-11-22T09:00:00Z',
    '2026-11-22T18:00:00.123+09:00',
    '2026-11-22T18:00:00.123456789-09:00',
    '2026-11-22T18:00:00.123456789Z',
    '2024-02-29T00:00:00-03:30',
  ])('orderRequestSchema, given the time %s, keeps it as it came', (createdAt) => {
    expect(orderRequestSchema.parse(anOrderRequest({ createdAt })).createdAt).toBe(createdAt);
  });

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
      'the largest there may be',
      { items: [{ ...anItem, quantity: 1_000, unitPrice: 10 ** 12 }], totalAmount: 10 ** 15 },
    ],
    [
      'the largest below twice as much of items',
      {
        items: [{ ...anItem, quantity: 2_000, unitPrice: 10 ** 12 }],
        adjustment: -(10 ** 15),
        totalAmount: 10 ** 15,
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
    ['a product', { items: [{ ...anItem, quantity: 1_000_000, unitPrice: 10 ** 12 }] }],
    ['a sum of items', { items: Array(100).fill({ ...anItem, quantity: 100, unitPrice: 10 ** 12 }) }],
  ])('total, when %s leaves the safe integers, is refused', (_what, fields) => {
    const order = anOrderRequest({ ...fields, totalAmount: 10 ** 15 });
    expect(problemsOf(order)).toEqual(['totalAmount: the sum of the items is too large']);
  });

  describe('of an order that was sent before there were caps', () => {
    const sent = (quantity: number, unitPrice: number, adjustment: number, totalAmount: number) =>
      orderSchema.safeParse(anOrder({ items: [{ ...anItem, quantity, unitPrice }], adjustment, totalAmount }))
        .success;

    it('up to the largest safe integer, is read', () => {
      expect(sent(1, Number.MAX_SAFE_INTEGER, 0, Number.MAX_SAFE_INTEGER)).toBe(true);
      expect(sent(1, Number.MAX_SAFE_INTEGER, 1, Number.MAX_SAFE_INTEGER)).toBe(false);
    });

    it('whose sum leaves the safe integers on the way, is exact', () => {
      // 3 × 3,333,333,333,333,335 = 10,000,000,000,000,005, which no double holds.
      expect(sent(3, 3_333_333_333_333_335, -4_000_000_000_000_002, 6_000_000_000_000_003)).toBe(true);
      expect(sent(3, 3_333_333_333_333_335, -4_000_000_000_000_002, 6_000_000_000_000_002)).toBe(false);
      expect(sent(3, 3_333_333_333_333_335, -4_000_000_000_000_002, 6_000_000_000_000_004)).toBe(false);
    });
  });

  it('total, given an order that is malformed elsewhere, does not hide that', () => {
    expect(problemsOf({ ...anOrderRequest(), items: 'none' })).toEqual([expect.stringContaining('items: ')]);
  });
});

describe('contentHash', () => {
  // The contract with every message ever sent and every row ever stored: these values never change.
  it('contentHash, given the example order, is the value it always was', () => {
    expect(contentHash(anOrderRequest())).toBe(
      'v1:241ff5e1e4ebfe6c34dcde40b916c91b24dacfd347aab616130079db32c7af8d',
    );
  });

  it('contentHash, given an order with all fields, is the value it always was', () => {
    const order = anOrderRequest({
      adjustment: -998,
      totalAmount: 2000,
      metadata: { coupon: 'SPRING', 'größe 😀': '"대" \\ /' },
    });
    expect(contentHash(order)).toBe('v1:78a6224359624d518c0bf473911b05a41b998bc5f4496602353dcdf7c609402a');
  });

  it('contentHash, given any order, is the hash of its RFC 8785 form without orderId and createdAt', () => {
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
