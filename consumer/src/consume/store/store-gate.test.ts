import { createMetrics } from '@orders/shared/runtime/metrics.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { OrderRefusedByRuleError, StoreUnavailableError } from '../../domain/errors.ts';
import { Condition } from '../condition.ts';
import { StoreGate } from './store-gate.ts';

const SHUT_MS = { min: 1_000, max: 8_000 };
const COMES_BACK_MS = 90_000;

function aGate() {
  const { logger, lines } = captureLog();
  const metrics = createMetrics('test', '1');
  const store = { trials: 0, down: false, hangs: false, refusals: new Set<string>() };
  const gate = new StoreGate({
    trial: {
      run: async () => {
        store.trials++;
        if (store.hangs) await new Promise(() => {});
        if (store.down) throw new StoreUnavailableError('down');
        return store.refusals;
      },
    },
    shutMs: SHUT_MS,
    comesBackMs: COMES_BACK_MS,
    changed: new Condition(),
    logger,
    metrics,
  });
  const stop = new AbortController();
  return {
    gate,
    store,
    lines,
    save: (result: unknown = 'stored') =>
      gate.save(async () => {
        if (result instanceof Error) throw result;
        return result;
      }),
    fail: (error = new StoreUnavailableError('save failed')) =>
      gate.save(() => Promise.reject(error)).catch((error: unknown) => error),
    /** Waits until a save may be tried, and says how long that took. */
    pass: async () => {
      const since = performance.now();
      const passed = gate.untilOpen(stop.signal);
      while (!gate.open) await vi.advanceTimersByTimeAsync(100);
      await passed;
      return performance.now() - since;
    },
    state: async () => (await metrics.breakerState.get()).values[0]?.value,
  };
}

describe('StoreGate', () => {
  beforeEach(() => {
    vi.useFakeTimers();
    // Away from the jitter: each time shut lasts as long as it may.
    vi.spyOn(Math, 'random').mockReturnValue(1);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  it('gate, while saves go through, lets all pollers ask', async () => {
    const { gate, save, state } = aGate();
    expect(await save()).toBe('stored');
    expect([gate.allowance(0), gate.allowance(7)]).toEqual([Infinity, Infinity]);
    expect(await state()).toBe(0);
  });

  it('gate, after a save failed for the store, is shut, says so, and makes no calls', async () => {
    const { gate, fail, save, lines, state } = aGate();
    await fail();
    expect(gate.open).toBe(false);
    expect([gate.allowance(0), gate.allowance(7)]).toEqual([0, 0]);
    expect(gate.doubt?.message).toBe('save failed');
    expect(await state()).toBe(1);
    expect(lines).toMatchObject([{ level: 'ERROR', message: 'breaker opened', breaker: 'store' }]);
    await expect(save()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });

  it('gate, of orders that are refused, stays as it is', async () => {
    const { gate, fail, pass } = aGate();
    await fail(new OrderRefusedByRuleError('no') as never);
    expect(gate.doubt).toBeUndefined();
    await fail();
    await pass();
    await fail(new OrderRefusedByRuleError('no') as never);
    expect(gate.open).toBe(true);
    expect(gate.doubt).toBeDefined();
  });

  it('gate, once a trial is committed, lets one message be asked for while none is in work, and doubts until a save goes through', async () => {
    const { gate, fail, pass, save, lines, state } = aGate();
    await fail();
    await pass();
    expect(await state()).toBe(2);
    expect([gate.allowance(0), gate.allowance(1)]).toEqual([1, 0]);
    gate.recordReceived(1);
    expect(gate.allowance(0)).toBe(0);
    expect(gate.doubt).toBeDefined();
    await save();
    expect(gate.doubt).toBeUndefined();
    expect([gate.allowance(0), gate.allowance(1)]).toEqual([Infinity, Infinity]);
    expect(lines.at(-1)).toMatchObject({ level: 'INFO', message: 'breaker closed' });
  });

  it('gate, while trials pass and saves fail, stays shut longer each time, up to its maximum, and never stops doubting', async () => {
    const { gate, fail, pass, save, store } = aGate();
    await fail();
    const shut: number[] = [];
    for (let round = 0; round < 6; round++) {
      shut.push(await pass());
      expect(gate.doubt).toBeDefined();
      await fail();
    }
    expect(shut).toEqual([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    expect(store.trials).toBe(6);
    await pass();
    await save();
    await fail();
    expect(await pass()).toBe(1_000);
  });

  it('gate, while trials fail, stays shut longer each time', async () => {
    const { store, fail, pass } = aGate();
    store.down = true;
    await fail();
    setTimeout(() => {
      store.down = false;
    }, 10_000);
    expect(await pass()).toBe(1_000 + 2_000 + 4_000 + 8_000);
    expect(store.trials).toBe(4);
  });

  it('gate, shut by a refusal that met every order, waits until a trial no longer meets it, and for no other', async () => {
    const { gate, store, fail, pass } = aGate();
    store.refusals = new Set(['42501', '23514']);
    await fail(new StoreUnavailableError('refused', { refusal: '42501' }));
    setTimeout(() => {
      store.refusals = new Set(['23514']);
    }, 5_000);
    expect(await pass()).toBe(7_000);
    expect(gate.allowance(0)).toBe(1);
  });

  it('gate, while proving, has saves wait for the one that was first, and lets them through if that did', async () => {
    for (const proof of ['stored', new StoreUnavailableError('still down')]) {
      const { gate, fail, pass, save } = aGate();
      await fail();
      await pass();
      const first = Promise.withResolvers<void>();
      let calls = 0;
      const call = async () => {
        calls++;
        await first.promise;
        if (proof instanceof Error) throw proof;
      };
      const saves = [gate.save(call), gate.save(call), gate.save(call)];
      const settled = Promise.allSettled(saves);
      await vi.advanceTimersByTimeAsync(100);
      expect(calls).toBe(1);
      first.resolve();
      const fates = (await settled).map(({ status }) => status);
      expect(fates).toEqual(Array(3).fill(proof === 'stored' ? 'fulfilled' : 'rejected'));
      expect(calls).toBe(proof === 'stored' ? 3 : 1);
      if (proof === 'stored') expect(await save()).toBe('stored');
    }
  });

  it('gate, while a trial hangs, lets go who waits no longer, and tries no second time meanwhile', async () => {
    const { gate, store, fail } = aGate();
    await fail();
    store.hangs = true;
    const stop = new AbortController();
    const waiting = gate.untilOpen(stop.signal);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(store.trials).toBe(1);
    stop.abort();
    await waiting;
    expect(gate.open).toBe(false);
  });

  it('gate, of a save that began before it was shut, proves nothing', async () => {
    const { gate, fail } = aGate();
    const slow = Promise.withResolvers<void>();
    const saving = gate.save(() => slow.promise);
    await fail();
    slow.resolve();
    await saving;
    expect(gate.open).toBe(false);
  });

  it('gate, with nothing to save, trusts a committed trial, which is no proof', async () => {
    const { gate, fail, pass } = aGate();
    await fail();
    await pass();
    gate.recordReceived(1);
    gate.recordReceived(0);
    expect(gate.doubt).toBeDefined();
    gate.recordOutcomes(1);
    gate.recordReceived(0);
    expect(gate.doubt).toBeUndefined();
    // The next failure counts as one more.
    await fail();
    expect(await pass()).toBe(2_000);
  });

  it('gate, with nothing to save after a trial misled, trusts the next one once what failed would be back', async () => {
    const { gate, fail, pass } = aGate();
    await fail();
    await pass();
    gate.recordReceived(0);
    await fail();
    await pass();
    gate.recordReceived(0);
    expect(gate.doubt).toBeDefined();
    await vi.advanceTimersByTimeAsync(COMES_BACK_MS);
    gate.recordReceived(0);
    expect(gate.doubt).toBeUndefined();
  });

  it('gate, while messages come that need no save, lets the poller ask for more of them each time, until a save fails', async () => {
    const { gate, fail, pass } = aGate();
    await fail();
    await pass();
    const asked: number[] = [];
    for (let poll = 0; poll < 4; poll++) {
      asked.push(gate.allowance(0));
      gate.recordReceived(gate.allowance(0));
      expect([gate.allowance(0), gate.allowance(1)]).toEqual([0, 0]);
      gate.recordOutcomes(asked.at(-1) ?? 0);
    }
    expect(asked).toEqual([1, 2, 4, 8]);
    await fail();
    await pass();
    expect(gate.allowance(0)).toBe(1);
  });

  it('gate, once it is stopped, makes no more trials', async () => {
    const { gate, store, fail } = aGate();
    await fail();
    gate.stop();
    await fail();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(store.trials).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });
});
