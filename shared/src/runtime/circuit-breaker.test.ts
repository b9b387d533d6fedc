import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { captureLog } from '../../testing/log-lines.ts';
import { createCircuitBreaker, isBreakerOpen } from './circuit-breaker.ts';
import { createMetrics } from './metrics.ts';

class OutageError extends Error {}

function aBreaker() {
  const { logger, lines } = captureLog();
  const metrics = createMetrics('test', '1');
  const breaker = createCircuitBreaker({
    name: 'store',
    failures: 3,
    openMs: { min: 1_000, max: 4_000 },
    logger,
    metrics,
  });
  const outage = vi.fn(() => Promise.reject(new OutageError('down')));
  return {
    breaker,
    lines,
    outage,
    /** Calls the failing dependency and says whether the call was made. */
    fail: async () => {
      const before = outage.mock.calls.length;
      await breaker.execute(outage).catch(() => {});
      return outage.mock.calls.length > before;
    },
    state: async () => (await metrics.breakerState.get()).values[0]?.value,
  };
}

describe('createCircuitBreaker', () => {
  beforeEach(() => {
    vi.useFakeTimers();
    // Away from the jitter: the first opening lasts exactly `min`.
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });
  const open = async (subject: ReturnType<typeof aBreaker>) => {
    for (let i = 0; i < 3; i++) await subject.fail();
  };

  it('breaker, while calls succeed, is closed and returns their results', async () => {
    const { breaker, state } = aBreaker();
    expect(await breaker.execute(async () => 'result')).toBe('result');
    expect(breaker.closed).toBe(true);
    expect(await state()).toBe(0);
  });

  it("breaker, given a failing call, rejects with the call's own error", async () => {
    const { breaker, outage } = aBreaker();
    const error = await breaker.execute(outage).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(OutageError);
    expect(isBreakerOpen(error)).toBe(false);
  });

  it('breaker, after enough failures in a row, opens, reports it, and makes no calls', async () => {
    const subject = aBreaker();
    await open(subject);
    expect(subject.breaker.closed).toBe(false);
    expect(await subject.state()).toBe(1);
    expect(subject.lines).toMatchObject([
      { level: 'ERROR', message: 'breaker opened', breaker: 'store', err: { message: 'down' } },
    ]);
    const error = await subject.breaker.execute(subject.outage).catch((error: unknown) => error);
    expect(isBreakerOpen(error)).toBe(true);
    expect(subject.outage).toHaveBeenCalledTimes(3);
  });

  it('breaker, of failures with a success between, stays closed', async () => {
    const subject = aBreaker();
    for (let i = 0; i < 5; i++) {
      await subject.fail();
      await subject.fail();
      await subject.breaker.execute(async () => 'fine');
    }
    expect(subject.breaker.closed).toBe(true);
  });

  it('breaker, after its time, lets one call through and closes when that succeeds', async () => {
    const subject = aBreaker();
    await open(subject);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(await subject.breaker.execute(async () => 'back')).toBe('back');
    expect(subject.breaker.closed).toBe(true);
    expect(await subject.state()).toBe(0);
    expect(subject.lines.at(-1)).toMatchObject({ level: 'INFO', message: 'breaker closed' });
  });

  it('breaker, while its one trial call runs, is half open and makes no other', async () => {
    const subject = aBreaker();
    await open(subject);
    await vi.advanceTimersByTimeAsync(10_000);
    const failTrial = Promise.withResolvers<never>();
    const trial = subject.breaker.execute(() => failTrial.promise).catch((error: unknown) => error);
    expect(await subject.state()).toBe(2);
    const other = subject.breaker.execute(subject.outage).catch((error: unknown) => error);
    failTrial.reject(new OutageError('still down'));
    expect(await trial).toBeInstanceOf(OutageError);
    expect(isBreakerOpen(await other)).toBe(true);
    expect(subject.outage).toHaveBeenCalledTimes(3);
    expect(await subject.state()).toBe(1);
  });

  it('breaker, after failed trials, stays open longer each time, up to its maximum', async () => {
    const subject = aBreaker();
    await open(subject);
    const waits: number[] = [];
    for (let trial = 0; trial < 6; trial++) {
      const since = Date.now();
      while (!(await subject.fail())) await vi.advanceTimersByTimeAsync(100);
      waits.push(Date.now() - since);
    }
    expect(waits.toSorted((a, b) => a - b)).toEqual(waits);
    expect(waits[0]).toBeLessThan(waits[5] ?? 0);
    expect(waits[5]).toBeLessThanOrEqual(4_000);
  });

  it('breaker, when the clock is set back or forward meanwhile, stays open for its time and no longer', async () => {
    for (const jumpMs of [-3_600_000, 3_600_000]) {
      const subject = aBreaker();
      await open(subject);
      vi.setSystemTime(Date.now() + jumpMs);
      expect(await subject.fail()).toBe(false);
      await vi.advanceTimersByTimeAsync(10_000);
      expect(await subject.breaker.execute(async () => 'back')).toBe('back');
    }
  });
});
