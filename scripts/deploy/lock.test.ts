import { describe, expect, test } from 'vitest';
import { Kubectl } from './kubectl.ts';
import { acquireLock, readState } from './lock.ts';
import { createStaging, type Staging } from './testing/staging.ts';

/** As if its process had been killed: it renews nothing any more. */
function kill({ cluster }: Staging): void {
  cluster.fault = (verb) => (verb === 'patch' ? 'Unable to connect' : undefined);
}

function free() {
  const staging = createStaging();
  return { staging, kubectl: staging.cluster.kubectl };
}

describe('lock', () => {
  test('second deployment, while the first holds the lock, is refused with who holds it and until when', async () => {
    const { kubectl } = free();
    await using _first = await acquireLock(kubectl);
    await expect(acquireLock(kubectl)).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`process ${process.pid}`),
    });
  });

  test('lock, given up, is free, and its state is still there', async () => {
    const { kubectl } = free();
    {
      await using first = await acquireLock(kubectl);
      await first.setState({ release: '2', step: 'half-way' });
    }
    await using second = await acquireLock(kubectl);
    expect(second.state).toEqual({ release: '2', step: 'half-way' });
    expect(await readState(kubectl)).toEqual({ release: '2', step: 'half-way' });
  });

  test('lock, of one that works for long, is renewed', async () => {
    const { staging, kubectl } = free();
    await using _first = await acquireLock(kubectl);
    await staging.wait(300);
    await expect(acquireLock(kubectl)).rejects.toMatchObject({ code: 'LOCKED' });
  });

  test('lock, of one that has died, is free a minute later, and its holder must not write any more', async () => {
    const { staging, kubectl } = free();
    await using dead = await acquireLock(kubectl);
    kill(staging);
    await staging.wait(55);
    await expect(acquireLock(kubectl)).rejects.toMatchObject({ code: 'LOCKED' });
    await staging.wait(10);
    staging.cluster.fault = () => undefined;
    await using taken = await acquireLock(kubectl);
    await expect(dead.setState({ release: '1' })).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(dead.signal.aborted).toBe(true);
    await taken.setState({ release: '2' });
    expect(await readState(kubectl)).toEqual({ release: '2' });
  });

  test('lock, that cannot be renewed for a minute, is lost: another may have it', async () => {
    const { staging, kubectl } = free();
    await using lock = await acquireLock(kubectl);
    kill(staging);
    await staging.wait(30);
    expect(lock.signal.aborted).toBe(false);
    await staging.wait(70);
    expect(lock.signal.aborted).toBe(true);
  });

  test('lock, whose answers to writes are lost, is had all the same: a repetition does no harm', async () => {
    const { staging } = free();
    let isLost = false;
    const kubectl = new Kubectl('staging', async (args, input) => {
      const answer = await staging.cluster.execute(args, input);
      isLost = !isLost && !args.includes('get');
      return isLost ? { status: 1, stdout: '', stderr: 'read: connection reset by peer' } : answer;
    });
    await using lock = await acquireLock(kubectl);
    await lock.setState({ release: '2' });
    expect(lock.signal.aborted).toBe(false);
    expect(await readState(kubectl)).toEqual({ release: '2' });
  });

  test('lock that is waited for is had when the other gives it up', async () => {
    const { kubectl } = free();
    const said: string[] = [];
    const first = await acquireLock(kubectl);
    const say = (line: string) => {
      said.push(line);
      void first[Symbol.asyncDispose]();
    };
    await using lock = await acquireLock(kubectl, { say, waitSeconds: 60 });
    expect(said.join()).toContain('waits up to 60 s');
    expect(lock.state).toEqual({});
    expect(said).toHaveLength(1);
  });

  test('two that begin at once: one gets the lock, the other is told who', async () => {
    const { kubectl } = free();
    const tries = await Promise.allSettled([acquireLock(kubectl), acquireLock(kubectl)]);
    expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const attempt of tries) {
      if (attempt.status === 'fulfilled') await attempt.value[Symbol.asyncDispose]();
      else expect(attempt.reason).toMatchObject({ code: 'LOCKED' });
    }
  });
});
