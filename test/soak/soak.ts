import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { postOrder } from '../../bench/load.ts';
import { PipelineSupervisor } from '../../dev/pipeline.ts';
import { decimal, defineCommand, runCommand, type ValuesOf } from '../../scripts/command.ts';
import { scrape } from '../../scripts/prometheus-text.ts';
import { countOpenFiles } from '../faults/process-watch.ts';
import { growthsOf, type Sample, type Windows, windowsOf } from './verdict.ts';

export const command = defineCommand({
  name: 'npm run test:soak --',
  forContributors: true,
  summary:
    'Runs both services as processes, on the embedded emulator and database, under a steady load. Compares the median memory, and the lowest decile of handles and open files, of the last third of the time with the third before it, and reconciles every accepted order at the end (scripts/reconcile.sh). An hour at 1,000 orders per second takes about 5 GB in the temporary folder.',
  positionals: {},
  options: {
    minutes: {
      takes: 'N',
      description: 'duration in minutes',
      schema: decimal(0.01, 7 * 24 * 60).default(30),
    },
    rate: {
      takes: 'N',
      description:
        'orders per second; by default half the rate that a probe of 20 s measures, from the first request until the last order is stored',
      schema: decimal(0.01, 100_000).optional(),
    },
    report: {
      takes: 'FILE',
      description: 'writes the result, for test:faults:report',
      schema: z.string().optional(),
    },
  },
  changes: 'nothing.',
  exitStatuses: {
    0: 'all well',
    1: 'something grew, or was lost or stored twice',
    130: 'interrupted, and cleaned up',
  },
});

const SERVICES = ['producer', 'consumer'] as const;
const ROOT = path.join(import.meta.dirname, '..', '..');
const PROBE_MS = 20_000;
/** Not in step with the connections, all of which the producer gives up when they are 5 s old. */
const SAMPLE_MS = 3_700;
const CONNECTIONS = 50;
const UNRESOLVED = 3;
const WORKED_OFF_LIMIT_MS = 120_000;
const STORED_POLL_MS = 100;

/** The content of the report's file. */
export type SoakResult = {
  at: string;
  minutes: number;
  /** Orders a second: measured by the probe (not with --rate), aimed at, and reached. */
  topRate: number | undefined;
  rate: number;
  reachedRate: number;
  accepted: number;
  /** By status; 0 is no answer. */
  refused: Record<number, number>;
  windows: Record<(typeof SERVICES)[number], Windows>;
  reconcile: { accepted: number; stored: number; missing: number; storedTwice: number; deadLettered: number };
  problems: string[];
};

type Counts = { accepted: number; refused: Record<number, number> };

/** Places orders at that rate; what is late is made up for. */
async function load(
  agent: http.Agent,
  producerUrl: string,
  rate: number,
  durationMs: number,
): Promise<Counts> {
  const counts: Counts = { accepted: 0, refused: {} };
  const startedAt = performance.now();
  let next = 0;
  const connection = async () => {
    for (;;) {
      const dueInMs = startedAt + (next++ * 1_000) / rate - performance.now();
      if (performance.now() + Math.max(0, dueInMs) >= startedAt + durationMs) return;
      if (dueInMs > 1) await sleep(dueInMs);
      const status = await postOrder(producerUrl, agent, randomUUID());
      if (status === 202) counts.accepted++;
      else counts.refused[status] = (counts.refused[status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, connection));
  return counts;
}

/** How many there are follows how busy the machine is. */
const connectionsOf = ({ sockets, freeSockets }: http.Agent) =>
  [...Object.values(sockets), ...Object.values(freeSockets)].flat().length;

/** @param ours connections to the service, which are not counted */
async function sample(
  url: string,
  pid: number | undefined,
  atMs: number,
  ours: () => number,
): Promise<Sample> {
  const { value } = await scrape(url, { headers: { connection: 'close' } });
  return {
    atMs,
    residentBytes: residentBytes(pid) ?? value('process_resident_memory_bytes'),
    heapUsedBytes: value('nodejs_heap_size_used_bytes'),
    handles: value('nodejs_active_handles_total') - ours(),
    openFiles: (countOpenFiles(pid) ?? value('process_open_fds')) - ours(),
  };
}

/** As the kernel tells, where it does. */
function residentBytes(pid: number | undefined): number | undefined {
  const file = `/proc/${pid}/status`;
  const kilobytes = existsSync(file)
    ? /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(file, 'utf8'))?.[1]
    : undefined;
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1_024;
}

const storeOf = ({ dataDir }: PipelineSupervisor) => path.join(dataDir, 'orders.db');

/** How many orders a second are accepted and stored. The store is empty before. */
async function probe(pipeline: PipelineSupervisor, agent: http.Agent): Promise<number> {
  const startedAt = performance.now();
  const { accepted } = await load(agent, pipeline.urls.producer, Number.POSITIVE_INFINITY, PROBE_MS);
  const store = new DatabaseSync(storeOf(pipeline), { readOnly: true });
  try {
    const rows = store.prepare('SELECT count(*) AS count FROM orders');
    while (Number(rows.get()?.['count']) < accepted) {
      if (performance.now() - startedAt > PROBE_MS + WORKED_OFF_LIMIT_MS)
        throw new Error('what the probe sent is not stored');
      await sleep(STORED_POLL_MS);
    }
  } finally {
    store.close();
  }
  return Math.round((accepted * 1_000) / (performance.now() - startedAt));
}

/** Looks until everything is worked off. */
async function reconcile(pipeline: PipelineSupervisor, journal: string) {
  const script = path.join(ROOT, 'scripts', 'reconcile.ts');
  const deadline = performance.now() + WORKED_OFF_LIMIT_MS;
  for (;;) {
    const tool = spawn(process.execPath, [script, journal, '--json'], {
      env: {
        ...process.env,
        AWS_ENDPOINT_URL: pipeline.urls.emulator,
        // Would win over the line above.
        AWS_ENDPOINT_URL_SQS: '',
        DATABASE_URL: `sqlite:${storeOf(pipeline)}`,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise<number | null>((resolve) => tool.once('close', resolve));
    const report = await text(tool.stdout);
    const status = await ended;
    if (status === UNRESOLVED && performance.now() < deadline) continue;
    return { status, report: JSON.parse(report) };
  }
}

async function soak(
  pipeline: PipelineSupervisor,
  journal: string,
  minutes: number,
  given: number | undefined,
): Promise<SoakResult> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const problems: string[] = [];
  const at = new Date().toISOString();
  const topRate = given === undefined ? await probe(pipeline, agent) : undefined;
  const rate = given ?? Math.floor((topRate as number) / 2);
  console.log(`${rate} orders a second for ${minutes} minutes${topRate ? `, of ${topRate}` : ''}`);

  const durationMs = minutes * 60_000;
  const samples = { producer: [] as Sample[], consumer: [] as Sample[] };
  const pids = SERVICES.map((name) => pipeline.pid(name));
  const startedAt = performance.now();
  const look = async () => {
    const atMs = performance.now() - startedAt;
    for (const name of SERVICES) {
      const url = name === 'producer' ? pipeline.urls.producer : pipeline.urls.consumer;
      const ours = () => (name === 'producer' ? connectionsOf(agent) : 0);
      samples[name].push(await sample(url, pipeline.pid(name), atMs, ours));
    }
  };
  const timer = setInterval(
    () => look().catch((error) => problems.push(`no sample: ${error.message}`)),
    SAMPLE_MS,
  );
  const { accepted, refused } = await load(agent, pipeline.urls.producer, rate, durationMs);
  const reachedRate = Math.round((accepted * 1_000) / (performance.now() - startedAt));
  clearInterval(timer);
  agent.destroy();

  const { status, report } = await reconcile(pipeline, journal);
  if (status !== 0) problems.push(`reconcile: ${report.verdict}`);
  SERVICES.forEach((name, index) => {
    if (pipeline.pid(name) !== pids[index]) problems.push(`${name} was started again`);
  });
  const windows = {
    producer: windowsOf(samples.producer, durationMs),
    consumer: windowsOf(samples.consumer, durationMs),
  };
  problems.push(...SERVICES.flatMap((name) => growthsOf(name, windows[name])));
  if (Object.keys(refused).length > 0) problems.push(`refused, by status: ${JSON.stringify(refused)}`);
  const { stored, deadLettered, missing, storedTwice } = report;
  const found = { accepted: report.accepted, stored, deadLettered, missing, storedTwice };
  return { at, minutes, topRate, rate, reachedRate, accepted, refused, windows, reconcile: found, problems };
}

if (import.meta.main) await runCommand(command, main);

async function main({ minutes, rate, report }: ValuesOf<typeof command>): Promise<number> {
  // Made by the pipeline, so that there is nothing to leave behind before a signal is listened for.
  const dataDir = path.join(tmpdir(), `soak-${randomUUID()}`);
  const journal = path.join(dataDir, 'accepted.ndjson');
  const pipeline = new PipelineSupervisor({
    dataDir,
    ports: 'free',
    env: { producer: { ACCEPTANCE_JOURNAL: journal } },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, async () => {
      await pipeline.kill();
      rmSync(dataDir, { recursive: true, force: true });
      process.exit(130);
    });
  try {
    await pipeline.start();
    const result = await soak(pipeline, journal, minutes, rate);
    console.log(JSON.stringify(result, undefined, 2));
    if (report) writeFileSync(report, `${JSON.stringify(result, undefined, 2)}\n`);
    const failed = result.problems.length > 0;
    console.log(failed ? '0 passed, 1 failed, 0 skipped' : '1 passed, 0 failed, 0 skipped');
    return failed ? 1 : 0;
  } finally {
    await pipeline.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}
