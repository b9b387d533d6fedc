import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Execute, Kubectl } from './kubectl.ts';
import { DeploymentLock } from './lock.ts';

/** An API server with one object, which refuses what was written on an older version. */
function apiServer() {
  let stored: { metadata: { resourceVersion?: string }; spec: Record<string, string> } | undefined;
  let version = 0;
  const ok = (object: unknown) => ({ status: 0, stdout: JSON.stringify(object), stderr: '' });
  const refuse = (reason: string) => ({
    status: 1,
    stdout: '',
    stderr: `Error from server (${reason}): lease`,
  });
  let isLost = false;
  let answering = Promise.resolve();
  const execute: Execute = async (args, input) => {
    const answer = take(args, input);
    await answering;
    if (!isLost || args.includes('get')) return answer;
    isLost = false;
    return { status: 1, stdout: '', stderr: 'read: connection reset by peer' };
  };
  const take = (args: string[], input: string | undefined) => {
    const verb = args.find((arg) => ['get', 'create', 'replace'].includes(arg));
    if (verb === 'get') return stored ? ok(stored) : refuse('NotFound');
    const object = JSON.parse(input ?? '');
    if (verb === 'create' && stored) return refuse('AlreadyExists');
    if (verb === 'replace' && object.metadata.resourceVersion !== stored?.metadata.resourceVersion)
      return refuse('Conflict');
    stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++version) } };
    return ok(stored);
  };
  const loseNextAnswer = () => {
    isLost = true;
  };
  /** No answer goes out until the one that is returned is called. */
  const holdAnswers = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    answering = promise;
    return resolve;
  };
  return { kubectl: new Kubectl('staging', execute), lease: () => stored, loseNextAnswer, holdAnswers };
}

const later = (seconds: number) => new Date(Date.now() + seconds * 1_000);

describe('lock', () => {
  test('second deployment, while the first holds the lock, is refused with who holds it and until when', async () => {
    const { kubectl } = apiServer();
    await using _first = await DeploymentLock.acquire(kubectl);
    await expect(DeploymentLock.acquire(kubectl)).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`process ${process.pid}`),
    });
  });

  test('lock, given up, is free, and its state is still there', async () => {
    const { kubectl } = apiServer();
    {
      await using first = await DeploymentLock.acquire(kubectl);
      await first.setState({ release: '2', step: 'half-way' });
    }
    await using second = await DeploymentLock.acquire(kubectl);
    expect(second.state).toEqual({ release: '2', step: 'half-way' });
  });

  test('lock, of one that has died, is free a minute later, and not before', async () => {
    const { kubectl, lease } = apiServer();
    await using dead = await DeploymentLock.acquire(kubectl);
    await expect(DeploymentLock.acquire(kubectl, later(55))).rejects.toMatchObject({ code: 'LOCKED' });
    await using taken = await DeploymentLock.acquire(kubectl, later(65));
    expect(lease()?.spec['holderIdentity']).toBeTruthy();
    // The dead one was only slow: it must not write any more.
    await expect(dead.setState({ release: '1' })).rejects.toMatchObject({ code: 'CONFLICT' });
    await taken.setState({ release: '2' });
  });

  test('lock, whose answer to a write was lost, is held on: the repetition meets what was stored', async () => {
    const { kubectl, loseNextAnswer } = apiServer();
    loseNextAnswer();
    await using lock = await DeploymentLock.acquire(kubectl);
    loseNextAnswer();
    await lock.setState({ release: '2' });
    expect(lock.signal.aborted).toBe(false);
    expect(await DeploymentLock.readState(kubectl)).toEqual({ release: '2' });
    await lock.setState({ release: '3' });
  });

  test('state, set while the lock is being renewed, is kept', async () => {
    vi.useFakeTimers({ toFake: ['setInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const { kubectl, lease, holdAnswers } = apiServer();
    await using lock = await DeploymentLock.acquire(kubectl);
    const before = lease();
    const answer = holdAnswers();
    vi.advanceTimersByTime(15_000);
    await vi.waitFor(() => expect(lease()).not.toBe(before));
    const written = lock.setState({ release: '2' });
    answer();
    await written;
    expect(await DeploymentLock.readState(kubectl)).toEqual({ release: '2' });
  });

  test('lock, taken over by another, is lost with the next write', async () => {
    const { kubectl } = apiServer();
    await using dead = await DeploymentLock.acquire(kubectl);
    await using _taken = await DeploymentLock.acquire(kubectl, later(65));
    await expect(dead.setState({})).rejects.toMatchObject({ code: 'CONFLICT' });
    await vi.waitFor(() => expect(dead.signal.aborted).toBe(true));
  });

  test('lock that is waited for is had when the other gives it up', async () => {
    const { kubectl } = apiServer();
    const said: string[] = [];
    const options = { signal: new AbortController().signal, say: (line: string) => void said.push(line) };
    const first = await DeploymentLock.acquire(kubectl);
    await expect(DeploymentLock.waitFor(kubectl, { ...options, waitSeconds: 0 })).rejects.toMatchObject({
      code: 'LOCKED',
    });
    const second = DeploymentLock.waitFor(kubectl, { ...options, waitSeconds: 60 });
    await vi.waitFor(() => expect(said.join()).toContain('waits up to 60 s'));
    await first[Symbol.asyncDispose]();
    await using lock = await second;
    expect(lock.state).toEqual({});
  });

  test('two that begin at once: one gets the lock', async () => {
    const { kubectl } = apiServer();
    const tries = await Promise.allSettled([
      DeploymentLock.acquire(kubectl),
      DeploymentLock.acquire(kubectl),
    ]);
    expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const attempt of tries) {
      if (attempt.status === 'fulfilled') await attempt.value[Symbol.asyncDispose]();
      else expect(attempt.reason).toMatchObject({ code: 'LOCKED' });
    }
  });
});
