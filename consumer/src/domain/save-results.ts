import { OrderRefusedByRuleError } from './errors.ts';
import type { OrderIdentity, OrderToStore, Saved } from './order-repository.ts';

/** The kind of refusal that is no error of the store: it takes an order, and does not hold it. */
export const SWALLOWED = 'SWALLOWED';

/** What a store did with the orders of a call. All ids are in lower case. */
export type StoreAnswer = {
  inserted: ReadonlySet<string>;
  /** By id, each order that it held before. */
  found: ReadonlyMap<string, OrderIdentity>;
};

/** Of two orders with one id. One whose client is not known may be anybody's: of an earlier release, or from before clients were asked. */
export const isSameOrder = (a: OrderIdentity, b: OrderIdentity): boolean =>
  a.contentHash === b.contentHash &&
  (a.clientId === b.clientId || a.clientId === undefined || b.clientId === undefined);

/** The result of each order of a call, by one rule for all adapters. What the store did not mention was swallowed. */
export function pairResults<O extends OrderToStore>(
  orders: readonly O[],
  { inserted, found }: StoreAnswer,
): Saved<O>[] {
  const known = new Map(found);
  return orders.map((order) => {
    const orderId = order.order.orderId.toLowerCase();
    const first = known.get(orderId);
    if (first !== undefined) return [order, isSameOrder(first, order) ? 'duplicate' : 'conflict'];
    if (!inserted.has(orderId)) return [order, 'swallowed'];
    known.set(orderId, order);
    return [order, 'stored'];
  });
}

export const swallowedError = () =>
  new OrderRefusedByRuleError('the store took the order without an error, and does not hold it', {
    refusal: SWALLOWED,
  });
