import type { OrderToStore, SaveResult } from './order-repository.ts';

/**
 * Judges each order of a call, given what the store did: the ids it inserted, and the content hashes it now holds for
 * the others. One rule for all adapters.
 */
export function judgeSaves(
  orders: readonly OrderToStore[],
  inserted: ReadonlySet<string>,
  storedHashes: ReadonlyMap<string, string>,
): SaveResult[] {
  const seen = new Map<string, string>();
  return orders.map(({ order: { orderId }, contentHash }) => {
    const first = seen.get(orderId) ?? (inserted.has(orderId) ? undefined : storedHashes.get(orderId));
    if (first === undefined) {
      seen.set(orderId, contentHash);
      return 'stored';
    }
    return first === contentHash ? 'duplicate' : 'conflict';
  });
}
