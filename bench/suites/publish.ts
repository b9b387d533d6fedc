import { type Contestant, measure, type Pace } from '../contest.ts';
import type { PublishJob } from '../peers/publish-job.ts';
import { LIKE_PRODUCTION, MeasuredProcess } from '../process.ts';
import { type Backend, queueUrlOf, startEmulator, startSink, withLatency } from '../servers/start.ts';
import type { Suite } from '../suite.ts';
import { PACKED_ORDERS, shared } from './consume.ts';

const IN_FLIGHT = 20;
const LATENCY_MS = 15;

type PublishPeer = Omit<Contestant, 'run'> & { script: string; args?: string[]; env?: NodeJS.ProcessEnv };

const OURS: PublishPeer = {
  name: 'order-producer',
  settings: '200 callers with one order each, PUBLISH_MAX_IN_FLIGHT=20',
  script: 'bench/peers/order-publisher.ts',
};
const ARRAYS: PublishPeer = {
  name: 'sqs-producer, arrays',
  settings: '20 callers with arrays of 10',
  script: 'bench/peers/sqs-producer.ts',
};
const PACKED: PublishPeer = {
  ...OURS,
  name: 'order-producer, packed',
  settings: '20 callers with 500 orders each as of POST /orders/batch, PUBLISH_PACKING=on',
  env: { PUBLISH_PACKING: 'on', PUBLISH_MAX_IN_FLIGHT: '10', PUBLISH_BUFFER_ORDERS: '20000' },
};
const PEERS: PublishPeer[] = [
  OURS,
  ARRAYS,
  {
    name: 'sqs-producer, single',
    settings: '200 callers with one message each',
    script: 'bench/peers/sqs-producer.ts',
    args: ['single'],
  },
  {
    name: 'message-queue-toolkit',
    settings: '200 callers with one message each; no batches',
    script: 'bench/peers/toolkit.ts',
    args: ['publish'],
  },
  {
    name: 'SDK, batches',
    settings: '20 batches of 10 in flight',
    script: 'bench/peers/raw-publish.ts',
    args: ['sdk'],
  },
  {
    name: 'SDK, batches, tuned client',
    settings: '20 batches of 10 in flight, our SQS_CLIENT=tuned',
    script: 'bench/peers/raw-publish.ts',
    args: ['tuned'],
  },
  {
    name: 'no SDK, the limit',
    settings: '20 batches of 10 in flight',
    script: 'bench/peers/raw-publish.ts',
    args: ['none'],
  },
];

function publisherOf(
  { script, args = [], env = {}, ...peer }: PublishPeer,
  backend: () => Promise<Backend>,
): Contestant {
  const run = async (pace: Pace) => {
    const { endpoint, sink, stop } = await backend();
    const job: PublishJob = { endpoint, queueUrl: queueUrlOf(endpoint), batchesInFlight: IN_FLIGHT };
    const worker = await MeasuredProcess.start(script, {
      args: [JSON.stringify(job), ...args],
      env: {
        ...LIKE_PRODUCTION,
        AWS_ENDPOINT_URL: endpoint,
        PUBLISH_MAX_IN_FLIGHT: String(IN_FLIGHT),
        ...env,
      },
    });
    try {
      return await measure({ counter: worker, worker, ...(sink ? { sink } : {}) }, pace);
    } finally {
      await worker.stop();
      await stop();
    }
  };
  return { ...peer, run };
}

/** What it takes to get orders into the queue, each confirmed. */
export const publish: Suite = {
  run: async ({ compete }) => {
    const sink = await startSink();
    const far = await withLatency(sink, LATENCY_MS);
    const contest = (
      title: string,
      peers: PublishPeer[],
      backend: () => Promise<Backend>,
      pace: Partial<Pace> = {},
    ) => {
      const contestants = peers.map((peer) => publisherOf(peer, backend));
      return compete({ title, reference: peers[0]?.name ?? '', contestants }, pace);
    };
    const results = [
      await contest('Publish', PEERS, shared(sink)),
      await contest('Publish packed', [PACKED], shared(sink), { orders: PACKED_ORDERS }),
      await contest(`Publish, ${LATENCY_MS} ms away`, [OURS, ARRAYS], shared(far), { rounds: 3 }),
    ];
    await far.stop();
    const emulator = () => startEmulator(0);
    results.push(await contest('Publish to the embedded emulator', [OURS, ARRAYS], emulator, { rounds: 3 }));
    return results;
  },
};
