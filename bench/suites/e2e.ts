import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { startPipeline } from '../../dev/pipeline.ts';
import type { Contestant, Figures, Pace } from '../contest.ts';
import { MeasuredProcess } from '../process.ts';
import { readFigures, watchPeakMemory } from '../service-metrics.ts';
import type { Suite } from '../suite.ts';

const PER_SECOND = 1_000;
const WARM_SECONDS = 3;
const PATIENCE_MS = 20_000;
const LOOK_MS = 2;

type Load = { accepted: [orderId: string, sentAt: number, answeredAt: number][]; refused: number };
/** From the sending of each request, in order of their length. */
type Delays = { answerMs: number[]; commitMs: number[]; perSecond: number };

async function post(producerUrl: string, seconds: number): Promise<Load> {
  const args = [producerUrl, String(PER_SECOND), String(seconds)];
  const load = await MeasuredProcess.start('bench/servers/steady-load.ts', { args });
  await load.stop();
  return load.details as Load;
}

/**
 * Posts, and watches the store until all are in it. The store's own time of an order is that of its insert: the commit
 * has come when another connection sees the order, and that is looked for every few ms.
 */
async function postAndWatch(producerUrl: string, file: string, seconds: number): Promise<Delays> {
  const db = new DatabaseSync(file, { readOnly: true });
  const read = db.prepare('SELECT rowid AS row, order_id AS id FROM orders WHERE rowid > ? ORDER BY rowid');
  const committedAt = new Map<string, number>();
  let lastRow = Number(db.prepare('SELECT max(rowid) AS row FROM orders').get()?.['row'] ?? 0);
  const look = () => {
    const rows = read.all(lastRow);
    const now = Date.now();
    for (const { row, id } of rows) {
      committedAt.set(String(id), now);
      lastRow = Number(row);
    }
  };
  const timer = setInterval(look, LOOK_MS);
  try {
    const { accepted, refused } = await post(producerUrl, seconds);
    const end = performance.now() + PATIENCE_MS;
    const allCommitted = () => accepted.every(([id]) => committedAt.has(id));
    while (!allCommitted() && performance.now() < end) await sleep(50);
    if (refused > 0 || !allCommitted()) {
      throw new Error(`${refused} orders refused, or not all accepted ones stored in time`);
    }
    const answers = accepted.map(([, , answeredAt]) => answeredAt);
    const ascending = (a: number, b: number) => a - b;
    return {
      answerMs: accepted.map(([, sentAt, answeredAt]) => answeredAt - sentAt).toSorted(ascending),
      commitMs: accepted.map(([id, sentAt]) => Number(committedAt.get(id)) - sentAt).toSorted(ascending),
      perSecond: (accepted.length / (Math.max(...answers) - Math.min(...answers))) * 1_000,
    };
  } finally {
    clearInterval(timer);
    db.close();
  }
}

const quantile = (sorted: number[], share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;

async function run(env: NodeJS.ProcessEnv, seconds: number): Promise<Figures> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'bench-e2e-'));
  const quietEnv = { LIBRARY_LOG_LEVEL: 'warn' };
  const pipeline = await startPipeline({
    dataDir,
    ports: 'free',
    quiet: true,
    env: { producer: quietEnv, consumer: { ...quietEnv, ...env } },
  });
  try {
    const urls = [pipeline.producerUrl, pipeline.consumerUrl];
    const load = (seconds: number) =>
      postAndWatch(pipeline.producerUrl, path.join(dataDir, 'orders.db'), seconds);
    await load(WARM_SECONDS);
    const before = await Promise.all(urls.map(readFigures));
    let delays: Delays = { answerMs: [], commitMs: [], perSecond: 0 };
    const peaks = await watchPeakMemory(urls, async () => {
      delays = await load(seconds);
    });
    const after = await Promise.all(urls.map(readFigures));
    const { answerMs, commitMs, perSecond } = delays;
    const cpu = (index: number) => (after[index]?.cpuSeconds ?? 0) - (before[index]?.cpuSeconds ?? 0);
    const requests = (index: number) => (after[index]?.sqsRequests ?? 0) - (before[index]?.sqsRequests ?? 0);
    return {
      perSecond,
      p50Ms: quantile(commitMs, 0.5),
      p99Ms: quantile(commitMs, 0.99),
      answerP50Ms: quantile(answerMs, 0.5),
      answerP99Ms: quantile(answerMs, 0.99),
      cpuPer10000: ((cpu(0) + cpu(1)) / commitMs.length) * 10_000,
      requestsPer1000: ((requests(0) + requests(1)) / commitMs.length) * 1_000,
      peakMegabytes: Math.max(...peaks.values()) / 1e6,
    };
  } finally {
    await pipeline.stop();
    await rm(dataDir, { recursive: true });
  }
}

const contestant = (name: string, settings: string, env: NodeJS.ProcessEnv): Contestant => ({
  name,
  settings,
  run: ({ measureMs }: Pace) => run(env, Math.max(2, Math.round(measureMs / 250))),
});

const COUNTS_FROM =
  'p50 and p99 count from the sending of POST /orders until another connection sees the commit';

/** From the client to the store, at a steady rate, everything on this machine: emulator, both services, load. */
export const e2e: Suite = {
  run: async ({ compete }) => [
    await compete(
      {
        title: `From sending to commit, ${PER_SECOND.toLocaleString('en-US')} orders/s`,
        reference: 'both services',
        contestants: [
          contestant('both services', `POLLERS=5 MAX_IN_WORK=60; ${COUNTS_FROM}`, {
            POLLERS: '5',
            MAX_IN_WORK: '60',
          }),
          contestant('both services, defaults', `POLLERS=2 MAX_IN_WORK=10; ${COUNTS_FROM}`, {}),
        ],
      },
      { rounds: 3 },
    ),
  ],
};
