import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Health, type HealthOptions } from './health.ts';

const aHealth = (options: Partial<HealthOptions> = {}) =>
  new Health({ live: () => true, components: { sqs: () => ({ status: 'UP' }) }, ...options });

describe('Health', () => {
  it('liveness, given a service that makes progress, is UP whatever its components say', () => {
    const components = { sqs: () => ({ status: 'DOWN' as const }) };
    expect(aHealth({ components }).liveness()).toEqual({ status: 'UP' });
  });

  it('liveness, given a service without progress, is DOWN', () => {
    expect(aHealth({ live: () => false }).liveness()).toEqual({ status: 'DOWN' });
  });

  it('readiness, before the start and after the stop, is DOWN without asking any component', async () => {
    const sqs = vi.fn(() => ({ status: 'UP' as const }));
    const health = aHealth({ components: { sqs } });
    expect(await health.readiness()).toEqual({ status: 'DOWN' });
    health.setAccepting(true);
    expect(await health.readiness()).toEqual({ status: 'UP' });
    health.setAccepting(false);
    expect(await health.readiness()).toEqual({ status: 'DOWN' });
    expect(sqs).toHaveBeenCalledTimes(1);
  });

  it('readiness, with a component DOWN, is DOWN', async () => {
    const health = aHealth({
      components: { sqs: () => ({ status: 'UP' }), store: () => ({ status: 'DOWN' }) },
    });
    health.setAccepting(true);
    expect(await health.readiness()).toEqual({ status: 'DOWN' });
  });

  it("full, given several components, shows each in Actuator's shape", async () => {
    const health = aHealth({
      components: {
        sqs: async () => ({ status: 'UP', details: { queue: 'order-queue' } }),
        store: async () => ({ status: 'DOWN' }),
      },
    });
    expect(await health.full()).toEqual({
      status: 'DOWN',
      components: { sqs: { status: 'UP', details: { queue: 'order-queue' } }, store: { status: 'DOWN' } },
    });
  });

  it('full, given a check that throws or rejects, is DOWN with the reason', async () => {
    const components = {
      thrown: () => {
        throw new Error('no route');
      },
      rejected: () => Promise.reject('no error object'),
    };
    expect((await aHealth({ components }).full()).components).toEqual({
      thrown: { status: 'DOWN', details: { error: 'no route' } },
      rejected: { status: 'DOWN', details: { error: 'no error object' } },
    });
  });

  describe('with a check that hangs', () => {
    beforeEach(() => {
      vi.useFakeTimers();
    });
    afterEach(() => {
      vi.useRealTimers();
    });

    it('full, when a check hangs, answers DOWN after two seconds', async () => {
      const answered = vi.fn();
      const full = aHealth({ components: { store: () => new Promise(() => {}) } })
        .full()
        .then(answered);
      await vi.advanceTimersByTimeAsync(1_999);
      expect(answered).not.toHaveBeenCalled();
      await vi.advanceTimersByTimeAsync(1);
      await full;
      expect(answered).toHaveBeenCalledWith({
        status: 'DOWN',
        components: { store: { status: 'DOWN', details: { error: 'no answer in time' } } },
      });
    });

    it('full, when all checks answer, keeps no timer', async () => {
      await aHealth().full();
      expect(vi.getTimerCount()).toBe(0);
    });
  });
});
