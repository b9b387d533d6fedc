import { orderSchema } from '@orders/shared/order/order.ts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeRepository, toStore } from '../../../testing/orders.ts';
import {
  OrderNotStorableError,
  OrderRefusedByRuleError,
  StoreUnavailableError,
} from '../../domain/errors.ts';
import type { OrderToStore } from '../../domain/order-repository.ts';
import { SaveTrial } from './save-trial.ts';

const isInvented = ([first]: readonly OrderToStore[]) =>
  first?.order.customerId.startsWith('rehearsal-') ?? false;

describe('SaveTrial', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function aTrial(beforeRehearse: (orders: readonly OrderToStore[]) => void = () => {}) {
    const repository = new FakeRepository();
    const rehearsed: (readonly OrderToStore[])[] = [];
    repository.beforeRehearse = (orders) => {
      rehearsed.push(orders);
      beforeRehearse(orders);
    };
    return { repository, rehearsed, trial: new SaveTrial(repository) };
  }

  it('run, before any order was stored, rehearses valid orders of which no two are alike', async () => {
    const { trial, rehearsed } = aTrial();
    expect(await trial.run()).toEqual(new Set());
    const orders = rehearsed.flat();
    for (const { order } of orders) expect(() => orderSchema.parse(order)).not.toThrow();
    for (const column of [
      orders.map(({ order }) => order.orderId),
      orders.map(({ order }) => order.customerId),
      orders.map(({ order }) => order.createdAt),
      orders.map(({ contentHash }) => contentHash),
      orders.map(({ traceId }) => traceId),
    ])
      expect(new Set(column).size).toBe(orders.length);
    expect(JSON.stringify(orders).length).toBeGreaterThan(50_000);
  });

  it('run, where the store holds a row that is no order, rehearses invented ones', async () => {
    const { trial, repository, rehearsed } = aTrial();
    const { order, ...row } = toStore();
    for (const foreign of [{ obstacle: true }, { ...order, createdAt: 'yesterday' }, null]) {
      repository.findAny = async () => ({ ...row, order: foreign as never, storedAt: new Date() });
      expect(await trial.run()).toEqual(new Set());
      expect(isInvented(rehearsed.at(-1) ?? [])).toBe(true);
    }
  });

  it('run, after an order was stored, rehearses that one under new ids', async () => {
    const { trial, rehearsed } = aTrial();
    const last = toStore({ customerId: 'C-7' });
    trial.imitate(last);
    await trial.run();
    expect(rehearsed).toHaveLength(1);
    const copies = rehearsed.flat();
    for (const { order, contentHash } of copies) {
      const { orderId, createdAt } = last.order;
      expect({ ...order, orderId, createdAt }).toEqual(last.order);
      expect(contentHash).toBe(last.contentHash);
    }
    for (const column of [
      copies.map(({ order }) => order.orderId).concat(last.order.orderId),
      copies.map(({ order }) => order.createdAt).concat(last.order.createdAt),
      copies.map(({ traceId }) => traceId).concat(last.traceId),
    ])
      expect(new Set(column).size).toBe(copies.length + 1);
  });

  it('refusesAll, where customers must be known and no two orders may have the same metadata, is false', async () => {
    const last = toStore({ customerId: 'C-7', metadata: { reference: 'R-1' } });
    const { trial, rehearsed } = aTrial((orders) => {
      const first = orders[0]?.order;
      if (first?.customerId !== 'C-7') throw new OrderNotStorableError('foreign key', { refusal: '23503' });
      if (first.metadata?.['reference'] === 'R-1')
        throw new OrderRefusedByRuleError('unique index', { refusal: '23505' });
    });
    trial.imitate(last);
    for (const refusal of ['23503', '23505']) expect(await trial.refusesAll(refusal)).toBe(false);
    for (const { order } of rehearsed.flat()) expect(() => orderSchema.parse(order)).not.toThrow();
  });

  it('run, of a process that has stored nothing, rehearses an order that is in the store', async () => {
    const { trial, rehearsed, repository } = aTrial();
    repository.any = { ...toStore({ customerId: 'C-8' }), storedAt: new Date() };
    await trial.run();
    expect(new Set(rehearsed.flat().map(({ order }) => order.customerId))).toEqual(new Set(['C-8']));
  });

  it('run, of a store that cannot be read, tries it all the same', async () => {
    const { trial, rehearsed, repository } = aTrial();
    repository.findAny = () => Promise.reject(new StoreUnavailableError('no right to read'));
    expect(await trial.run()).toEqual(new Set());
    expect(rehearsed).toHaveLength(1);
  });

  it('refusesAll, where either the last order or an invented one passes, is false', async () => {
    for (const refuses of [isInvented, (orders: readonly OrderToStore[]) => !isInvented(orders)]) {
      const { trial } = aTrial((orders) => {
        if (refuses(orders)) throw new OrderRefusedByRuleError('unlike an order', { refusal: 'P0001' });
      });
      trial.imitate(toStore());
      expect(await trial.refusesAll('P0001')).toBe(false);
    }
  });

  it('refusesAll, where all are refused, is true of that refusal and of no other', async () => {
    const { trial } = aTrial(() => {
      throw new OrderNotStorableError('no', { refusal: '23502' });
    });
    trial.imitate(toStore());
    expect(await trial.refusesAll('23502')).toBe(true);
    expect(await trial.refusesAll('22P05')).toBe(false);
  });

  it('refusesAll, where the store fails, rejects with STORE_UNAVAILABLE', async () => {
    for (const error of [new StoreUnavailableError('down'), new Error('a bug')]) {
      const { trial } = aTrial(() => {
        throw error;
      });
      await expect(trial.refusesAll('22P05')).rejects.toBeInstanceOf(StoreUnavailableError);
    }
  });

  it('refusesAll, asked in a flood, tries once for each refusal and second', async () => {
    const { trial, repository } = aTrial();
    for (let i = 0; i < 100; i++) await trial.refusesAll('22P05');
    await Promise.all(Array.from({ length: 100 }, () => trial.refusesAll('23505')));
    expect(repository.rehearsals).toBe(2);
    vi.advanceTimersByTime(1_000);
    await trial.refusesAll('22P05');
    expect(repository.rehearsals).toBe(3);
  });

  it('refusesAllNow, whatever was known before, asks a trial that begins later, which all who wait share', async () => {
    const { trial, repository } = aTrial();
    expect(await trial.refusesAll('23514')).toBe(false);
    const begun = Promise.withResolvers<void>();
    repository.beforeRehearse = () => begun.promise;
    const first = trial.refusesAllNow('23514');
    await vi.waitFor(() => expect(repository.rehearsals).toBe(2), { timeout: 30_000 });
    repository.beforeRehearse = () => {
      throw new OrderNotStorableError('a new column', { refusal: '23514' });
    };
    const later = Array.from({ length: 100 }, () => trial.refusesAllNow('23514'));
    begun.resolve();
    expect(await first).toBe(false);
    expect(new Set(await Promise.all(later))).toEqual(new Set([true]));
    expect(repository.rehearsals).toBe(3);
    expect(await trial.refusesAllNow('23514')).toBe(true);
  });

  it('refusesAllNow, after a trial that failed, runs another', async () => {
    const { trial, repository } = aTrial(() => {
      throw new StoreUnavailableError('down');
    });
    await expect(trial.refusesAllNow('23514')).rejects.toBeInstanceOf(StoreUnavailableError);
    repository.beforeRehearse = () => {};
    expect(await trial.refusesAllNow('23514')).toBe(false);
  });
});
