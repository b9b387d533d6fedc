import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { contentHash } from '@orders/shared/order/order.ts';
import type { Fault, FaultScene } from './fault.ts';
import { pour } from './floods.ts';
import { createSubmission } from './workload.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const OLD_ORDERS = 300;
const REDRIVEN = 60;
const DAY_MS = 24 * 60 * 60 * 1_000;
/** Older than retention keeps, and longer ago than any clock jumps. */
const OLD_DAYS = 400;
/**
 * A tool that still runs then, with SQS and store in order, does not end. Beside a flood, two redrives at {@link REDRIVEN} / 4
 * a second have 360 messages to move, some of them twice.
 */
const TOOL_LIMIT_MS = 60_000;
/** Where a disk ends that is full, in blocks of 512 bytes (POSIX, `ulimit -f`). */
const FULL_AT_BLOCKS = 16;

export const TOOL_FAULTS: readonly Fault[] = [
  { name: 'two redrives', needs: { late: true }, run: redriveTwice },
  { name: 'retention', needs: {}, run: retain },
];

/** Where retention of a trial keeps its archives. */
export const archiveFolder = (folder: string) => path.join(folder, 'archives');

/** Resolves with its exit status; undefined when it did not end in time, and was killed. */
function runTool(
  script: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  { blocks, killAfterMs }: { blocks?: number; killAfterMs?: number } = {},
): Promise<number | null | undefined> {
  const command = [process.execPath, path.join(ROOT, 'scripts', script), ...args];
  const limited = `ulimit -f ${blocks ?? 'unlimited'} && exec "$@"`;
  const tool = spawn('/bin/sh', ['-c', limited, 'sh', ...command], { env, stdio: 'ignore' });
  return new Promise((resolve) => {
    let late = false;
    const limit = setTimeout(() => {
      late = killAfterMs === undefined;
      tool.kill('SIGKILL');
    }, killAfterMs ?? TOOL_LIMIT_MS);
    tool.once('exit', (status) => {
      clearTimeout(limit);
      resolve(late ? undefined : status);
    });
  });
}

/** Two operators at once, for long enough to meet, with messages that come back whenever they are moved. */
async function redriveTwice(scene: FaultScene): Promise<number> {
  const { toolEnv, toolFailed, note } = scene;
  await pour(scene, 'unreadable', { messages: REDRIVEN, orders: 1 });
  const args = ['redrive', `--rate=${REDRIVEN / 4}`];
  const ends = await Promise.all([1, 2].map(() => runTool('dlq.ts', args, toolEnv)));
  note(`redrives ended with ${ends.join(' and ')}`);
  for (const end of ends) if (end === undefined) toolFailed('a redrive beside another one did not end');
  return ends.length;
}

/**
 * Orders of long ago are moved to archives, beside the load: by one run that is killed, by one whose disk is full, by two
 * at once, and by one that is left alone. Its strikes are runs.
 */
async function retain({
  random,
  store,
  folder,
  model,
  sent,
  toolEnv,
  toolFailed,
  note,
}: FaultScene): Promise<number> {
  const { orderId: _orderId, ...order } = model;
  const old = Array.from({ length: OLD_ORDERS }, () => ({
    ...createSubmission({ ...order, customerId: 'C-old' }, 'own id', randomUUID()),
    storedLongAgo: true as const,
    repeatable: false,
  }));
  const answered = (answer: 'accepted' | 'unknown') => sent.orders(old.map((each) => ({ ...each, answer })));
  try {
    const rows = old.map((submission) => ({
      order: submission.order,
      contentHash: contentHash(submission.order),
    }));
    await store.plant(rows, new Date(Date.now() - OLD_DAYS * DAY_MS));
  } catch {
    note('another fault has the store, and some old orders perhaps');
    answered('unknown');
    return 0;
  }
  answered('accepted');
  const archives = archiveFolder(folder);
  mkdirSync(archives, { recursive: true });
  const env = { ...toolEnv, DATABASE_URL: store.url };
  const args = ['--keep-days=30', `--archive=${path.join(archives, 'orders.ndjson.gz')}`];
  const run = (how = {}) => runTool('retention.ts', args, env, how);
  const runs = random.shuffle([
    () => run({ killAfterMs: random.between(150, 700) }),
    () => run({ blocks: FULL_AT_BLOCKS }),
    () => Promise.all([run(), run()]),
  ]);
  const ends: unknown[] = [];
  for (const each of runs.slice(0, random.integer(1, runs.length))) ends.push(await each());
  await sleep(random.between(0, 200));
  ends.push(await run());
  note(`retention ended with ${JSON.stringify(ends)}`);
  if (ends.flat().includes(undefined)) toolFailed('retention did not end');
  return ends.flat().length;
}
