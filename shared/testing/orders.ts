import fc from 'fast-check';
import { CURRENCY_CODES } from '../src/order/currency.ts';
import { EXAMPLE_ORDER, type Order, type OrderRequest } from '../src/order/order.ts';

/** The example order of the interface: valid, and small enough to be seen at a glance. */
export function anOrderRequest(overrides: Partial<OrderRequest> = {}): OrderRequest {
  return { ...structuredClone(EXAMPLE_ORDER), ...overrides };
}

export const AN_ORDER_ID = '019a0000-0000-7000-8000-000000000001';

export function anOrder(overrides: Partial<Order> = {}): Order {
  return { ...anOrderRequest(), orderId: AN_ORDER_ID, ...overrides };
}

/** Any text that an order may hold, astral characters and quotes included. */
const text = (maxLength: number) =>
  fc
    .string({ unit: 'grapheme', minLength: 1, maxLength })
    .map((value) => value.replaceAll(/[^ -\uFFFD]/g, '·').slice(0, maxLength))
    .filter((value) => value.isWellFormed());

/** `__proto__` is the one key that neither HTTP nor zod lets through. */
const metadataKey = text(64).filter((key) => key !== '__proto__');

const item = fc.record({
  productId: text(64),
  name: text(256),
  quantity: fc.integer({ min: 1, max: 1_000_000 }),
  unitPrice: fc.integer({ min: 0, max: 1_000_000_000 }),
});

/** Any valid order. */
export const validOrders: fc.Arbitrary<Order> = fc
  .record(
    {
      orderId: fc.uuid(),
      customerId: text(64),
      items: fc.array(item, { minLength: 1, maxLength: 20 }),
      currency: fc.constantFrom(...CURRENCY_CODES),
      adjustment: fc.integer({ min: 0, max: 1_000_000 }),
      createdAt: fc
        .date({ min: new Date('2000-01-01'), max: new Date('2100-01-01'), noInvalidDate: true })
        .map((date) => date.toISOString()),
      metadata: fc.dictionary(metadataKey, text(512), { maxKeys: 20, noNullPrototype: true }),
    },
    { requiredKeys: ['orderId', 'customerId', 'items', 'currency', 'createdAt'] },
  )
  .map(({ adjustment, metadata, ...order }) => ({
    ...order,
    ...(adjustment === undefined ? {} : { adjustment }),
    ...(metadata === undefined ? {} : { metadata }),
    totalAmount: order.items.reduce(
      (sum, { quantity, unitPrice }) => sum + quantity * unitPrice,
      adjustment ?? 0,
    ),
  }));
