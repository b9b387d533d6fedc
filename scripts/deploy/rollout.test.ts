import { describe, expect, test } from 'vitest';
import { type Execute, Kubectl } from './kubectl.ts';
import { revert, rolledOut } from './rollout.ts';

const labels = { app: 'order-producer', track: 'stable' };
const template = (image: string) => ({ metadata: { labels }, spec: { containers: [{ name: 'a', image }] } });
const deployment = (available: number, generation = 2) => ({
  metadata: { name: 'order-producer', generation, annotations: { 'deployment.kubernetes.io/revision': '2' } },
  spec: { replicas: 2, selector: { matchLabels: labels }, template: template('order-producer:v3') },
  status: { observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: available },
});
const replicaSet = (revision: number, tag: string) => ({
  metadata: {
    name: `rs-${revision}`,
    labels: { 'pod-template-hash': `hash-${revision}` },
    annotations: { 'deployment.kubernetes.io/revision': String(revision) },
  },
  spec: { selector: { matchLabels: labels }, template: template(`order-producer:${tag}`) },
});
const pod = (hash: string, waiting?: { reason: string; message?: string }, restartCount = 0) => ({
  metadata: { name: `pod-of-${hash}` },
  spec: { containers: [] },
  status: { containerStatuses: [{ restartCount, state: waiting ? { waiting } : {} }] },
});

/** A cluster that answers lists by kind, and records the rest. */
function cluster(answers: { deployments?: unknown[]; replicaSets?: unknown[]; pods?: unknown[] }) {
  const calls: string[][] = [];
  const execute: Execute = async (args) => {
    const [verb, kind] = args.slice(3);
    const ok = (value: unknown) => ({ status: 0, stdout: JSON.stringify(value), stderr: '' });
    if (verb === 'logs') return { status: 0, stdout: 'column "note" does not exist\n', stderr: '' };
    if (verb === 'get' && kind === 'deployment')
      return ok(
        (answers.deployments?.length ?? 0) > 1 ? answers.deployments?.shift() : answers.deployments?.[0],
      );
    if (verb === 'get' && kind === 'replicasets') return ok({ items: answers.replicaSets ?? [] });
    if (verb === 'get' && kind === 'pods') {
      const hash = /pod-template-hash=([\w-]+)/.exec(args.join(' '))?.[1] ?? '';
      return ok({ items: (answers.pods ?? []).filter((each) => JSON.stringify(each).includes(hash)) });
    }
    calls.push(args.slice(3));
    return { status: 0, stdout: '{}', stderr: '' };
  };
  const kubectl = new Kubectl('staging', execute, 0);
  return {
    calls,
    kubectl,
    rollout: { kubectl, signal: new AbortController().signal, rolloutTimeoutSeconds: 0 },
  };
}

describe('rollout', () => {
  test('Deployment, with all pods new and available, is rolled out', async () => {
    await rolledOut(cluster({ deployments: [deployment(2)] }).rollout, 'order-producer');
  });

  test.each([
    ['a pod that is not available', deployment(1)],
    ['a change that the controller has not seen yet', deployment(2, 3)],
  ])('Deployment, with %s, is not rolled out when time is up', async (_with, found) => {
    await expect(
      rolledOut(cluster({ deployments: [found] }).rollout, 'order-producer'),
    ).rejects.toMatchObject({
      code: 'NOT_READY',
      message: 'order-producer with order-producer:v3 is not ready in 0 s',
    });
  });

  test.each([
    [{ reason: 'ImagePullBackOff', message: 'no such tag' }, 0, 'ImagePullBackOff: no such tag'],
    [{ reason: 'CrashLoopBackOff' }, 2, 'CrashLoopBackOff: column "note" does not exist'],
  ])(
    'pod that waits for %j after %i restarts stops the rollout at once, with what it says',
    async (waiting, restarts, message) => {
      const { rollout } = cluster({
        deployments: [deployment(1)],
        replicaSets: [replicaSet(1, 'v1'), replicaSet(2, 'v2')],
        pods: [pod('hash-1'), pod('hash-2', waiting, restarts)],
      });
      const patient = { ...rollout, rolloutTimeoutSeconds: 600 };
      await expect(rolledOut(patient, 'order-producer')).rejects.toMatchObject({
        code: 'NOT_READY',
        message: expect.stringContaining(message),
      });
    },
  );

  test('pod that gives up some time after the rollout has begun, stops it then', async () => {
    const pods = [pod('hash-2')];
    const { rollout } = cluster({
      deployments: [deployment(1)],
      replicaSets: [replicaSet(2, 'v2')],
      pods,
    });
    const rolling = rolledOut({ ...rollout, rolloutTimeoutSeconds: 600 }, 'order-producer');
    setTimeout(() => pods.splice(0, 1, pod('hash-2', { reason: 'ImagePullBackOff' })), 500);
    await expect(rolling).rejects.toThrow('ImagePullBackOff');
  });

  test('pod that waits for a Secret, which an operator may be about to bring, is waited for; time up, it says so', async () => {
    const waiting = { reason: 'CreateContainerConfigError', message: 'secret "order-database" not found' };
    const { rollout } = cluster({
      deployments: [deployment(1)],
      replicaSets: [replicaSet(2, 'v2')],
      pods: [pod('hash-2', waiting)],
    });
    await expect(rolledOut(rollout, 'order-producer')).rejects.toThrow(
      'is not ready in 0 s: CreateContainerConfigError: secret "order-database" not found',
    );
  });

  test('pod that died once is given another chance', async () => {
    const { rollout } = cluster({
      deployments: [deployment(1), deployment(2)],
      replicaSets: [replicaSet(2, 'v2')],
      pods: [pod('hash-2', { reason: 'CrashLoopBackOff' }, 1)],
    });
    await rolledOut({ ...rollout, rolloutTimeoutSeconds: 600 }, 'order-producer');
  });

  test('pod of an earlier template, whatever is wrong with it, does not stop the rollout', async () => {
    const { rollout } = cluster({
      deployments: [deployment(1), deployment(2)],
      replicaSets: [replicaSet(1, 'v1'), replicaSet(2, 'v2')],
      pods: [pod('hash-1', { reason: 'CrashLoopBackOff' }), pod('hash-2')],
    });
    await rolledOut({ ...rollout, rolloutTimeoutSeconds: 600 }, 'order-producer');
  });
});

describe('back', () => {
  const replicaSets = [replicaSet(3, 'v1'), replicaSet(7, 'v3'), replicaSet(6, 'v3'), replicaSet(5, 'v1')];
  const running = deployment(2);
  running.metadata.annotations['deployment.kubernetes.io/revision'] = '7';
  const deployments = [running];
  const allAtOnce = { type: 'RollingUpdate', rollingUpdate: { maxSurge: '100%', maxUnavailable: 0 } };

  test.each([
    ['a revision takes that one', { release: 'v1', revision: 3 }, 3],
    [
      'a revision that has another number by now takes the newest of its release',
      { release: 'v1', revision: 2 },
      5,
    ],
    ['a release takes its newest revision', { release: 'v1' }, 5],
    ['another configuration of the release that runs is a change', { release: 'v3', revision: 6 }, 6],
  ])('going back to %s, all pods at once, however many', async (_what, wanted, revision) => {
    const { kubectl, calls } = cluster({ deployments, replicaSets });
    await revert(kubectl, 'order-producer', wanted);
    expect(calls).toEqual([
      expect.arrayContaining([
        'patch',
        JSON.stringify([{ op: 'add', path: '/spec/strategy', value: allAtOnce }]),
      ]),
      ['rollout', 'undo', 'deployment/order-producer', `--to-revision=${revision}`],
    ]);
  });

  test('going back to what runs changes nothing', async () => {
    const { kubectl, calls } = cluster({ deployments, replicaSets });
    await revert(kubectl, 'order-producer', { release: 'v3', revision: 7 });
    expect(calls).toEqual([]);
  });

  test('going back to a release that is not kept says which are', async () => {
    const { kubectl } = cluster({ deployments, replicaSets });
    await expect(revert(kubectl, 'order-producer', { release: 'v0' })).rejects.toMatchObject({
      code: 'NOTHING_TO_GO_BACK_TO',
      message: expect.stringContaining('v3, v3, v1, v1'),
    });
  });
});
