import { orderRequestSchema } from '@orders/shared/order/order.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cdnowOrder } from './cdnow.ts';

describe('cdnowOrder', () => {
  it('reads a purchase, its amount exact in cents', () => {
    expect(cdnowOrder(' 00001 19970101  1   11.77', 1)).toEqual({
      orderId: '96ac344b-41e9-55d4-bdb1-b7a340793ee8',
      customerId: 'C-00001',
      items: [{ productId: 'CD', name: 'CD', quantity: 1, unitPrice: 1177 }],
      currency: 'USD',
      totalAmount: 1177,
      createdAt: '1997-01-01T12:00:00Z',
    });
  });

  it('keeps in the adjustment what does not divide by the number of CDs', () => {
    expect(cdnowOrder('00004 19970118 3 29.35', 12)).toMatchObject({
      items: [{ quantity: 3, unitPrice: 978 }],
      adjustment: 1,
      totalAmount: 2935,
    });
  });

  it('gives rows that are alike different ids, and a row the same id each time', () => {
    const [first, again, next] = [7, 7, 8].map((row) => cdnowOrder('00001 19970101 1 0.00', row).orderId);
    expect(again).toBe(first);
    expect(next).not.toBe(first);
  });

  it('makes an order that the producer accepts of every row', () => {
    const row = fc.record({
      customer: fc.integer({ min: 1, max: 99_999 }),
      at: fc.date({ min: new Date('1990-01-01'), max: new Date('2026-12-31'), noInvalidDate: true }),
      quantity: fc.integer({ min: 1, max: 99 }),
      cents: fc.integer({ min: 0, max: 10_000_000 }),
    });
    fc.assert(
      fc.property(row, fc.nat(), ({ customer, at, quantity, cents }, number) => {
        const date = at.toISOString().slice(0, 10).replaceAll('-', '');
        const dollars = `${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, '0')}`;
        const order = cdnowOrder(`${customer} ${date} ${quantity} ${dollars}`, number);
        expect(orderRequestSchema.parse(order)).toEqual(order);
        expect(order.totalAmount).toBe(cents);
      }),
    );
  });

  it.each([
    ['00001 19970101 1', 'must be customer id'],
    ['00001 19970101 1 11.777', 'must be customer id'],
    ['00001 19970101 -1 11.77', 'must be customer id'],
    ['00001 19970231 1 11.77', '19970231 is no date'],
    ['00001 19971301 1 11.77', '19971301 is no date'],
    ['00001 19970101 0 11.77', 'the number of CDs must be 1 or more'],
    ['00001 19970101 1 99999999999999999.00', 'the amount is too large'],
  ])('says what is wrong with %j', (text, message) => {
    expect(() => cdnowOrder(text, 1)).toThrow(message);
  });
});
