import type { Order } from '@orders/shared/order/order.ts';
import type { OrderFate } from './order-fate.ts';

/** What tells two orders of one id apart. */
export type OrderIdentity = {
  contentHash: string;
  /** Who placed the order; undefined where nobody knows. */
  clientId?: string | undefined;
};

/** An order as it is to be stored, with its identity and the trace that brought it. */
export type OrderToStore = OrderIdentity & { order: Order; traceId: string };

export type StoredOrder = OrderToStore & { storedAt: Date };

/** With the size of the order as JSON text. */
export type FoundOrder = StoredOrder & { sizeBytes: number };

/**
 * What became of one order: it is new, it was there with the same content, its id is taken by another content or by
 * another client's order (which stays as it is), or a rule of the store swallowed it without an error.
 */
export type SaveResult = 'stored' | 'duplicate' | 'conflict' | 'swallowed';

/** An order that was given to be saved, and what became of it. */
export type Saved<O extends OrderToStore = OrderToStore> = [order: O, result: SaveResult];

/** Position in a customer's orders: the last one that was seen. */
export type OrderCursor = { createdAtMs: number; orderId: string };

/** Reading ends with the order that makes it so large, by the sizes of the orders; none behind it is read. */
export type ReadLimit = { maxBytes?: number | undefined };

/** Whose orders are seen: those of one client, as if there were no others; without it everybody's. */
export type OwnedBy = { ownedBy?: string | undefined };

/** Where orders are kept, each exactly once: the unique `orderId` is both the order and the mark against duplicates. */
export interface OrderRepository {
  /**
   * Stores orders in one transaction and returns each with its result, in order. When it resolves, what is 'stored'
   * is durable. When it rejects, nothing of it was stored, or the answer was lost: calling again tells. Two orders
   * of the same id in one call are treated like two calls: the first one counts.
   * @throws {OrderNotStorableError} the store refuses one of the orders for what it contains
   * @throws {OrderRefusedByRuleError} a rule in the store refuses one of the orders, perhaps for now
   * @throws {OrderLockedError} another transaction holds the row of one of the orders
   * @throws {StoreUnavailableError} the store is down, full, read-only, out of connections or too slow
   */
  saveAll<O extends OrderToStore>(orders: readonly O[]): Promise<Saved<O>[]>;

  /**
   * Does what {@link saveAll} does with these orders, by the same statements, takes them back, and commits: that
   * writes, and waits for the disk and for standbys, as the commit of a save does. Nobody ever sees the orders.
   * @throws as saveAll; {@link OrderRefusedByRuleError} also where an order is not 'stored'
   */
  rehearse(orders: readonly OrderToStore[]): Promise<void>;

  findById(orderId: string, whose?: OwnedBy): Promise<StoredOrder | undefined>;

  /** Those of the given ids that are stored, each once, in the order given. */
  findByIds(orderIds: readonly string[], limits?: ReadLimit & OwnedBy): Promise<FoundOrder[]>;

  /** Some order that is stored, if there is one. */
  findAny(): Promise<StoredOrder | undefined>;

  /** A customer's orders, newest `createdAt` first, ties by descending id; those behind `after`, at most `limit`. */
  findByCustomer(
    customerId: string,
    page: ReadLimit & OwnedBy & { limit: number; after?: OrderCursor | undefined },
  ): Promise<FoundOrder[]>;

  /**
   * Records what became of messages whose orders are not stored. Fates that are known stay as they are. What is not an
   * order id of ours is left out.
   * @throws {StoreUnavailableError} and what else keeps the store from taking them; none was recorded
   */
  recordFates(fates: readonly OrderFate[]): Promise<void>;

  /** The latest fates of an order, at most 100, in the order of their times. */
  findFates(orderId: string, whose?: OwnedBy): Promise<OrderFate[]>;

  /** Asks, without writing, whether the store is reachable and writable. @throws {StoreUnavailableError} */
  ping(): Promise<void>;

  close(): Promise<void>;
}
