import { randomUUID } from 'node:crypto';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash, type Order } from '@orders/shared/order/order.ts';
import { anOrder as anExampleOrder } from '@orders/shared/testing/orders.ts';
import type { OrderFate } from '../src/domain/order-fate.ts';
import type {
  OrderIdentity,
  OrderRepository,
  OrderToStore,
  Saved,
  SaveResult,
  StoredOrder,
} from '../src/domain/order-repository.ts';
import { pairResults } from '../src/domain/save-results.ts';

/** The example order, with an id of its own. */
export function anOrder(overrides: Partial<Order> = {}): Order {
  return anExampleOrder({ orderId: randomUUID(), ...overrides });
}

/** The same, as it is to be stored. */
export function toStore(overrides: Partial<Order> = {}, clientId?: string): OrderToStore {
  const order = anOrder(overrides);
  return { order, contentHash: contentHash(order), traceId: '4bf92f3577b34da6a3ce929d0e0e4736', clientId };
}

export async function bodyOf(order: Order): Promise<string> {
  const message = { order, contentHash: contentHash(order), traceparent: undefined };
  return (await encodeOrderMessage(message, { version: 1, encoding: 'identity', compressAboveBytes: 4_096 }))
    .body;
}

/** What became of each order of a call, in order. */
export const resultsOf = (saved: readonly Saved[]): SaveResult[] => saved.map(([, result]) => result);

/** A store in memory, of which a test can have any call fail. */
export class FakeRepository
  implements Pick<OrderRepository, 'saveAll' | 'rehearse' | 'findAny' | 'ping' | 'recordFates'>
{
  readonly stored = new Map<string, OrderIdentity>();
  readonly batches: string[][] = [];
  beforeSave: (orders: readonly OrderToStore[]) => void | Promise<void> = () => {};
  rehearsals = 0;
  any: StoredOrder | undefined;
  beforeRehearse: (orders: readonly OrderToStore[]) => void | Promise<void> = () => {};
  beforePing: () => void | Promise<void> = () => {};

  async saveAll<O extends OrderToStore>(orders: readonly O[]): Promise<Saved<O>[]> {
    this.batches.push(orders.map(({ order }) => order.orderId));
    await this.beforeSave(orders);
    const fresh = orders.filter(({ order }) => !this.stored.has(order.orderId));
    const inserted = new Set(fresh.map(({ order }) => order.orderId));
    const results = pairResults(orders, { inserted, found: this.stored });
    for (const each of fresh)
      if (!this.stored.has(each.order.orderId)) this.stored.set(each.order.orderId, each);
    return results;
  }

  async rehearse(orders: readonly OrderToStore[]): Promise<void> {
    this.rehearsals++;
    await this.beforeRehearse(orders);
  }

  readonly fates: OrderFate[] = [];
  beforeRecord: (fates: readonly OrderFate[]) => void | Promise<void> = () => {};

  async recordFates(fates: readonly OrderFate[]): Promise<void> {
    await this.beforeRecord(fates);
    this.fates.push(...fates);
  }

  async findAny(): Promise<StoredOrder | undefined> {
    return this.any;
  }

  async ping(): Promise<void> {
    await this.beforePing();
  }
}
