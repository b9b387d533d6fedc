import type { Contestant, Pace } from '../contest.ts';
import { measure } from '../contest.ts';
import type { ConsumeJob } from '../peers/consume-job.ts';
import { LIKE_PRODUCTION, MeasuredProcess } from '../process.ts';
import { type Backend, queueUrlOf, startEmulator, startSink, withLatency } from '../servers/start.ts';
import type { Suite } from '../suite.ts';

/** As many as the others have: five consumers, or loops. */
const POLLERS = 5;
const LATENCY_MS = 15;
/** Enough for many requests of a thousand. */
export const PACKED_ORDERS = 500_000;
/** More than any contestant takes from the emulator in the time of a run. */
const WAITING = 15_000;

export type ConsumePeer = Omit<Contestant, 'run'> & {
  script: string;
  args?: string[];
  env?: NodeJS.ProcessEnv;
};

export const OURS: ConsumePeer = {
  name: 'order-consumer',
  settings: 'POLLERS=5 MAX_IN_WORK=60; reads and checks each order',
  script: 'bench/peers/order-consumer.ts',
  env: { MAX_IN_WORK: '60' },
};
/** What a handler that does nothing costs, as it is measured of the peers. */
const OURS_NOOP: ConsumePeer = {
  ...OURS,
  name: 'order-consumer, no-op handler',
  settings: 'POLLERS=5 MAX_IN_WORK=60; does not read the order',
  args: ['no-op'],
};
const OURS_BY_DEFAULT: ConsumePeer = {
  ...OURS,
  name: 'order-consumer, defaults',
  settings: 'POLLERS=2 MAX_IN_WORK=10; reads and checks each order',
  env: { MAX_IN_WORK: '10', POLLERS: '2' },
};
const PACKED: ConsumePeer = {
  ...OURS,
  name: 'order-consumer, packed',
  settings: 'POLLERS=5 MAX_IN_WORK=60, 100 orders a message',
};
export const BATCH_HANDLER: ConsumePeer = {
  name: 'sqs-consumer, batch handler',
  settings: '5 consumers, batchSize 10, handleMessageBatch',
  script: 'bench/peers/sqs-consumer.ts',
};
export const MESSAGE_HANDLER: ConsumePeer = {
  name: 'sqs-consumer, message handler',
  settings: '5 consumers, batchSize 10, handleMessage',
  script: 'bench/peers/sqs-consumer.ts',
  args: ['per-message'],
};
export const TOOLKIT: ConsumePeer = {
  name: 'message-queue-toolkit',
  settings: 'concurrentConsumersAmount 5, batchSize 10; no batch handler',
  script: 'bench/peers/toolkit.ts',
};
const POWERTOOLS: ConsumePeer = {
  name: 'powertools batch',
  settings: 'BatchProcessor on 5 loops, deletes of 10',
  script: 'bench/peers/powertools.ts',
};
export const RAW: ConsumePeer = {
  name: 'SDK loop',
  settings: '5 loops, receive 10, delete 10',
  script: 'bench/peers/raw-consume.ts',
  args: ['sdk'],
};
const RAW_TUNED: ConsumePeer = {
  ...RAW,
  name: 'SDK loop, tuned client',
  settings: '5 loops, receive 10, delete 10, our SQS_CLIENT=tuned',
  args: ['tuned'],
};
const LIMIT: ConsumePeer = {
  ...RAW,
  name: 'no SDK, the limit',
  settings: '5 loops, delete overlaps the next receive',
  args: ['none', 'overlap'],
};

/** One that works off what the backend has. */
export function consumerOf(
  { script, args = [], env = {}, ...peer }: ConsumePeer,
  backend: () => Promise<Backend>,
  options: { pollers?: number; waiting?: number; database?: () => Promise<string> } = {},
): Contestant {
  const { pollers = POLLERS, waiting, database } = options;
  const run = async (pace: Pace) => {
    const { endpoint, sink, stop } = await backend();
    const job: ConsumeJob = {
      endpoint,
      queueUrl: queueUrlOf(endpoint),
      pollers,
      ...(database ? { database: await database() } : {}),
    };
    const worker = await MeasuredProcess.start(script, {
      args: [JSON.stringify(job), ...args],
      env: { ...LIKE_PRODUCTION, AWS_ENDPOINT_URL: endpoint, POLLERS: String(pollers), ...env },
    });
    try {
      const available = waiting === undefined ? {} : { available: waiting };
      return await measure({ counter: worker, worker, ...(sink ? { sink } : {}), ...available }, pace);
    } finally {
      await worker.stop();
      await stop();
    }
  };
  return { ...peer, run };
}

/** A backend that outlives its contestants. */
export const shared = (backend: Backend) => async () => ({ ...backend, stop: async () => {} });

/** What it takes to get orders out of the queue: nothing is done with them. */
export const consume: Suite = {
  run: async ({ compete, quick }) => {
    const sink = await startSink();
    const near = shared(sink);
    const peers = [
      OURS_NOOP,
      OURS,
      OURS_BY_DEFAULT,
      BATCH_HANDLER,
      MESSAGE_HANDLER,
      TOOLKIT,
      POWERTOOLS,
      RAW,
      RAW_TUNED,
      LIMIT,
    ];
    const results = [
      await compete({
        title: 'Consume, nothing done with the order',
        reference: OURS.name,
        contestants: peers.map((peer) => consumerOf(peer, near)),
      }),
    ];
    const packed = await startSink({ ordersAMessage: 100 });
    results.push(
      await compete(
        {
          title: 'Consume packed, 100 orders a message',
          reference: PACKED.name,
          contestants: [consumerOf(PACKED, shared(packed))],
        },
        { orders: PACKED_ORDERS },
      ),
    );
    await packed.stop();
    const far = await withLatency(sink, LATENCY_MS);
    results.push(
      await compete(
        {
          title: `Consume, one poller, ${LATENCY_MS} ms away`,
          reference: OURS.name,
          contestants: [
            { ...OURS, settings: 'POLLERS=1 MAX_IN_WORK=60' },
            { ...BATCH_HANDLER, settings: '1 consumer, batchSize 10, handleMessageBatch' },
            { ...RAW, settings: '1 loop, receive 10, delete 10' },
          ].map((peer) => consumerOf(peer, shared(far), { pollers: 1 })),
        },
        { rounds: 3 },
      ),
    );
    await far.stop();
    const waiting = quick ? 3_000 : WAITING;
    results.push(
      await compete(
        {
          title: 'Consume, from the embedded emulator',
          reference: OURS.name,
          contestants: [OURS, BATCH_HANDLER, MESSAGE_HANDLER].map((peer) =>
            consumerOf(peer, () => startEmulator(waiting), { waiting }),
          ),
        },
        { rounds: 3 },
      ),
    );
    return results;
  },
};
