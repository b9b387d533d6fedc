import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findPostgres, PostgresServer } from '../../dev/postgres-server.ts';
import type { Contestant, ContestResult, Figures, Pace } from '../contest.ts';
import { measure } from '../contest.ts';
import { LIKE_PRODUCTION, MeasuredProcess } from '../process.ts';
import { queueUrlOf, startEmulator, startSink, withLatency } from '../servers/start.ts';
import type { Suite, SuiteContext } from '../suite.ts';
import { consumerOf, OURS, shared } from './consume.ts';

const LATENCY_MS = 15;
/** The smallest ones. */
const QUICK_POINTS = 1;

/** A curve: the contestants are its points, and their names what stands on the axis. */
function curve(
  { compete, quick }: SuiteContext,
  title: string,
  points: number[],
  contestant: (x: number) => Omit<Contestant, 'name'>,
) {
  const contestants = points
    .slice(0, quick ? QUICK_POINTS : points.length)
    .map((x) => ({ ...contestant(x), name: String(x) }));
  return compete({ title, reference: String(points[0]), contestants }, { rounds: 3 });
}

const withPlaces = (pollers: number) => ({
  ...OURS,
  settings: `POLLERS=${pollers} MAX_IN_WORK=${10 * (pollers + 1)}`,
  env: { MAX_IN_WORK: String(10 * (pollers + 1)) },
});

/** How the cost grows: one thing at a time, the rest as in `consume`. */
export const growth: Suite = {
  run: async (context) => {
    const far = await withLatency(await startSink(), LATENCY_MS);
    const pollers = await curve(context, `Growth: pollers, ${LATENCY_MS} ms away`, [1, 2, 5, 10], (x) =>
      consumerOf(withPlaces(x), shared(far), { pollers: x }),
    );
    const consumers = await curve(
      context,
      `Growth: consumers with 2 pollers each, ${LATENCY_MS} ms away`,
      [1, 2, 3, 4],
      (x) => ({ settings: `${x} processes`, run: (pace) => manyConsumers(x, far, pace) }),
    );
    await far.stop();
    const bytes = await curve(
      context,
      'Growth: bytes of an order',
      [500, 2_000, 10_000, 50_000, 200_000],
      (x) => consumerOf(OURS, () => startSink({ orderBytes: x })),
    );
    const waiting = await curve(
      context,
      'Growth: orders waiting in the emulator',
      [1_000, 10_000, 100_000, 1_000_000],
      (x) => consumerOf(OURS, () => startEmulator(x), { waiting: x }),
    );
    return [
      pollers,
      consumers,
      bytes,
      waiting,
      await rowsInSqlite(context),
      ...(await rowsInPostgres(context)),
    ];
  },
};

async function manyConsumers(
  count: number,
  { endpoint, sink }: { endpoint: string; sink: MeasuredProcess },
  pace: Pace,
): Promise<Figures> {
  const job = JSON.stringify({ endpoint, queueUrl: queueUrlOf(endpoint), pollers: 2 });
  const env = { ...LIKE_PRODUCTION, AWS_ENDPOINT_URL: endpoint, POLLERS: '2', MAX_IN_WORK: '30' };
  const workers = await Promise.all(
    Array.from({ length: count }, () => MeasuredProcess.start(OURS.script, { args: [job], env })),
  );
  try {
    const figures = await Promise.all(
      workers.map((worker) => measure({ counter: sink, worker, sink }, pace)),
    );
    const cpu = figures.map(({ cpuPer10000 = 0 }) => cpuPer10000).reduce((sum, value) => sum + value);
    return { ...figures[0], cpuPer10000: cpu };
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()));
  }
}

async function rowsInSqlite(context: SuiteContext): Promise<ContestResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'bench-rows-'));
  try {
    return await storeRows(context, 'Growth: rows in SQLite', path.join(folder, 'orders.db'));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Nothing, where no server's binaries are on this machine. */
async function rowsInPostgres(context: SuiteContext): Promise<ContestResult[]> {
  const binaries = findPostgres();
  if (!binaries) {
    context.note('Growth: rows in PostgreSQL: left out, no binaries of a server are on this machine');
    return [];
  }
  const server = await PostgresServer.start(binaries, { durable: true });
  try {
    const url = await server.createDatabase('bench');
    // What was written to fill it is on disk before anything is measured.
    const settle = async () => void (await server.sql('CHECKPOINT'));
    return [await storeRows(context, 'Growth: rows in PostgreSQL', url, settle)];
  } finally {
    await server.stop();
  }
}

/** One store that grows from point to point; saves and look-ups of single orders. */
async function storeRows(
  context: SuiteContext,
  title: string,
  place: string,
  settle: () => Promise<void> = async () => {},
): Promise<ContestResult> {
  const points = context.quick ? [0, 10_000] : [0, 100_000, 1_000_000, 10_000_000];
  const rows = [];
  for (const x of points) {
    const run = async (pace: Pace): Promise<Figures> => {
      const worker = await MeasuredProcess.start('bench/peers/store-rows.ts', {
        args: [place, String(x)],
        startTimeoutMs: 1_200_000,
      });
      try {
        await settle();
        const figures = await measure({ counter: worker, worker }, pace);
        const { counts } = await worker.sample();
        return { ...figures, p50Ms: (counts['p50Us'] ?? 0) / 1_000, p99Ms: (counts['p99Us'] ?? 0) / 1_000 };
      } finally {
        await worker.stop();
      }
    };
    const contestants = [{ name: String(x), settings: 'saves of 50, look-ups of one', run }];
    rows.push(...(await context.compete({ title, reference: '0', contestants }, { rounds: 3 })).rows);
  }
  return { title, reference: '0', rows };
}
