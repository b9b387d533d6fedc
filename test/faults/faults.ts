import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault, FaultScene } from './fault.ts';
import { FLOODS } from './floods.ts';
import type { Random } from './random.ts';
import type { ServiceProcess } from './service-process.ts';
import type { EntryFailure, SqsFault } from './sqs-fault-proxy.ts';
import { lockSqlite, STORE_FAULTS, slowPostgres } from './store-faults.ts';
import { TOOL_FAULTS } from './tool-faults.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
/** Longer than the campaign's visibility time of 5 s. */
const STALL_MS = { min: 5_500, max: 7_000 };
const READY_TIMEOUT_MS = 60_000;
const REDRIVE_TIMEOUT_MS = 10_000;
const CLOCK_TOLERANCE_MS = 60_000;
/** Longer than a client waits for its answer. */
const CREDENTIALS_HANG_MS = 14_000;

const SEND = ['SendMessageBatch'];
const DELETE = ['DeleteMessageBatch'];
const RECEIVE = ['ReceiveMessage'];
const EXTEND = ['ChangeMessageVisibilityBatch'];

/**
 * What SQS answers of an entry that passes, with either flag: the errors of SendMessageBatch, those common to all
 * operations, and one that nobody has heard of.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html#API_SendMessageBatch_Errors
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
 */
const PASSING_FAILURES: readonly EntryFailure[] = [
  'RequestThrottled',
  'ThrottlingException',
  'KMS.ThrottlingException',
  'KmsThrottled',
  'InternalError',
  'InternalFailure',
  'ServiceUnavailable',
  'RequestExpired',
  'ExpiredTokenException',
  'Campaign.NeverHeardOf',
].flatMap((code) => [true, false].map((senderFault) => ({ code, senderFault })));
/** And of a receipt that it does not know, or no longer. */
const RECEIPT_FAILURES: readonly EntryFailure[] = [
  ...PASSING_FAILURES,
  { code: 'ReceiptHandleIsInvalid', senderFault: true },
  { code: 'MessageNotInflight', senderFault: true },
];

export const FAULTS: readonly Fault[] = [
  ofService('producer killed', 'SIGKILL', ({ producer }) => producer),
  ofService('consumer killed', 'SIGKILL', ({ random, consumers }) => random.pick(consumers)),
  ofService('producer stopped', 'SIGTERM', ({ producer }) => producer),
  ofService('consumer stopped', 'SIGTERM', ({ random, consumers }) => random.pick(consumers)),
  stall('producer stalled', ({ producer }) => producer),
  stall('consumer stalled', ({ random, consumers }) => random.pick(consumers)),
  { name: 'rolling restart', needs: { consumers: 2 }, run: rollingRestart },
  { name: 'redrive killed', needs: { late: true }, run: killRedrive },
  { name: 'clock jump', needs: { clock: true }, run: jumpClock },

  ofSqs('SQS unreachable', () => [{ kind: 'unreachable' }]),
  ofSqs('SQS slow', () => [{ kind: 'slow', delayMs: 2_000 }]),
  ofSqs('SQS resets connections', (random) => [{ kind: 'reset', share: random.pick([0.5, 1]) }]),
  ofSqs('SQS answers 500', (random) => [
    { kind: 'refuse', status: 500, code: 'InternalFailure', share: random.pick([0.5, 1]) },
  ]),
  ofSqs('SQS throttles', (random) => [
    { kind: 'refuse', status: 400, code: 'ThrottlingException', share: random.pick([0.5, 1]) },
  ]),
  ofSqs('credentials expired', () => [{ kind: 'refuse', status: 403, code: 'ExpiredTokenException' }]),
  ofSqs('answer to send lost', (random) => [lost(SEND, random)]),
  ofSqs('answer to delete lost', (random) => [lost(DELETE, random)]),
  ofSqs('answer to receive lost', (random) => [lost(RECEIVE, random)]),
  ofSqs('batches fail in part', () => [{ kind: 'partial' }]),
  ofSqs('delivered twice', () => [{ kind: 'repeat', times: 2 }]),
  ofSqs('delivered three times', () => [{ kind: 'repeat', times: 3 }]),
  ofSqs('twice in one batch', () => [{ kind: 'same-batch-twice', share: 0.7 }]),
  ofSqs('out of order', () => [{ kind: 'out-of-order' }]),
  { name: 'visibility runs out', needs: { store: 'either' }, run: outliveVisibility },
  ofSqs('entries fail by every code', (random) => [
    { kind: 'partial', operations: SEND, as: PASSING_FAILURES, share: random.pick([0.5, 1]) },
    {
      kind: 'partial',
      operations: [...DELETE, ...EXTEND],
      as: RECEIPT_FAILURES,
      share: random.pick([0.5, 1]),
    },
  ]),
  { name: 'credentials hang', needs: { credentials: true }, run: hangCredentials },

  ...FLOODS,
  ...TOOL_FAULTS,
  ...STORE_FAULTS,
];

function lost(operations: readonly string[], random: Random): SqsFault {
  return {
    kind: 'lose-answer',
    operations,
    how: random.chance(0.25) ? 'silence' : 'reset',
    share: random.pick([0.3, 0.7, 1]),
  };
}

function ofSqs(name: string, make: (random: Random) => SqsFault[]): Fault {
  return {
    name,
    needs: {},
    run: async (scene) => {
      const struck = await holdInSqs(scene, name, make(scene.random));
      return struck.reduce((sum, hits) => sum + hits, 0);
    },
  };
}

/** For a while. Resolves with how many requests each of them struck. */
async function holdInSqs(
  { proxy, random, note }: FaultScene,
  name: string,
  faults: readonly SqsFault[],
): Promise<number[]> {
  const durationMs = random.between(800, 3_000);
  const active = await Promise.all(faults.map((fault) => proxy.inject(fault)));
  note(`${name}, ${Math.round(durationMs)} ms: ${JSON.stringify(faults)}`);
  await sleep(durationMs);
  await Promise.all(active.map((fault) => fault.end()));
  return active.map(({ hits }) => hits);
}

function ofService(
  name: string,
  signal: 'SIGKILL' | 'SIGTERM',
  choose: (scene: FaultScene) => ServiceProcess,
): Fault {
  return { name, needs: {}, run: (scene) => choose(scene).signal(signal) };
}

/** Nothing of the process moves: what a blocked event loop does, and a frozen machine. */
function stall(name: string, choose: (scene: FaultScene) => ServiceProcess): Fault {
  return {
    name,
    needs: {},
    run: async (scene) => {
      const service = choose(scene);
      const { pid } = service;
      const struck = await service.signal('SIGSTOP');
      try {
        await sleep(scene.random.between(STALL_MS.min, STALL_MS.max));
      } finally {
        if (service.pid === pid) await service.signal('SIGCONT');
      }
      return struck;
    },
  };
}

async function rollingRestart({ producer, consumers }: FaultScene): Promise<number> {
  let struck = 0;
  for (const service of [...consumers, producer]) {
    struck += await service.terminate();
    await service.ready(AbortSignal.timeout(READY_TIMEOUT_MS));
  }
  return struck;
}

/**
 * Work and deletes that take longer than the messages are invisible: others get them meanwhile. Its strikes are the
 * receives that got messages for so short a time.
 */
async function outliveVisibility(scene: FaultScene): Promise<number> {
  const slowWork = scene.store.kind === 'sqlite' ? lockSqlite : slowPostgres;
  const [struck] = await Promise.all([
    holdInSqs(scene, 'visibility of 1 s, never extended', [
      { kind: 'visibility', seconds: 1 },
      { kind: 'slow', operations: DELETE, delayMs: 1_500 },
      { kind: 'refuse', operations: EXTEND, status: 500, code: 'InternalFailure' },
    ]),
    slowWork(scene),
  ]);
  return struck[0] as number;
}

/** The operator's tool, killed while it moves messages back: mostly between a send and its delete. */
async function killRedrive({ random, proxy, deadLetterQueue, toolEnv, note }: FaultScene): Promise<number> {
  const deletes = await proxy.inject({
    kind: 'slow',
    operations: DELETE,
    queue: deadLetterQueue,
    delayMs: 500,
  });
  const script = path.join(ROOT, 'scripts', 'dlq.ts');
  const tool = spawn(process.execPath, [script, 'redrive'], { env: toolEnv, stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => tool.once('exit', () => resolve()));
  const deadline = performance.now() + REDRIVE_TIMEOUT_MS;
  while (deletes.hits === 0 && tool.exitCode === null && performance.now() < deadline) await sleep(10);
  await Promise.race([sleep(random.between(0, 1_200)), ended]);
  const killed = tool.exitCode === null;
  note(killed ? `redrive killed at its delete ${deletes.hits}` : 'redrive ended by itself');
  tool.kill('SIGKILL');
  await ended;
  await deletes.end();
  // Without a delete on its way, nothing was half done.
  return killed && deletes.hits > 0 ? 1 : 0;
}

/** Its strikes are the services that were seen to have another time. */
async function jumpClock({ random, clockFile, note, producer, consumers }: FaultScene): Promise<number> {
  const jump = random.pick(['+3600s', '-3600s', '+86400s', '-90s']);
  writeFileSync(clockFile, jump);
  note(`clock jumps ${jump}`);
  await sleep(random.between(1_500, 3_000));
  const clocks = await Promise.all([producer, ...consumers].map((service) => service.clockMs()));
  const struck = clocks.filter((ms) => ms !== undefined && Math.abs(ms - Date.now()) > CLOCK_TOLERANCE_MS);
  writeFileSync(clockFile, '+0');
  note('clock is right again');
  return struck.length;
}

/** Whoever gives out credentials takes requests and answers none: nobody can sign until it is over. */
async function hangCredentials({
  credentials,
  cutOff,
  random,
  producer,
  consumers,
  note,
}: FaultScene): Promise<number> {
  if (!credentials) return 0;
  const waiting = credentials.hang();
  cutOff();
  note('credentials hang');
  await sleep(random.between(1_000, 2_000));
  if (random.chance(0.5)) await random.pick([producer, ...consumers]).signal('SIGTERM');
  await sleep(CREDENTIALS_HANG_MS - 2_000);
  waiting.end();
  note('credentials are given out again');
  return waiting.hits;
}
