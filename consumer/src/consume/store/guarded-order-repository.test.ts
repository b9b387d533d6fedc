import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FakeRepository, resultsOf, toStore } from '../../../testing/orders.ts';
import {
  OrderNotStorableError,
  OrderRefusedByRuleError,
  StoreUnavailableError,
} from '../../domain/errors.ts';
import type { OrderRepository, OrderToStore } from '../../domain/order-repository.ts';
import { swallowedError } from '../../domain/save-results.ts';
import { createConsumerMetrics } from '../../metrics.ts';
import { Condition } from '../condition.ts';
import { guardOrderRepository, timeOrderRepository } from './guarded-order-repository.ts';
import { SaveTrial } from './save-trial.ts';
import { StoreGate } from './store-gate.ts';

function aGuardedStore() {
  const store = new FakeRepository();
  const metrics = createConsumerMetrics('test');
  const timed = timeOrderRepository(store as unknown as OrderRepository, metrics);
  const trial = new SaveTrial(timed);
  const gate = new StoreGate({
    trial,
    shutMs: { min: 1, max: 2 },
    comesBackMs: 0,
    changed: new Condition(),
    logger: captureLog().logger,
    metrics,
  });
  onTestFinished(() => gate.stop());
  return {
    store,
    gate,
    guarded: guardOrderRepository(timed, { gate, trial, metrics }),
    amounts: async () =>
      Object.fromEntries(
        (await metrics.amountStored.get()).values.map(({ labels, value }) => [labels.currency, value]),
      ),
    storedCount: async () => (await metrics.ordersStored.get()).values[0]?.value,
  };
}

const refuse = (of: (orders: readonly OrderToStore[]) => boolean, error: Error) => {
  return (orders: readonly OrderToStore[]) => {
    if (of(orders)) throw error;
  };
};
const always = () => true;
const isOfBad = (orders: readonly OrderToStore[]) => orders.some(({ order }) => order.customerId === 'bad');
const NO_COLUMN = new OrderNotStorableError('null value in column', { refusal: '23502' });

describe('guardOrderRepository', () => {
  it('saveAll adds up what it stores, by currency, and duplicates not', async () => {
    const { guarded, amounts } = aGuardedStore();
    const [first, second, yen] = [toStore(), toStore(), toStore({ currency: 'JPY' })];
    await guarded.saveAll([first, second, yen, first]);
    await guarded.saveAll([second]);
    const { currency, totalAmount } = first.order;
    expect(await amounts()).toEqual({ [currency]: 2 * totalAmount, JPY: totalAmount });
  });

  it('saveAll, refused by a rule that a trial does not meet, passes the refusal on and goes on saving', async () => {
    const { guarded, store, gate, storedCount } = aGuardedStore();
    store.beforeSave = refuse(isOfBad, NO_COLUMN);
    await expect(guarded.saveAll([toStore(), toStore({ customerId: 'bad' })])).rejects.toBe(NO_COLUMN);
    expect(gate.doubt).toBeUndefined();
    expect(resultsOf(await guarded.saveAll([toStore(), toStore()]))).toEqual(['stored', 'stored']);
    expect(await storedCount()).toBe(2);
    await expect(guarded.ping()).resolves.toBeUndefined();
  });

  it('saveAll, refused as a trial is, rejects with STORE_UNAVAILABLE, and ping with it until a save goes through', async () => {
    const { guarded, store, gate } = aGuardedStore();
    store.beforeSave = refuse(always, NO_COLUMN);
    store.beforeRehearse = refuse(always, NO_COLUMN);
    await expect(guarded.saveAll([toStore()])).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      refusal: '23502',
    });
    expect(gate.open).toBe(false);
    await expect(guarded.ping()).rejects.toBeInstanceOf(StoreUnavailableError);

    store.beforeSave = () => {};
    store.beforeRehearse = () => {};
    await gate.untilOpen(new AbortController().signal);
    await expect(guarded.ping()).rejects.toBeInstanceOf(StoreUnavailableError);
    expect(resultsOf(await guarded.saveAll([toStore()]))).toEqual(['stored']);
    await expect(guarded.ping()).resolves.toBeUndefined();
  });

  it('saveAll, of a batch that is refused alike while a trial passes, passes the refusals on', async () => {
    const { guarded, store, gate } = aGuardedStore();
    store.beforeSave = refuse(always, NO_COLUMN);
    for (let i = 0; i < 5; i++) await expect(guarded.saveAll([toStore()])).rejects.toBe(NO_COLUMN);
    expect(gate.doubt).toBeUndefined();
  });

  it('saveAll, of an order that is rejected at once, is an outage where the schema has changed since the trial before', async () => {
    const { guarded, store, gate } = aGuardedStore();
    store.beforeSave = refuse(isOfBad, NO_COLUMN);
    await expect(guarded.saveAll([toStore({ customerId: 'bad' }), toStore()])).rejects.toBe(NO_COLUMN);
    store.beforeSave = refuse(always, NO_COLUMN);
    store.beforeRehearse = refuse(always, NO_COLUMN);
    await expect(guarded.saveAll([toStore()])).rejects.toBeInstanceOf(StoreUnavailableError);
    expect(gate.open).toBe(false);
  });

  it('saveAll, after an outage, on a store that refuses invented orders alone, is tried and proves it', async () => {
    const { guarded, store, gate } = aGuardedStore();
    store.beforeSave = refuse(always, new StoreUnavailableError('connection lost'));
    store.beforeRehearse = refuse(
      always,
      new OrderRefusedByRuleError('no such customer', { refusal: 'P0001' }),
    );
    await expect(guarded.saveAll([toStore()])).rejects.toBeInstanceOf(StoreUnavailableError);
    store.beforeSave = () => {};
    await gate.untilOpen(new AbortController().signal);
    expect(resultsOf(await guarded.saveAll([toStore()]))).toEqual(['stored']);
    expect(gate.doubt).toBeUndefined();
  });

  it('saveAll, of orders that are swallowed, is an outage where a trial is swallowed too, and else is not', async () => {
    for (const swallowsAll of [true, false]) {
      const { guarded, store, gate } = aGuardedStore();
      store.saveAll = async (orders) => orders.map((order) => [order, 'swallowed']);
      store.beforeRehearse = refuse(() => swallowsAll, swallowedError());
      const saving = guarded.saveAll([toStore()]);
      if (swallowsAll) await expect(saving).rejects.toBeInstanceOf(StoreUnavailableError);
      else expect(resultsOf(await saving)).toEqual(['swallowed']);
      expect(gate.open).toBe(!swallowsAll);
    }
  });
});
