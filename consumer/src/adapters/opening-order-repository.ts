import { StoreUnavailableError } from '../domain/errors.ts';
import type { OrderCursor, OrderRepository, OrderToStore } from '../domain/order-repository.ts';
import type { OpenedOrderRepository } from './open-order-repository.ts';
import type { PoolGauges } from './postgres-order-repository.ts';

/**
 * A repository that may take minutes to open, while another process migrates: until then its calls reject as those of a
 * store that is down, and the service can say so.
 */
export class OpeningOrderRepository implements OrderRepository {
  #store: OpenedOrderRepository | undefined;

  /** Resolves when all calls go to what was opened. @throws what keeps it from being opened */
  async open(opening: Promise<OpenedOrderRepository>): Promise<void> {
    this.#store = await opening;
  }

  async saveAll(orders: readonly OrderToStore[]) {
    return this.#opened().saveAll(orders);
  }
  async rehearse(orders: readonly OrderToStore[]) {
    return this.#opened().rehearse(orders);
  }
  async findById(orderId: string) {
    return this.#opened().findById(orderId);
  }
  async findByIds(orderIds: readonly string[]) {
    return this.#opened().findByIds(orderIds);
  }
  async findAny() {
    return this.#opened().findAny();
  }
  async findByCustomer(customerId: string, page: { limit: number; after?: OrderCursor | undefined }) {
    return this.#opened().findByCustomer(customerId, page);
  }
  async ping() {
    return this.#opened().ping();
  }
  pool(): PoolGauges | undefined {
    return this.#store?.pool?.();
  }
  async close() {
    await this.#store?.close();
  }

  #opened(): OpenedOrderRepository {
    if (!this.#store) throw new StoreUnavailableError('the store is not open yet');
    return this.#store;
  }
}
