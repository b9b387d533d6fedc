import { describe, expect, test } from 'vitest';
import { readState } from './lock.ts';
import { halfWay, type Staging, serving } from './testing/staging.ts';
import { verify } from './verify.ts';

async function verified({ session }: Staging): Promise<{ sound: boolean; said: string }> {
  const lines: string[] = [];
  const saying = { ...session, say: (line: string) => void lines.push(line) };
  const problems = await verify(saying, await readState(session.kubectl));
  return { sound: problems.length === 0, said: lines.join('\n') };
}

describe('verification', () => {
  test('of a good deployment looks at everything', async () => {
    const staging = await serving();
    const { sound, said } = await verified(staging);
    expect(said).not.toContain('FAILED');
    expect(sound).toBe(true);
    expect(said.split('\n')).toHaveLength(8);
  });

  test('with a failure and a dead letter, fewer than a release is condemned for, is sound', async () => {
    const staging = await serving();
    const [producer] = staging.cluster.endpoints('order-producer');
    const [consumer] = staging.cluster.endpoints('order-consumer');
    setTimeout(() => {
      if (producer) producer.counts.failed += 2;
      if (consumer) consumer.counts.rejected++;
    }, 1_000);
    expect(await verified(staging)).toMatchObject({ sound: true });
  });

  test('while an autoscaler adds a pod waits for it, or does without it', async () => {
    const staging = await serving();
    staging.cluster.scale('order-producer', 3);
    expect(await verified(staging)).toMatchObject({ sound: true });
    staging.workload.capacity['order-producer'] = 3;
    staging.cluster.scale('order-producer', 4);
    expect(await verified(staging)).toMatchObject({ sound: true });
  });

  test.each([
    ['refuses clients', { refusesClients: true }, /FAILED {2}order-producer over 6 s: share that failed/],
    ['rejects messages', { rejects: true }, /FAILED {2}order-consumer over 6 s: .*dead-lettered/],
    [
      'does not run',
      { waits: { reason: 'CrashLoopBackOff', message: '' } },
      /FAILED {2}order-producer health/,
    ],
  ])('of a release that %s fails, and makes the other checks', async (_what, fault, line) => {
    const staging = await serving();
    staging.workload.faults['v1'] = fault;
    const { sound, said } = await verified(staging);
    expect(sound).toBe(false);
    expect(said).toMatch(line);
    expect(said.split('\n')).toHaveLength(8);
  });

  test('of a deployment that is half-way fails', async () => {
    expect(await verified(await halfWay())).toMatchObject({
      sound: false,
      said: expect.stringContaining('FAILED  no deployment half-way'),
    });
  });
});
