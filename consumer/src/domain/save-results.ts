import { OrderRefusedByRuleError } from './errors.ts';
import type { OrderToStore, Saved } from './order-repository.ts';

/** The kind of refusal that is no error of the store: it takes an order, and does not hold it. */
export const SWALLOWED = 'SWALLOWED';

/** What a store did with the orders of a call. All ids are in lower case. */
export type StoreAnswer = {
  inserted: ReadonlySet<string>;
  /** By id, the content hash of each order that it held before. */
  storedHashes: ReadonlyMap<string, string>;
};

/** The result of each order of a call, by one rule for all adapters. What the store did not mention was swallowed. */
export function pairResults<O extends OrderToStore>(
  orders: readonly O[],
  { inserted, storedHashes }: StoreAnswer,
): Saved<O>[] {
  const known = new Map(storedHashes);
  return orders.map((order) => {
    const { contentHash } = order;
    const orderId = order.order.orderId.toLowerCase();
    const first = known.get(orderId);
    if (first !== undefined) return [order, first === contentHash ? 'duplicate' : 'conflict'];
    if (!inserted.has(orderId)) return [order, 'swallowed'];
    known.set(orderId, contentHash);
    return [order, 'stored'];
  });
}

export const swallowedError = () =>
  new OrderRefusedByRuleError('the store took the order without an error, and does not hold it', {
    refusal: SWALLOWED,
  });
