import { StoreUnavailableError } from './errors.ts';
import type { OrderToStore, SaveResult } from './order-repository.ts';

/**
 * Judges each order of a call, given what the store did: the ids it inserted, and the content hashes it holds for the
 * others, both in lower case. One rule for all adapters.
 * @throws {StoreUnavailableError} an order was neither inserted nor found (deleted meanwhile): calling again tells
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
    if (!inserted.has(orderId)) throw new StoreUnavailableError('an order was neither stored nor found');
    known.set(orderId, contentHash);
    return 'stored';
  });
}
