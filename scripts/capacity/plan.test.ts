import { describe, expect, it } from 'vitest';
import { linesPerMillionOrders, monthlyDollars, monthlyLines, total } from '../../infra/cost.ts';
import { ENVIRONMENTS } from '../../infra/environments.ts';
import { type Basis, describePlan, IN_FLIGHT_QUOTA, planCapacity } from './plan.ts';

const basis: Basis = {
  producer: { minPods: 3, maxPods: 10, perPod: 1_000, coresPerOrder: 0.0002, cpuRequest: 0.25 },
  consumer: {
    ...{ minPods: 2, maxPods: 10, perPod: 500, coresPerOrder: 0.0002, cpuRequest: 0.25 },
    ...{ connections: 4, inWork: 10, longestDelaySeconds: 300 },
  },
};
const plan = (ordersPerSecond: number, changes: Partial<Basis['consumer']> = {}) =>
  planCapacity(ordersPerSecond, { basis: { ...basis, consumer: { ...basis.consumer, ...changes } } });

describe('planCapacity', () => {
  it('keeps the least number of pods where one would do', () => {
    expect(plan(1)).toMatchObject({ producerPods: 3, consumerPods: 2, nodes: 3, exceeded: [] });
  });

  it('adds the pod that the last order needs', () => {
    expect(plan(4_000)).toMatchObject({ producerPods: 4, consumerPods: 8 });
    expect(plan(4_001)).toMatchObject({ producerPods: 5, consumerPods: 9 });
  });

  it('names each limit that is exceeded, and where it stands', () => {
    expect(plan(5_000).exceeded).toEqual([]);
    expect(plan(5_001).exceeded).toEqual([
      'consumer pods: 11 needed, 10 allowed (maxReplicaCount, k8s/components/keda)',
    ]);
    expect(plan(5_000, { inWork: 12_001 }).exceeded).toEqual([
      'messages in flight: 120010 needed, 120000 allowed (quota of SQS)',
    ]);
    expect(plan(5_000, { connections: 100 }).exceeded).toEqual([
      expect.stringMatching(/^connections during a release: 2000 needed, 1622 allowed/),
    ]);
  });

  it('takes as many nodes as the busier of request and use needs', () => {
    // 40 cores by use, of 3.5 per node; the requests are less than 8.
    const { nodes, exceeded } = planCapacity(5_000, {
      basis: { ...basis, producer: { ...basis.producer, coresPerOrder: 0.0078 } },
    });
    expect(nodes).toBe(Math.ceil((39 + 2.5) / 3.5));
    expect(exceeded).toContain('nodes: 12 needed, 9 allowed (maxNodes, infra/environments.ts)');
  });

  it('says what is left of a core when a zone is lost', () => {
    // Four pods in three zones: two of them may be in the one that is lost.
    expect(plan(4_000).producerCoreWithoutZone).toBeCloseTo(0.4);
  });

  it('says how many messages may wait for a retry before SQS hands out no more', () => {
    expect(plan(5_000).failingShareAtQuota).toBeCloseTo((IN_FLIGHT_QUOTA - 100) / (5_000 * 300));
    expect(plan(100).failingShareAtQuota).toBe(1);
    expect(plan(5_000, { inWork: 20_000 }).failingShareAtQuota).toBe(0);
  });

  it('costs what the nodes and the orders cost', () => {
    const environment = ENVIRONMENTS.production;
    const millions = (1_000 * 730 * 3_600) / 1e6;
    expect(plan(1_000).dollarsPerMonth).toBeCloseTo(
      total(monthlyLines('production')) + millions * total(linesPerMillionOrders(environment, 'single')),
    );
  });

  it('takes manifests and benchmarks as its basis', () => {
    for (const sending of ['single', 'packed'] as const)
      for (const environment of ['staging', 'production'] as const) {
        const real = planCapacity(500, { environment, sending });
        expect(real.exceeded).toEqual([]);
        for (const [name, value] of Object.entries(real))
          if (typeof value === 'number') expect({ name, is: value > 0 }).toEqual({ name, is: true });
        expect(describePlan(real)).not.toMatch(/NaN|undefined|Infinity/);
      }
    // As the overlays say: one per zone in production.
    expect(planCapacity(1).producerPods).toBe(3);
    expect(planCapacity(1, { environment: 'staging' }).producerPods).toBe(2);
  });
});

describe('cost', () => {
  it('counts a standby database twice, and CloudTrail only where it records messages', () => {
    const what = (name: 'staging' | 'production') =>
      linesPerMillionOrders(ENVIRONMENTS[name], 'single').map((line) => line.what);
    expect(what('production')).toContain('CloudTrail: each call of SQS');
    expect(what('staging')).not.toContain('CloudTrail: each call of SQS');
    const database = monthlyLines('production').find((line) => line.what.startsWith('PostgreSQL'));
    expect(database?.dollars).toBeCloseTo(2 * 730 * 0.4688);
  });

  it('is what infra/environments.ts names beside the switch', () => {
    const { audit } = ENVIRONMENTS.production;
    const environment = { ...ENVIRONMENTS.production, audit: { ...audit, sqsCalls: true } };
    const dollars = (sending: 'single' | 'packed') =>
      linesPerMillionOrders(environment, sending).find((line) => line.what.startsWith('CloudTrail'))?.dollars;
    expect(dollars('single')).toBeCloseTo(0.32, 2);
    expect(dollars('packed')).toBeCloseTo(0.003, 3);
    expect(2_628 * (dollars('single') ?? 0)).toBeCloseTo(838, 0);
  });

  it('grows with the rate', () => {
    const at = (rate: number) => monthlyDollars('production', rate, 'single');
    expect(at(1_000) - at(100)).toBeCloseTo(9 * (at(100) - at(0)));
  });
});
