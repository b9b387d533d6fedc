import type { OrderRequest } from '@orders/shared/order/order.ts';
import { uuidOfName } from './name-uuid.ts';

export const CDNOW_HEADER = /^customer_id\s+date\s+number_of_cds\s+dollar_value$/;
export const CDNOW_ROW = /^(\d+)\s+(\d{4})(\d{2})(\d{2})\s+(\d+)\s+(\d+)(?:\.(\d{1,2}))?$/;

/**
 * One purchase as an order. Its id comes from `row`, the number among the data rows from 1 on, since rows that are
 * alike in every column are separate purchases. The unit price is rounded down to whole cents; `adjustment` carries
 * the rest.
 * @throws {RangeError} saying what is wrong with the row
 */
export function cdnowOrder(text: string, row: number): OrderRequest {
  const [, customer, year, month, day, number, dollars, cents = ''] = CDNOW_ROW.exec(text.trim()) ?? [];
  if (!customer || !dollars) {
    throw new RangeError(
      'must be customer id, date (YYYYMMDD), number of CDs and amount (12.34), separated by blanks',
    );
  }
  const createdAt = `${year}-${month}-${day}T12:00:00Z`;
  const instant = new Date(createdAt);
  if (Number.isNaN(instant.getTime()) || !instant.toISOString().startsWith(createdAt.slice(0, 10))) {
    throw new RangeError(`${year}${month}${day} is no date`);
  }
  const quantity = Number(number);
  if (quantity < 1) throw new RangeError('the number of CDs must be 1 or more');
  const totalAmount = Number(dollars + cents.padEnd(2, '0'));
  if (!Number.isSafeInteger(totalAmount)) throw new RangeError('the amount is too large');
  const unitPrice = Math.floor(totalAmount / quantity);
  const adjustment = totalAmount - unitPrice * quantity;
  return {
    orderId: uuidOfName(JSON.stringify(['cdnow', row])),
    customerId: `C-${customer}`,
    items: [{ productId: 'CD', name: 'CD', quantity, unitPrice }],
    currency: 'USD',
    ...(adjustment === 0 ? {} : { adjustment }),
    totalAmount,
    createdAt,
  };
}
