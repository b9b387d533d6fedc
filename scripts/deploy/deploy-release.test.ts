import { describe, expect, test } from 'vitest';
import { planSteps } from './deploy-release.ts';
import type { DeploymentObject, KubernetesObject } from './kubectl.ts';
import { createStaging, expectOnly, once, saidOf, serving } from './testing/staging.ts';

describe('deployment', () => {
  test('first, of an empty namespace, waits for the pods and watches nothing', async () => {
    const staging = await serving();
    await expectOnly(staging, 'v1');
    expect(await staging.state()).toMatchObject({ release: 'v1' });
    expect((await staging.state()).step).toBeUndefined();
  });

  test('of a good release goes through without a failed order', async () => {
    const staging = await serving();
    await staging.deploy('v2');
    await expectOnly(staging, 'v2');
    expect(staging.workload.clients.failed).toEqual([]);
    const v1 = { release: 'v1' };
    expect(await staging.state()).toMatchObject({
      release: 'v2',
      previous: { 'order-producer': v1, 'order-consumer': v1 },
    });
    const steps = staging.said.filter((line) => /^\[\d+\/\d+\] /.test(line));
    expect(steps.at(-1)).toContain('[10/10] order-producer: traffic back to stable, the candidate goes');
  });

  test('of the first release with a management port, and back, reads each pod where it shows its metrics', async () => {
    const staging = await serving();
    await staging.deploy('v2', { management: true });
    await expectOnly(staging, 'v2');
    await staging.rollBack('v1');
    await expectOnly(staging, 'v1');
    expect(staging.workload.clients.failed).toEqual([]);
  });

  test('behind a load balancer that takes 15 s to register a pod, never leaves it without a healthy one', async () => {
    const staging = await serving();
    await staging.deploy('v1', { ingress: true });
    const registeredAt = new Map<string, number>();
    const healthy: number[] = [];
    staging.cluster.fault = () => {
      const now = performance.now();
      const names = staging.cluster.endpoints('order-producer').map(({ name }) => name);
      for (const name of registeredAt.keys()) if (!names.includes(name)) registeredAt.delete(name);
      for (const name of names) if (!registeredAt.has(name)) registeredAt.set(name, now);
      healthy.push([...registeredAt.values()].filter((at) => now - at >= 15_000).length);
      return undefined;
    };
    staging.cluster.fault('', []);
    await staging.wait(15);
    healthy.length = 0;
    await staging.deploy('v2', { ingress: true });
    await expectOnly(staging, 'v2');
    expect(healthy.length).toBeGreaterThan(50);
    expect(Math.min(...healthy)).toBeGreaterThan(0);
  });

  test('of what runs already changes nothing', async () => {
    const staging = await serving();
    const changesBefore = staging.cluster.changes.length;
    await staging.deploy('v1');
    expect(saidOf(staging)).toContain('v1 is deployed already');
    expect(staging.changesSince(changesBefore)).toEqual([]);
  });

  test('while an outage has taken all pods out, is refused, and keeps what rollback goes back to', async () => {
    const staging = await serving();
    await staging.deploy('v2');
    staging.workload.faults['v2'] = { waits: { reason: 'NotReady', message: 'SQS is away' } };
    await staging.wait(2);
    await expect(staging.deploy('v3')).rejects.toMatchObject({ code: 'NOT_READY' });
    expect(await staging.state()).toMatchObject({
      release: 'v2',
      previous: { 'order-producer': { release: 'v1' } },
    });
    await staging.deploy('v3', { isFirst: true });
    await expectOnly(staging, 'v3');
  });

  test('first one that failed can be followed by another', async () => {
    const staging = createStaging();
    staging.workload.faults['v1'] = { waits: { reason: 'ImagePullBackOff', message: 'no such tag' } };
    await expect(staging.deploy('v1')).rejects.toThrow('ImagePullBackOff: no such tag');
    await staging.deploy('v2');
    await staging.wait(20);
    await expectOnly(staging, 'v2');
  });
});

describe('deployment of a bad release', () => {
  test.each([
    [
      'consumer rejects everything',
      { rejects: true },
      'order-consumer candidate',
      /share that was dead-lettered/,
    ],
    [
      'never gets ready',
      { waits: { reason: 'ErrImageNeverPull', message: 'x' } },
      '1 candidate',
      /ErrImageNeverPull/,
    ],
    ['producer refuses clients', { refusesClients: true }, 'traffic to the candidate', /share that failed/],
    ['producer hangs under load', { hangsUnderLoad: true }, 'traffic to the candidate', /no answer from/],
    [
      'producer hangs for clients only',
      { hangsClients: true },
      'traffic to the candidate',
      /done before in the time: [\d.]+ %; must be at least 20 %/,
    ],
    [
      'migration breaks the old consumers',
      { breaksOthers: true },
      'candidate beside',
      /failed at the pods of before/,
    ],
  ])('whose %s goes back, and leaves nothing behind', async (_what, fault, step, why) => {
    const staging = await serving();
    staging.workload.faults['v2'] = fault;
    await expect(staging.deploy('v2')).rejects.toThrow(why);
    expect(saidOf(staging)).toContain(step);
    await expectOnly(staging, 'v1');
    expect(await staging.state()).toMatchObject({ release: 'v1' });
    expect((await staging.state()).step).toBeUndefined();
  });

  test('that hangs with the traffic has it for a few seconds only', async () => {
    const staging = await serving();
    staging.workload.faults['v2'] = { hangsUnderLoad: true };
    await expect(staging.deploy('v2')).rejects.toMatchObject({ code: 'NO_ANSWER' });
    await staging.wait(5);
    const failures = staging.workload.clients.failed;
    const decidedAt = staging.saidAt('FAILED:');
    expect(failures.length).toBeGreaterThan(0);
    expect((failures.at(-1)?.at ?? 0) - decidedAt).toBeLessThan(1_000);
    expect((failures.at(-1)?.at ?? 0) - (failures[0]?.at ?? 0)).toBeLessThan(10_000);
  });

  test('that rejects only when it is on all pods has nothing redriven into pods that still end', async () => {
    const staging = await serving();
    staging.workload.faults['v2'] = {};
    once(
      staging,
      () =>
        saidOf(staging).includes('v2 on all 2') &&
        staging.workload.pods.some(({ release, labels }) => release === 'v2' && labels['track'] === 'stable'),
      () => Object.assign(staging.workload.faults['v2'] ?? {}, { rejects: true }),
    );
    await expect(staging.deploy('v2')).rejects.toThrow(/order-consumer stable: .*dead-lettered/);
    await expectOnly(staging, 'v1');
  });

  test('whose pods never end, as their node is dead, is redriven all the same, with a word about them', async () => {
    const staging = await serving();
    staging.workload.faults['v2'] = { rejects: true, neverEnds: true };
    once(
      staging,
      () => saidOf(staging).includes('going back'),
      () => {
        Object.assign(staging.workload.faults['v2'] ?? {}, { rejects: false });
      },
    );
    await expect(staging.deploy('v2')).rejects.toThrow('dead-lettered');
    expect(saidOf(staging)).toMatch(/does not end: is its node dead\?/);
    expect(staging.workload.deadLetters).toEqual([]);
    expect(await staging.state()).toMatchObject({ release: 'v1' });
  });

  test('goes back although a producer pod, for which there is no room, stays pending', async () => {
    const staging = await serving();
    staging.workload.faults['v2'] = { rejects: true };
    staging.workload.capacity['order-producer'] = 2;
    staging.cluster.scale('order-producer', 3);
    await expect(staging.deploy('v2')).rejects.toThrow('dead-lettered');
    expect(staging.saidAt('are back in the queue') - staging.saidAt('FAILED:')).toBeLessThan(20_000);
    expect(staging.workload.deadLetters).toEqual([]);
  });

  test('takes back the configuration it brought, and names what is new', async () => {
    const staging = await serving();
    staging.workload.faults['v2'] = { rejects: true };
    Object.assign(staging.commits, { v1: {}, v2: { policy: 'closed', more: true } });
    await expect(staging.deploy('v2', staging.commits['v2'])).rejects.toThrow('dead-lettered');
    const policy = staging.cluster.get<KubernetesObject & { spec: unknown }>(
      'networkpolicy',
      'order-producer',
    );
    expect(policy.spec).toEqual({ note: 'open' });
    expect(saidOf(staging)).toContain(
      'configuration of the overlay: NetworkPolicy order-producer, NetworkPolicy one-more',
    );
    expect(saidOf(staging)).toContain('NetworkPolicy one-more is new and stays');
    await expectOnly(staging, 'v1');
  });

  test('whose release before is no commit leaves the configuration, and says so', async () => {
    const staging = await serving();
    staging.workload.faults['v2'] = { rejects: true };
    await expect(staging.deploy('v2', { policy: 'closed' })).rejects.toThrow('dead-lettered');
    expect(saidOf(staging)).toContain('configuration stays as it is: the overlay of v1 cannot be had');
    await expectOnly(staging, 'v1');
  });

  test('whose configuration alone breaks the live pods goes back before any candidate starts', async () => {
    const staging = await serving();
    once(
      staging,
      () => saidOf(staging).includes('[2/'),
      () => {
        staging.workload.faults['v1'] = { refusesClients: true };
      },
    );
    await expect(staging.deploy('v2', { policy: 'closed' })).rejects.toThrow(
      /order-producer over 6 s: share that failed/,
    );
    expect(saidOf(staging)).not.toContain('candidate beside');
    staging.workload.faults['v1'] = {};
    await expectOnly(staging, 'v1');
  });

  test('that left a variable out does not get it back, after it came back, with the next one', async () => {
    const staging = await serving();
    const variable = '[{ name: OLD, value: "1" }]';
    await staging.deploy('v2', { env: variable });
    staging.workload.faults['v3'] = { refusesClients: true };
    await expect(staging.deploy('v3')).rejects.toThrow('failed');
    await staging.deploy('v4');
    const env = (name: string) =>
      staging.cluster.get<DeploymentObject>('deployment', name).spec.template.spec.containers[0]['env'];
    expect([env('order-producer'), env('order-consumer')]).toEqual([[], []]);
  });
});

describe('size', () => {
  test('candidate of the producer is as large as the autoscaler has made the stable one meanwhile', async () => {
    const staging = await serving();
    once(
      staging,
      () => saidOf(staging).includes('checks through'),
      () => staging.cluster.scale('order-producer', 5),
    );
    let atSwitch = 0;
    const { fault } = staging.cluster;
    staging.cluster.fault = (verb, args) => {
      fault(verb, args);
      if (verb === 'patch' && args[0] === 'service' && args.join().includes('candidate'))
        atSwitch = staging.workload.pods.filter(
          ({ labels, release }) =>
            labels['app'] === 'order-producer' && labels['track'] === 'candidate' && release === 'v2',
        ).length;
      return undefined;
    };
    await staging.deploy('v2');
    expect(atSwitch).toBe(5);
  });
});

describe('dry run', () => {
  test('says the steps and changes nothing', async () => {
    const staging = await serving();
    const changesBefore = [...staging.cluster.changes];
    const record = { state: await staging.state(), setState: async () => {} };
    const { steps } = await planSteps({ ...staging.request('v2'), record });
    expect(steps).toHaveLength(10);
    expect(steps.map(({ title }) => title)).toContain(
      'order-consumer: 1 candidate beside 2, watched for 6 s',
    );
    expect(staging.cluster.changes).toEqual(changesBefore);
  });
});
