import { StoreUnavailableError } from '../domain/errors.ts';
import type { OrderRepository } from '../domain/order-repository.ts';
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

  readonly saveAll: OrderRepository['saveAll'] = async (orders) => this.#opened().saveAll(orders);
  readonly rehearse: OrderRepository['rehearse'] = async (orders) => this.#opened().rehearse(orders);
  readonly findById: OrderRepository['findById'] = async (...args) => this.#opened().findById(...args);
  readonly findByIds: OrderRepository['findByIds'] = async (...args) => this.#opened().findByIds(...args);
  readonly findByCustomer: OrderRepository['findByCustomer'] = async (...args) =>
    this.#opened().findByCustomer(...args);
  readonly recordFates: OrderRepository['recordFates'] = async (fates) => this.#opened().recordFates(fates);
  readonly findFates: OrderRepository['findFates'] = async (...args) => this.#opened().findFates(...args);
  readonly findAny = async () => this.#opened().findAny();
  readonly ping = async () => this.#opened().ping();

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
