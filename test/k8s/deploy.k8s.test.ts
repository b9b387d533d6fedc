import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readManifests } from '../../scripts/deploy/manifests.ts';
import { sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { allStored } from '../support/load.ts';
import {
  clusterAvailable,
  eventuallyInCluster,
  forwardPort,
  freshNamespace,
  kubectlFor,
  rolledOut,
} from './cluster.ts';
import { type LoadAnswer, type LoadPod, startLoadPod } from './load-pod.ts';
import { type Operator, startOperator } from './operator.ts';
import { NOTHING_WRONG, reconciled } from './reconciled.ts';
import { buildReleases } from './releases.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

const OVERLAY = 'test/k8s/staging';
const NAMESPACE = 'staging';
const QUEUE_URL = '/000000000000/order-dlq';
const BACK_WITHIN_MS = 10_000;
const CLIENTS = 100;
/** While a release goes live or back, so that 500 are accepted on average; `DEPLOY_RATE` asks for another. */
const ORDERS_PER_SECOND = Number(process.env['DEPLOY_RATE'] ?? 525);
/** For the cases in which something else is looked at. */
const FEWER_ORDERS_PER_SECOND = 50;
const kubectl = kubectlFor(NAMESPACE);
const cluster = await clusterAvailable();

describe.skipIf(!cluster.available)(`deployment (${cluster.reason})`, () => {
  let namespace: AsyncDisposable;
  let load: LoadPod;
  let operator: Operator;
  let queues: Awaited<ReturnType<typeof forwardPort>>;

  const deploy = (tag: string, ...args: string[]) =>
    operator.start('deploy', [`--image-tag=${tag}`, `--overlay=${OVERLAY}`, '--watch-seconds=4', ...args]);
  const image = async (service: 'producer' | 'consumer') =>
    (await kubectl.json(`get`, `deployment/order-${service}`)).spec.template.spec.containers[0].image;
  const track = async () => (await kubectl.json('get', 'service/order-producer')).spec.selector.track;
  const only = async (tag: string) => {
    expect(await image('producer')).toBe(`order-producer:${tag}`);
    expect(await image('consumer')).toBe(`order-consumer:${tag}`);
    const names = (await kubectl('get', 'deployments,services', '-o', 'name')).split('\n');
    expect(names.filter((name) => /candidate|preview/.test(name))).toEqual([]);
    expect(await track()).toBe('stable');
  };
  const deadLetters = async () => {
    const url = `http://127.0.0.1:${queues.port}`;
    return messagesIn(sqsClient({ AWS_ENDPOINT_URL: url }), `${url}${QUEUE_URL}`);
  };

  beforeAll(async () => {
    await buildReleases();
    namespace = await freshNamespace('k8s/overlays/staging/namespace.yaml');
    const overlay = await kubectlFor()('kustomize', OVERLAY);
    const { others } = readManifests(overlay, 'v1');
    await kubectl.withInput(
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items: others }),
      'apply',
      '-f',
      '-',
    );
    for (const name of ['localstack', 'postgres']) await rolledOut(NAMESPACE, name);
    operator = await startOperator({
      namespace: NAMESPACE,
      sqsUrl: () => `http://127.0.0.1:${queues.port}`,
    });
    queues = await forwardPort(NAMESPACE, 'svc/localstack', 4566);
    const first = await deploy('v1').outcome;
    expect(first).toMatchObject({ status: 0, said: expect.stringContaining('first deployment') });
    await kubectl('scale', 'deployment/order-producer', 'deployment/order-consumer', '--replicas=2');
    for (const name of ['order-producer', 'order-consumer']) await rolledOut(NAMESPACE, name);
    load = await startLoadPod({
      namespace: NAMESPACE,
      image: 'order-producer:v1',
      clients: CLIENTS,
      ordersPerSecond: FEWER_ORDERS_PER_SECOND,
    });
    await load.more(20);
  });

  afterAll(async () => {
    await queues?.[Symbol.asyncDispose]();
    await operator?.stop();
    await namespace?.[Symbol.asyncDispose]();
  });

  let seenStored = 0;
  const refusedByBadRelease = new Set<LoadAnswer>();
  const failed = () => load.failed().filter((answer) => !refusedByBadRelease.has(answer));
  /** No order was refused but by the release that is there for it; all that were accepted are stored, the DLQ is empty. */
  const nothingLost = async () => {
    expect(failed()).toEqual([]);
    const accepted = load.accepted();
    await using lookUp = await forwardPort(NAMESPACE, 'svc/order-consumer', 8081);
    await allStored(`http://127.0.0.1:${lookUp.port}`, accepted.slice(seenStored));
    seenStored = accepted.length;
    await eventually(async () => expect(await deadLetters()).toBe(0));
  };
  /** How many orders a second were accepted meanwhile, for the record. */
  const underLoad = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    load.pace(ORDERS_PER_SECOND);
    await load.more(ORDERS_PER_SECOND);
    const [begin, acceptedBefore] = [Date.now(), load.accepted().length];
    const result = await work();
    load.pace(FEWER_ORDERS_PER_SECOND);
    const seconds = (Date.now() - begin) / 1_000;
    const rate = (load.accepted().length - acceptedBefore) / seconds;
    console.log(`${what}: ${rate.toFixed(0)} orders/s accepted, for ${seconds.toFixed(0)} s`);
    return result;
  };
  /** The lease of one that was killed, as if its minute had passed. */
  const lockEnds = () => {
    const past = '{"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}';
    return kubectl('patch', 'lease', 'order-pipeline-deployment', '--type=merge', '-p', past);
  };
  /** The rest is a load for the whole machine: the `dev` overlay, which is tested at the same time, goes first. */
  const othersAreDone = () =>
    eventuallyInCluster(async () => {
      const phase = ['-o', 'jsonpath={.status.phase}'];
      expect(await kubectl('get', 'namespace', 'dev', '--ignore-not-found', ...phase)).not.toBe('Active');
    }, 240_000);
  const isOn = (side: string) => eventuallyInCluster(async () => expect(await track()).toBe(side), 180_000);

  test('dry run, of a new release, says the steps and changes nothing', async () => {
    const { status, said } = await deploy('v2', '--dry-run').outcome;
    expect(status).toBe(0);
    expect(said).toMatch(/would do 3\/10: order-consumer: 1 candidate beside 2/);
    await only('v1');
  });

  test.each([
    ['no registry has', 'no-such-tag', 'ImagePull'],
    ['whose migration fails', 'migration-fails', 'division by zero'],
  ])('deployment, of a release %s, says so and leaves the live one serving', async (_which, tag, reason) => {
    const { status, said } = await deploy(tag).outcome;
    expect(status).toBe(1);
    expect(said).toContain(reason);
    expect(said).toContain('deployment/order-producer: release v1, 2 of 2 available');
    await only('v1');
    await nothingLost();
  });

  test('deployment, of a consumer that rejects everything, goes back and redrives what it dead-lettered', async () => {
    const { status, said } = await deploy('rejects-everything').outcome;
    expect(status).toBe(1);
    expect(
      Number(/(\d+) messages that rejects-everything had dead-lettered are back/.exec(said)?.[1]),
    ).toBeGreaterThan(0);
    await only('v1');
    await nothingLost();
  });

  test('deployment, broken off by SIGTERM with a candidate at work, goes back in good order', async () => {
    const { child, outcome } = deploy('v2');
    await eventuallyInCluster(async () => {
      const { status } = await kubectl.json('get', 'deployment/order-consumer-candidate');
      expect(status.availableReplicas).toBe(1);
    }, 60_000);
    child.kill('SIGTERM');
    expect(await outcome).toMatchObject({
      status: 1,
      said: expect.stringContaining('broken off by the operator'),
    });
    await only('v1');
    await nothingLost();
  });

  test('deployment, whose token expires with the traffic on the candidate, leaves things as they are', async () => {
    const expired = deploy('v2');
    await isOn('candidate');
    await operator.tokenExpires();
    expect(await expired.outcome).toMatchObject({
      status: 1,
      said: expect.stringMatching(/Unauthorized|must be logged in/),
    });
    await operator.logIn();
    expect(await track()).toBe('candidate');
    await load.more(50);
    await lockEnds();
  });

  test('deployment, killed, keeps its lock for a minute; the next one goes back first, and then through', async () => {
    const killed = deploy('v2');
    await eventuallyInCluster(async () =>
      expect((await kubectl.json('get', 'lease', 'order-pipeline-deployment')).spec.holderIdentity).toContain(
        `process ${killed.child.pid}`,
      ),
    );
    killed.child.kill('SIGKILL');
    await killed.outcome;
    expect((await deploy('v2').outcome).said).toContain('If it has died, its lock ends at');
    await lockEnds();

    const { status, said } = await deploy('v2').outcome;
    expect(said).toMatch(/what is left of v2, whose deployment broke off, goes\n *going back to v1/);
    expect(status).toBe(0);
    await only('v2');
    await nothingLost();
  });

  test('deployment, with an expired token or no cluster, says so and changes nothing', async () => {
    await operator.tokenExpires();
    const unauthorized = await deploy('v1').outcome;
    await operator.logIn();
    expect(unauthorized).toMatchObject({ status: 1, said: expect.stringMatching(/Unauthorized|logged in/) });
    const away = { KUBECONFIG: await operator.clusterAway() };
    const args = ['--image-tag=v1', `--overlay=${OVERLAY}`];
    const unreachable = await operator.start('deploy', args, away).outcome;
    expect(unreachable).toMatchObject({ status: 1, said: expect.stringContaining('run this again') });
    await only('v2');
  });

  test('rollback under load, of a deployment, brings both back without a failed request, and once', async () => {
    await othersAreDone();
    const planned = await operator.start('rollback', ['--dry-run']).outcome;
    expect(planned).toMatchObject({ status: 0, said: expect.stringContaining('back to v1') });
    const back = await underLoad('rollback', () => operator.start('rollback').outcome);
    expect(back).toMatchObject({ status: 0 });
    await only('v1');
    expect(operator.alerts.at(-1)).toEqual({ severity: 'info', text: 'staging is back on v1' });
    await nothingLost();
    expect(await operator.start('rollback').outcome).toMatchObject({
      status: 1,
      said: expect.stringContaining('no earlier deployment'),
    });
  });

  test('deployment under load, while a second one is tried, goes through without a failed request', async () => {
    const whole = underLoad('deployment', () => deploy('v2').outcome);
    const candidates = async () =>
      expect(await kubectl('get', 'deployments', '-o', 'name')).toContain('candidate');
    await eventuallyInCluster(candidates, 120_000);
    const second = await deploy('v1').outcome;
    expect(second).toMatchObject({ status: 1, said: expect.stringContaining('deploys to staging since') });
    expect(await whole).toMatchObject({ status: 0 });
    await only('v2');
    expect(operator.alerts.at(-1)).toEqual({ severity: 'info', text: 'v2 is deployed to staging' });
    await nothingLost();
    expect(await deploy('v2').outcome).toMatchObject({
      status: 0,
      said: expect.stringContaining('deployed already'),
    });
    const verified = await operator.start('verify-deployment', ['--watch-seconds=2']).outcome;
    expect(verified).toMatchObject({ status: 0 });
  });

  test('deployment, of a producer that fails after the switch, is off again for all clients in ten seconds', async () => {
    const { status, said, decidedAt } = await underLoad(
      'failure after the switch',
      () => deploy('refuses-customers').outcome,
    );
    expect(status).toBe(1);
    expect(said).toContain('traffic to the candidate');
    await only('v2');
    const failures = failed();
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.filter(({ status }) => status !== 500)).toEqual([]);
    const lastMs = (failures.at(-1)?.at ?? 0) - decidedAt;
    console.log(`${failures.length} refused; the last one ${lastMs} ms after the decision to go back`);
    expect(lastMs).toBeLessThan(BACK_WITHIN_MS);
    for (const answer of failures) refusedByBadRelease.add(answer);
    // They keep their connections, and are all on the old release again.
    await load.more(2 * CLIENTS);
    await nothingLost();
  });

  test('in the end: nothing lost, nothing twice, nothing dead-lettered', async () => {
    await load.stop();
    expect(failed()).toEqual([]);
    const accepted = load.accepted();
    expect(await reconciled(NAMESPACE, accepted)).toMatchObject({
      ...NOTHING_WRONG,
      accepted: accepted.length,
      stored: accepted.length,
      deadLetterQueue: { messages: 0 },
    });
  });
});
