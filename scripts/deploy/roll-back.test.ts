import { describe, expect, test } from 'vitest';
import type { DeploymentObject } from './kubectl.ts';
import { releaseOf, SERVICES } from './manifests.ts';
import { createStaging, expectOnly, halfWay, saidOf, serving } from './testing/staging.ts';

describe('rollback', () => {
  test('of a deployment brings both services and the configuration back, without a failed order, and only once', async () => {
    const staging = await serving();
    Object.assign(staging.commits, { v1: {}, v2: { policy: 'closed' } });
    await staging.deploy('v2', staging.commits['v2']);
    await staging.rollBack();
    await expectOnly(staging, 'v1');
    expect(staging.cluster.get('networkpolicy', 'order-producer')).toMatchObject({ spec: { note: 'open' } });
    expect(staging.workload.clients.failed).toEqual([]);
    await expect(staging.rollBack()).rejects.toMatchObject({ code: 'NOTHING_TO_GO_BACK_TO' });
  });

  test('leaves each Deployment with the strategy of its manifest', async () => {
    const staging = await serving();
    const strategies = () =>
      SERVICES.map((name) => staging.cluster.get<DeploymentObject>('deployment', name).spec.strategy);
    const before = strategies();
    await staging.deploy('v2');
    await staging.rollBack();
    expect(strategies()).toEqual(before);
  });

  test('of a consumer that rejects everything redrives when the last of its pods is gone', async () => {
    const staging = await serving();
    await staging.deploy('v2');
    staging.workload.faults['v2'] = { rejects: true };
    await staging.wait(5);
    expect(staging.workload.deadLetters.length).toBeGreaterThan(0);
    await staging.rollBack();
    await expectOnly(staging, 'v1');
  });

  test('has new orders on the old release within seconds, since all its pods start at once', async () => {
    const staging = await serving();
    staging.cluster.scale('order-producer', 8);
    await staging.deploy('v2');
    staging.workload.faults['v2'] = { refusesClients: true };
    const startedAt = performance.now();
    await staging.rollBack();
    const last = staging.workload.clients.failed.at(-1)?.at ?? 0;
    expect(last - startedAt).toBeLessThan(10_000);
    await staging.wait(15);
    expect(staging.workload.pods.filter(({ labels }) => labels['app'] === 'order-producer')).toHaveLength(8);
  });

  test('to a release that one of the services does not have moves neither', async () => {
    const staging = await serving();
    await staging.deploy('v2');
    const changesBefore = staging.cluster.changes.length;
    await expect(staging.rollBack('v1,v0')).rejects.toMatchObject({
      code: 'NOTHING_TO_GO_BACK_TO',
      message: expect.stringContaining('order-consumer has no revision with release v0'),
    });
    expect(staging.changesSince(changesBefore)).toEqual([]);
  });

  test('named by the release of the producer before brings the consumer to what it had then', async () => {
    const staging = await serving('v1');
    const consumer = staging.cluster.get<DeploymentObject>('deployment', 'order-consumer');
    consumer.spec.template.spec.containers[0].image = 'registry/order-consumer:v1-hotfix';
    await staging.wait(20);
    await staging.deploy('v2');
    await staging.rollBack('v1');
    expect(releaseOf(staging.cluster.get<DeploymentObject>('deployment', 'order-consumer'))).toBe(
      'v1-hotfix',
    );
    expect(releaseOf(staging.cluster.get<DeploymentObject>('deployment', 'order-producer'))).toBe('v1');
  });

  test('of a deployment that was killed half-way takes its candidates away', async () => {
    const staging = await halfWay();
    await staging.rollBack();
    await expectOnly(staging, 'v1');
    expect(staging.workload.clients.failed).toEqual([]);
  });

  test('without the rights to redrive is back, tells what to type, and keeps nobody from deploying', async () => {
    const staging = await serving();
    await staging.deploy('v2');
    staging.refusal.redrive = 'not redriven (no AWS credentials). Do: …';
    expect(await staging.rollBack()).toBe(staging.refusal.redrive);
    await expectOnly(staging, 'v1');
    staging.workload.faults['v3'] = { refusesClients: true };
    await expect(staging.deploy('v3')).rejects.toMatchObject({ code: 'CHECK_FAILED' });
    expect(saidOf(staging)).toContain('not redriven (no AWS credentials)');
    await staging.deploy('v4');
    await expectOnly(staging, 'v4');
  });

  test('where nothing is deployed says so', async () => {
    await expect(createStaging().rollBack()).rejects.toMatchObject({ code: 'NOTHING_TO_GO_BACK_TO' });
  });
});
