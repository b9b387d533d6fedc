import { SetQueueAttributesCommand } from '@aws-sdk/client-sqs';
import { queueAttributes } from '@orders/shared/sqs/queue-admin.ts';
import { MAX_RECEIVE_COUNT } from '@orders/shared/sqs/queues.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseMetrics } from '../../scripts/prometheus-text.ts';
import { sqsClient } from '../support/backends.ts';
import {
  BACKEND_IMAGES,
  buildImage,
  clusterAvailable,
  eventuallyInCluster,
  forwardPort,
  freshNamespace,
  kubectlFor,
  loadImages,
  type Resource,
  rolledOut,
} from './cluster.ts';
import { startKiller } from './killer.ts';
import { type LoadPod, startLoadPod } from './load-pod.ts';
import { NOTHING_WRONG, reconciled } from './reconciled.ts';

const NAMESPACE = 'dev';
const SERVICES = ['order-producer', 'order-consumer'];
const DRAINED = 'order-pipeline/drained';
const CLIENTS = 20;
/** Enough to notice what is lost; LocalStack needs half a processor for as many. */
const ORDERS_PER_SECOND = 50;
const kubectl = kubectlFor(NAMESPACE);
const cluster = await clusterAvailable();

/** From SIGKILL to the end of the process's connections: the kernel gives its memory back first. */
const DYING_MS = 1_000;
const NOTICED_MS = 15_000;

describe.skipIf(!cluster.available)(`dev overlay on a real cluster (${cluster.reason})`, () => {
  let image = '';
  let namespace: AsyncDisposable;
  const acceptedBefore: string[] = [];
  /** What got no answer may be stored; what was never sent is not. */
  let maybeStored = 0;

  beforeAll(async () => {
    const images = [];
    for (const tag of ['dev', 'next'])
      for (const service of ['producer', 'consumer'] as const) images.push(await buildImage(service, tag));
    image = images[0] ?? '';
    await loadImages(...images, ...BACKEND_IMAGES);
    namespace = await freshNamespace('k8s/overlays/dev/namespace.yaml');
    await kubectl('apply', '-k', 'k8s/overlays/dev');
    for (const name of ['localstack', 'postgres', 'order-producer', 'order-consumer'])
      await rolledOut(NAMESPACE, name);
  }, 900_000);

  afterAll(() => namespace?.[Symbol.asyncDispose]());

  it('SIGKILL of a producer and a consumer: only requests in flight fail, no accepted order is lost', async () => {
    await using killer = await startKiller(image);
    const options = { namespace: NAMESPACE, image, clients: CLIENTS, ordersPerSecond: ORDERS_PER_SECOND };
    // Until the node has heard of it, new connections are led to a pod that is gone, and refused: nothing was sent, so
    // every client may try again. What never gets through has failed, whatever the reason.
    const load = await startLoadPod({ ...options, retryRefusedMs: 10_000 });
    const killedAt = new Map<string, number>();
    try {
      await load.more(200);
      // The consumer first: the longer is the time in which what it held comes back.
      for (const service of SERVICES.toReversed()) {
        const [victim] = await readyPods(service);
        if (!victim) throw new Error(`no ${service} is ready`);
        const before = await restarts(victim.metadata.name);
        const failedBefore = load.failed().length;
        killedAt.set(service, await killer.kill(victim.metadata.name));
        await eventuallyInCluster(
          async () => expect(await restarts(victim.metadata.name)).toBe(before + 1),
          120_000,
        );
        await rolledOut(NAMESPACE, service);
        await goesOn(load);
        // No client notices that a consumer has died.
        if (service === 'order-consumer') expect(load.failed().slice(failedBefore)).toEqual([]);
      }
    } finally {
      await load.stop();
      acceptedBefore.push(...load.accepted());
      maybeStored = load.failed().length;
    }

    const killed = killedAt.get('order-producer') ?? 0;
    const failed = load.failed();
    // One a client at most, each under way to a pod when it was killed, or sent before its connections were gone.
    const inFlight = load.answers.filter(
      ({ startedAt, at }) => startedAt <= killed + DYING_MS && at >= killed,
    );
    const refused = load.answers.filter((answer) => answer.refused > 0);
    console.log(
      `${failed.length} failed of ${inFlight.length} requests in flight; ${refused.length} orders were refused a connection, and then accepted`,
    );
    expect(failed.filter(({ status }) => status !== 0)).toEqual([]);
    expect(failed.filter((answer) => !inFlight.includes(answer))).toEqual([]);
    expect(failed.length).toBeLessThanOrEqual(Math.min(CLIENTS, inFlight.length));
    // No longer than it takes the kubelet to see that the process has ended, and kube-proxy to hear of it.
    expect(refused.filter(({ startedAt }) => startedAt < killed || startedAt > killed + NOTICED_MS)).toEqual(
      [],
    );
    // What the consumer held comes back when its visibility time is over: looked for in the end.
  });

  describe('under a load of orders', () => {
    let load: LoadPod;

    beforeAll(async () => {
      load = await startLoadPod({
        namespace: NAMESPACE,
        image,
        clients: CLIENTS,
        ordersPerSecond: ORDERS_PER_SECOND,
      });
      await load.more(100);
    }, 90_000);

    it('rolling update of both services to a new image', async () => {
      for (const service of SERVICES)
        await kubectl('set', 'image', `deployment/${service}`, `${service}=${service}:next`);
      for (const service of SERVICES) {
        await rolledOut(NAMESPACE, service);
        for (const { spec } of await runningPods(service))
          expect(spec.containers[0].image).toBe(`${service}:next`);
      }
      await goesOn(load);
    });

    it.each([
      ['that never gets ready', ['set', 'env', 'deployment/order-producer', 'HOST=127.0.0.1']],
      [
        'whose image is nowhere',
        ['set', 'image', 'deployment/order-producer', 'order-producer=order-producer:nowhere'],
      ],
    ])('release %s: the old one keeps serving, and undo takes it back', async (_name, change) => {
      const before = (await readyPods('order-producer')).map(({ metadata }) => metadata.uid).sort();
      await kubectl(...change);
      await expect(kubectl('rollout', 'status', 'deployment/order-producer', '--timeout=8s')).rejects.toThrow(
        'timed out',
      );
      expect((await readyPods('order-producer')).map(({ metadata }) => metadata.uid).sort()).toEqual(before);
      await goesOn(load);
      await kubectl('rollout', 'undo', 'deployment/order-producer');
      await rolledOut(NAMESPACE, 'order-producer');
      expect((await readyPods('order-producer')).map(({ metadata }) => metadata.uid).sort()).toEqual(before);
    });

    it('consumer scaled from 1 to 4 and back', async () => {
      await kubectl('scale', 'deployment/order-consumer', '--replicas=4');
      await rolledOut(NAMESPACE, 'order-consumer');
      await eventuallyInCluster(async () => {
        for (const pod of await readyPods('order-consumer'))
          expect(await processedBy(pod)).toBeGreaterThan(0);
      });
      // A stop may give an order back, but not the same one again and again, which the usual 20 receives would hide: what
      // comes into the DLQ here is found in the end.
      await setMaxReceives(3);
      await kubectl('scale', 'deployment/order-consumer', '--replicas=1');
      await eventuallyInCluster(async () => expect(await podsOf('order-consumer')).toHaveLength(1), 120_000);
      await goesOn(load);
      await setMaxReceives(MAX_RECEIVE_COUNT);
    });

    it('pods deleted one after the other, of both services at once', async () => {
      const deleteAll = async (service: string) => {
        for (const { metadata } of await readyPods(service)) {
          await kubectl('delete', 'pod', metadata.name);
          await rolledOut(NAMESPACE, service);
        }
      };
      await Promise.all(SERVICES.map(deleteAll));
      await goesOn(load);
    });

    it('eviction of every pod, as a drain does it: the disruption budget lets them go one by one', async () => {
      const evictAll = async (service: string) => {
        const pods = await readyPods(service);
        const firstAnswers = await Promise.all(pods.map(evict));
        expect(firstAnswers.filter((evicted) => evicted)).toHaveLength(1);
        for (const [index, pod] of pods.entries()) {
          if (firstAnswers[index]) continue;
          await eventuallyInCluster(async () => expect(await evict(pod)).toBe(true), 120_000);
        }
        await rolledOut(NAMESPACE, service);
      };
      await Promise.all(SERVICES.map(evictAll));
      await goesOn(load);
    });

    it('drain of a node, cordoned first: all of its pods are evicted, and replaced', async () => {
      const before = [...(await readyPods('order-producer')), ...(await readyPods('order-consumer'))];
      const [first] = before;
      if (!first) throw new Error('nothing is ready');
      const { nodeName } = first['spec'];
      const drained = before.filter(({ spec }) => spec.nodeName === nodeName);
      // Nobody else's, in whatever namespace.
      await kubectl('label', 'pods', '-l', `app in (${SERVICES.join(',')})`, `${DRAINED}=true`);
      try {
        await Promise.all([
          drain(nodeName),
          (await otherNodes(nodeName)) > 0 ? undefined : takesPodsAgain(nodeName),
        ]);
      } finally {
        await kubectl('uncordon', nodeName);
      }
      for (const service of SERVICES) await rolledOut(NAMESPACE, service);
      const left = (await Promise.all(SERVICES.map(runningPods))).flat().map(({ metadata }) => metadata.uid);
      expect(drained.filter(({ metadata }) => left.includes(metadata.uid))).toEqual([]);
      await goesOn(load);
    });

    it('in the end: no request failed, nothing lost, nothing twice, nothing dead-lettered', async () => {
      await load.stop();
      expect(load.failed()).toEqual([]);
      const accepted = [...acceptedBefore, ...load.accepted()];
      const report = await reconciled(NAMESPACE, accepted);
      expect(report).toMatchObject({
        ...NOTHING_WRONG,
        accepted: accepted.length,
        stored: accepted.length,
        deadLetterQueue: { messages: 0 },
      });
      expect(report.storedNeverAccepted).toBeLessThanOrEqual(maybeStored);
    });
  });
});

async function podsOf(service: string): Promise<Resource[]> {
  return (await kubectl.json<{ items: Resource[] }>('get', 'pods', '-l', `app=${service}`)).items;
}

const runningPods = async (service: string) =>
  (await podsOf(service)).filter(({ metadata }) => !metadata.deletionTimestamp);

async function readyPods(service: string): Promise<Resource[]> {
  const isReady = ({ status }: Resource) =>
    status.conditions?.some(
      ({ type, status }: { type: string; status: string }) => type === 'Ready' && status === 'True',
    );
  return (await runningPods(service)).filter(isReady);
}

async function restarts(podName: string): Promise<number> {
  return (await kubectl.json('get', 'pod', podName))['status'].containerStatuses[0].restartCount;
}

/** How often SQS hands out a message before it moves it to the DLQ by itself. */
async function setMaxReceives(maxReceiveCount: number): Promise<void> {
  await using localstack = await forwardPort(NAMESPACE, 'service/localstack', 4566);
  const url = `http://127.0.0.1:${localstack.port}`;
  const client = sqsClient({ AWS_ENDPOINT_URL: url });
  const QueueUrl = `${url}/000000000000/order-queue`;
  const { RedrivePolicy = '{}' } = await queueAttributes(client, QueueUrl);
  const changed = JSON.stringify({ ...JSON.parse(RedrivePolicy), maxReceiveCount });
  await client.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { RedrivePolicy: changed } }));
}

/** Whether the budget allowed it. */
async function evict({ metadata: { name } }: Resource): Promise<boolean> {
  const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: NAMESPACE } };
  const path = `/api/v1/namespaces/${NAMESPACE}/pods/${name}/eviction`;
  try {
    await kubectl.withInput(JSON.stringify(eviction), 'create', '--raw', path, '-f', '-');
    return true;
  } catch (error) {
    if (String(error).includes('disruption budget')) return false;
    throw error;
  }
}

/** As an administrator empties a node; of pods only the services', so that LocalStack and PostgreSQL keep what they hold. */
const drain = (nodeName: string) =>
  kubectl('drain', nodeName, `--pod-selector=${DRAINED}`, '--ignore-daemonsets', '--timeout=240s');

/** Nodes besides this one that take pods. */
async function otherNodes(nodeName: string): Promise<number> {
  const { items } = await kubectl.json<{ items: Resource[] }>('get', 'nodes');
  return items.filter(({ metadata, spec }) => metadata.name !== nodeName && !spec.unschedulable).length;
}

/**
 * Where there is one node, what takes the place of an evicted pod would wait for ever, and the disruption budget with it:
 * the node, once cordoned, takes pods again while its old ones are evicted.
 */
async function takesPodsAgain(nodeName: string): Promise<void> {
  await eventuallyInCluster(async () =>
    expect((await kubectl.json('get', 'node', nodeName))['spec'].unschedulable).toBe(true),
  );
  await kubectl('uncordon', nodeName);
}

/** How many orders a consumer has stored since it started. */
async function processedBy({ metadata: { name } }: Resource): Promise<number> {
  const metrics = await kubectl(
    'get',
    '--raw',
    `/api/v1/namespaces/${NAMESPACE}/pods/${name}:8081/proxy/metrics`,
  );
  return parseMetrics(metrics).sum('orders_processed_total');
}

/** Orders are accepted after all that happened, each client's next ones among them. */
const goesOn = (load: LoadPod) => load.more(5 * CLIENTS);
