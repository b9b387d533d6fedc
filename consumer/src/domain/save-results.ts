import { OrderRefusedByRuleError } from './errors.ts';
import type { OrderToStore, SaveResult } from './order-repository.ts';

/** The kind of refusal that is no error of the store: it takes an order, and does not hold it. */
export const SWALLOWED = 'SWALLOWED';

/**
 * Judges each order of a call, given what the store did: the ids it inserted, and the content hashes it holds for the
 * others, both in lower case. What is neither was swallowed. One rule for all adapters.
 */
export function judgeSaves(
  orders: readonly OrderToStore[],
  inserted: ReadonlySet<string>,
  storedHashes: ReadonlyMap<string, string>,
): SaveResult[] {
  const known = new Map(storedHashes);
  return orders.map(({ order, contentHash }) => {
    const orderId = order.orderId.toLowerCase();
    const first = known.get(orderId);
    if (first !== undefined) return first === contentHash ? 'duplicate' : 'conflict';
    if (!inserted.has(orderId)) return 'swallowed';
    known.set(orderId, contentHash);
    return 'stored';
  });
}

export const swallowedError = () =>
  new OrderRefusedByRuleError('the store took the order without an error, and does not hold it', {
    refusal: SWALLOWED,
  });
