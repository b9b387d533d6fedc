import {
  OrderConflictError,
  OrderLockedError,
  OrderNotStorableError,
  StoreUnavailableError,
} from './errors.ts';
import type { OrderRepository, OrderToStore, SaveResult } from './order-repository.ts';
import { asError, DUPLICATE, type Outcome, PROCESSED, STORE_UNAVAILABLE } from './outcome.ts';
import { swallowedError } from './save-results.ts';

/** An order on its way into the store, with what is known of its outcome. Storing it sets the outcome. */
export type OrderInWork = OrderToStore & { outcome: Outcome };

type Repository = Pick<OrderRepository, 'saveAll'>;

const MAX_LOCK_WAIT_MS = 10_000;

/**
 * The use case: stores orders, all by one call of the store, and sets the outcome of each. It never rejects: whatever
 * goes wrong is an outcome.
 *
 * A batch that is refused is halved until the orders at fault stand alone, so that they cost the others nothing. Each
 * refusal for a locked row takes a wait. So each order is then saved alone: each locked row is waited for once more, and
 * orders for which a trigger locks other rows do not lock one another out. Locked rows may be many: after a time, the
 * orders that are left are released as they are.
 */
export async function storeOrders(
  repository: Repository,
  orders: readonly OrderInWork[],
  waitUntil = performance.now() + MAX_LOCK_WAIT_MS,
): Promise<void> {
  if (orders.length === 0) return;
  try {
    for (const [order, result] of await repository.saveAll(orders)) order.outcome = outcomeOfSave(result);
  } catch (error) {
    const isOutage = error instanceof StoreUnavailableError;
    const isLocked = error instanceof OrderLockedError;
    const isLate = isLocked && performance.now() >= waitUntil;
    if (isOutage || isLate || orders.length === 1) {
      const outcome = outcomeOfError(error);
      for (const order of orders) order.outcome = outcome;
    } else if (isLocked) await storeEach(repository, orders, waitUntil);
    else {
      const half = Math.ceil(orders.length / 2);
      await storeOrders(repository, orders.slice(0, half), waitUntil);
      await storeOrders(repository, orders.slice(half), waitUntil);
    }
  }
}

async function storeEach(
  repository: Repository,
  orders: readonly OrderInWork[],
  waitUntil: number,
): Promise<void> {
  for (const [index, order] of orders.entries()) {
    const isLate = performance.now() >= waitUntil;
    await storeOrders(repository, isLate ? orders.slice(index) : [order], waitUntil);
    if (isLate) return;
  }
}

/** What the store refuses for what it contains can never succeed; anything else may, such as what a trigger refuses. */
function outcomeOfError(error: unknown): Outcome {
  if (error instanceof StoreUnavailableError) return STORE_UNAVAILABLE;
  if (error instanceof OrderLockedError) return { kind: 'released', cause: 'order-locked' };
  if (error instanceof OrderNotStorableError) return { kind: 'rejected', reason: error.code, error };
  return { kind: 'retry', error: asError(error) };
}

function outcomeOfSave(result: SaveResult): Outcome {
  switch (result) {
    case 'stored':
      return PROCESSED;
    case 'duplicate':
      return DUPLICATE;
    case 'conflict': {
      const error = new OrderConflictError('another order of this id is stored already');
      return { kind: 'rejected', reason: error.code, error };
    }
    case 'swallowed':
      return { kind: 'retry', error: swallowedError() };
  }
}
