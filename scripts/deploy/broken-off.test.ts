import { describe, expect, test } from 'vitest';
import { findLeftOver } from './deploy-release.ts';
import { expectOnly, halfWay, once, saidOf, serving, trackOf, UNAUTHORIZED } from './testing/staging.ts';

const UNREACHABLE = 'The connection to the server was refused';

describe('deployment that breaks off', () => {
  test.each([
    ['the token expires', UNAUTHORIZED, 'UNAUTHORIZED'],
    ['the cluster goes out of reach', UNREACHABLE, 'UNREACHABLE'],
  ])(
    'half-way, as %s, leaves things as they are; the next run goes back first',
    async (_why, stderr, code) => {
      const staging = await serving();
      const { cluster } = staging;
      let isAway = false;
      cluster.fault = () => {
        isAway ||= trackOf(staging) === 'candidate';
        return isAway ? stderr : undefined;
      };
      const changesBefore = cluster.changes.length;
      await expect(staging.deploy('v2')).rejects.toMatchObject({ code });
      expect(trackOf(staging)).toBe('candidate');
      expect(
        cluster.changes.slice(changesBefore).filter((change) => change.startsWith('delete deployment')),
      ).toHaveLength(1);
      cluster.fault = () => undefined;
      await staging.wait(70);
      await staging.deploy('v2');
      expect(saidOf(staging)).toContain('what is left of v2, whose deployment broke off, goes');
      expect(saidOf(staging)).toContain('going back to v1');
      await expectOnly(staging, 'v2');
      expect(staging.workload.clients.failed).toEqual([]);
      expect(await staging.state()).toMatchObject({ previous: { 'order-producer': { release: 'v1' } } });
    },
  );

  test('by the operator, with the traffic on the candidate, goes back in good order', async () => {
    const staging = await serving();
    once(staging, () => trackOf(staging) === 'candidate', staging.interrupt);
    await expect(staging.deploy('v2')).rejects.toMatchObject({ code: 'BROKEN_OFF' });
    await expectOnly(staging, 'v1');
    expect(staging.workload.clients.failed).toEqual([]);
  });

  test.each(['v1', 'v2', 'v3'])(
    'for good is taken back, its dead letters with it, by the deployment of %s',
    async (next) => {
      const staging = await serving();
      staging.workload.faults['v2'] = { rejects: true, version: '2.0.0' };
      let isAway = false;
      staging.cluster.fault = () => {
        const lease = JSON.stringify(staging.cluster.get('lease', 'order-pipeline-deployment'));
        isAway ||= staging.workload.deadLetters.length > 3 && lease.includes('2.0.0');
        return isAway ? UNAUTHORIZED : undefined;
      };
      await expect(staging.deploy('v2')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
      staging.cluster.fault = () => undefined;
      staging.workload.faults['v2'] = { version: '2.0.0' };
      await staging.wait(70);
      const leftOver = await findLeftOver(staging.session, await staging.state());
      expect(leftOver).toMatchObject({ state: { release: 'v2' } });
      await staging.deploy(next);
      expect(saidOf(staging)).toMatch(/[1-9]\d* messages that 2\.0\.0 had dead-lettered are back/);
      await expectOnly(staging, next);
      const previous = { previous: { 'order-consumer': { release: 'v1' } } };
      expect(await staging.state()).toMatchObject({ release: next, ...(next !== 'v1' && previous) });
    },
  );

  test('without a trace in the lock is taken back, too', async () => {
    const staging = await halfWay();
    staging.cluster.objects.delete('lease/order-pipeline-deployment');
    await staging.deploy('v3');
    expect(saidOf(staging)).toContain('what is left of v2, whose deployment broke off, goes');
    await expectOnly(staging, 'v3');
  });
});
