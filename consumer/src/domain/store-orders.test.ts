import { describe, expect, it, vi } from 'vitest';
import { FakeRepository, toStore } from '../../testing/orders.ts';
import { OrderLockedError, OrderNotStorableError, StoreUnavailableError } from './errors.ts';
import type { OrderRepository } from './order-repository.ts';
import { STORE_UNAVAILABLE } from './outcome.ts';
import { storeOrders } from './store-orders.ts';

/** A store that refuses orders of the customer `bad`. */
function aStore(error: Error = new OrderNotStorableError('no', { refusal: '22P05' })) {
  const repository = new FakeRepository();
  repository.beforeSave = (orders) => {
    if (orders.some(({ order }) => order.customerId === 'bad')) throw error;
  };
  return repository;
}

const outcomesOf = async (repository: Pick<OrderRepository, 'saveAll'>, customerIds: readonly string[]) => {
  const orders = customerIds.map((customerId) => ({
    ...toStore({ customerId }),
    outcome: STORE_UNAVAILABLE,
  }));
  await storeOrders(repository, orders);
  return orders.map(({ outcome }) => outcome);
};
const kindsOf = async (...args: Parameters<typeof outcomesOf>) =>
  (await outcomesOf(...args)).map(({ kind }) => kind);

describe('storeOrders', () => {
  it('storeOrders, with one bad order among 300, stores the others in few calls', async () => {
    const store = aStore();
    const kinds = await kindsOf(
      store,
      Array.from({ length: 300 }, (_, n) => (n === 123 ? 'bad' : 'good')),
    );
    expect(kinds).toEqual(Array.from({ length: 300 }, (_, n) => (n === 123 ? 'rejected' : 'processed')));
    expect(store.stored.size).toBe(299);
    expect(store.batches.length).toBeLessThanOrEqual(1 + 2 * Math.ceil(Math.log2(300)));
  });

  it('storeOrders, with every fifth of 100 orders bad, stores the 80 others within twice as many calls as orders', async () => {
    const store = aStore();
    const kinds = await kindsOf(
      store,
      Array.from({ length: 100 }, (_, n) => (n % 5 === 0 ? 'bad' : 'good')),
    );
    expect(kinds).toEqual(Array.from({ length: 100 }, (_, n) => (n % 5 === 0 ? 'rejected' : 'processed')));
    expect(store.batches.length).toBeLessThan(200);
  });

  it('storeOrders, when another transaction locks an order, releases that one and stores the others', async () => {
    const store = aStore(new OrderLockedError('held'));
    expect(await outcomesOf(store, ['good', 'bad', 'good'])).toEqual([
      { kind: 'processed' },
      { kind: 'released', cause: 'order-locked' },
      { kind: 'processed' },
    ]);
  });

  it('storeOrders, when one of 1,000 orders is locked for a second each time, waits for it twice and stores the others', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const store = aStore();
    let waits = 0;
    store.beforeSave = (orders) => {
      if (!orders.some(({ order }) => order.customerId === 'held')) return;
      waits++;
      vi.advanceTimersByTime(1_000);
      throw new OrderLockedError('held');
    };
    const customers = Array.from({ length: 1_000 }, (_, n) => (n === 123 ? 'held' : 'good'));
    expect(await kindsOf(store, customers)).toEqual(
      customers.map((customer) => (customer === 'held' ? 'released' : 'processed')),
    );
    expect(waits).toBe(2);
    vi.useRealTimers();
  });

  it('storeOrders, when many orders are locked for a second each, stops waiting and releases the rest', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const store = aStore();
    store.beforeSave = () => {
      vi.advanceTimersByTime(1_000);
      throw new OrderLockedError('held');
    };
    const outcomes = await outcomesOf(store, Array(300).fill('held'));
    expect(new Set(outcomes.map((outcome) => JSON.stringify(outcome)))).toEqual(
      new Set([JSON.stringify({ kind: 'released', cause: 'order-locked' })]),
    );
    expect(store.batches.length).toBeLessThan(30);
    vi.useRealTimers();
  });

  it('storeOrders, when the store swallows an order, counts a failure and has it retried', async () => {
    const store: Pick<OrderRepository, 'saveAll'> = {
      saveAll: async (orders) => orders.map((order, index) => [order, index === 1 ? 'swallowed' : 'stored']),
    };
    expect(await kindsOf(store, ['a', 'b', 'c'])).toEqual(['processed', 'retry', 'processed']);
  });

  it('storeOrders, when the store fails while a batch is halved, releases the rest of it', async () => {
    const store = aStore();
    let calls = 0;
    const { beforeSave } = store;
    store.beforeSave = (orders) => {
      if (++calls > 2) throw new StoreUnavailableError('down');
      return beforeSave(orders);
    };
    expect(await kindsOf(store, ['good', 'good', 'good', 'bad'])).toEqual([
      'processed',
      'processed',
      'released',
      'released',
    ]);
  });
});
