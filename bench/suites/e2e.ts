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

type Load = { accepted: [orderId: string, at: number][]; refused: number };

async function post(producerUrl: string, seconds: number): Promise<Load> {
  const args = [producerUrl, String(PER_SECOND), String(seconds)];
  const load = await MeasuredProcess.start('bench/servers/steady-load.ts', { args });
  await load.stop();
  return load.details as Load;
}

/** When each order was stored, by the store's own clock, as soon as all are. */
async function storedAt(file: string, ids: readonly string[]): Promise<Map<string, number>> {
  const db = new DatabaseSync(file, { readOnly: true });
  const count = db.prepare('SELECT count(*) AS count FROM orders');
  const read = db.prepare('SELECT order_id AS id, stored_at AS at FROM orders');
  const end = performance.now() + PATIENCE_MS;
  while (Number(count.get()?.['count']) < ids.length && performance.now() < end) await sleep(200);
  const all = new Map(read.all().map(({ id, at }) => [String(id), Date.parse(String(at))]));
  db.close();
  return all;
}

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
    const warm = await post(pipeline.producerUrl, WARM_SECONDS);
    const before = await Promise.all(urls.map(readFigures));
    let load: Load = { accepted: [], refused: 0 };
    const peaks = await watchPeakMemory(urls, async () => {
      load = await post(pipeline.producerUrl, seconds);
    });
    const after = await Promise.all(urls.map(readFigures));
    const ids = [...warm.accepted, ...load.accepted].map(([id]) => id);
    const stored = await storedAt(path.join(dataDir, 'orders.db'), ids);
    const delays = load.accepted
      .map(([id, acceptedAt]) => Math.max(0, (stored.get(id) ?? Number.POSITIVE_INFINITY) - acceptedAt))
      .toSorted((a, b) => a - b);
    if (load.refused > 0 || delays.at(-1) === Number.POSITIVE_INFINITY) {
      throw new Error(`${load.refused} orders refused, or not all accepted ones stored in time`);
    }
    const quantile = (share: number) => delays[Math.floor(delays.length * share)] ?? Number.NaN;
    const times = load.accepted.map(([, at]) => at);
    const cpu = (index: number) => (after[index]?.cpuSeconds ?? 0) - (before[index]?.cpuSeconds ?? 0);
    const requests = (index: number) => (after[index]?.sqsRequests ?? 0) - (before[index]?.sqsRequests ?? 0);
    return {
      perSecond: (delays.length / (Math.max(...times) - Math.min(...times))) * 1_000,
      p50Ms: quantile(0.5),
      p99Ms: quantile(0.99),
      cpuPer10000: ((cpu(0) + cpu(1)) / delays.length) * 10_000,
      requestsPer1000: ((requests(0) + requests(1)) / delays.length) * 1_000,
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

/** From 202 to the store, at a steady rate, everything on this machine: emulator, both services, load. */
export const e2e: Suite = {
  run: async ({ compete }) => [
    await compete(
      {
        title: `Accepted to stored, ${PER_SECOND.toLocaleString('en-US')} orders/s`,
        reference: 'both services',
        contestants: [
          contestant('both services', 'POLLERS=5 MAX_IN_WORK=60', { POLLERS: '5', MAX_IN_WORK: '60' }),
          contestant('both services, defaults', 'POLLERS=2 MAX_IN_WORK=10', {}),
        ],
      },
      { rounds: 3 },
    ),
  ],
};
