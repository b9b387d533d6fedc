import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from './random.ts';
import type { ServiceProcess } from './service-process.ts';
import type { SqsFault, SqsFaultProxy } from './sqs-fault-proxy.ts';
import type { PostgresStore, SqliteStore, Store } from './store.ts';

/** What a fault is done to. */
export type FaultScene = {
  random: Random;
  proxy: SqsFaultProxy;
  store: Store;
  producer: ServiceProcess;
  consumers: readonly ServiceProcess[];
  /** Its name. */
  deadLetterQueue: string;
  /** For tools that operators call: what tells them of the queues. */
  toolEnv: NodeJS.ProcessEnv;
  /** Read by libfaketime in the services, where the trial has it. */
  clockFile: string;
  note: (event: string) => void;
};

/** What the trial must have for it. */
export type FaultNeeds = {
  /** It is done to the store. One such fault a trial: two would hinder each other. */
  store?: Store['kind'] | 'either';
  consumers?: 2;
  clock?: true;
  limitedDisk?: true;
  /** Of the trial, when it should begin rather late: there must be something to do it to. */
  late?: true;
};

export type Fault = {
  name: string;
  needs: FaultNeeds;
  /**
   * Does it and undoes it. Resolves when it has ended, though what was killed may still be starting, with how often it
   * struck: requests, processes; once for a state of store or clock that came about. 0 when there was nothing to strike.
   */
  run: (scene: FaultScene) => Promise<number>;
};

/** Where the consumers' disk ends, in pages of 4 KiB, when it is to be filled. */
export const PAGE_LIMIT = 400;

const ROOT = path.join(import.meta.dirname, '..', '..');
/** Longer than the campaign's visibility time of 5 s. */
const STALL_MS = { min: 5_500, max: 7_000 };
const READY_TIMEOUT_MS = 60_000;
const REDRIVE_TIMEOUT_MS = 10_000;
const CLOCK_TOLERANCE_MS = 60_000;

const SEND = ['SendMessageBatch'];
const DELETE = ['DeleteMessageBatch'];
const RECEIVE = ['ReceiveMessage'];
const EXTEND = ['ChangeMessageVisibilityBatch'];

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

  { name: 'database locked', needs: { store: 'sqlite' }, run: lockSqlite },
  { name: 'disk full', needs: { store: 'sqlite', limitedDisk: true }, run: fillDisk },
  { name: 'PostgreSQL killed', needs: { store: 'postgres' }, run: killPostgres },
  { name: 'PostgreSQL in recovery', needs: { store: 'postgres' }, run: recoverPostgres },
  { name: 'PostgreSQL slow', needs: { store: 'postgres' }, run: slowPostgres },
  { name: 'PostgreSQL out of connections', needs: { store: 'postgres' }, run: exhaustPostgres },
  { name: 'PostgreSQL full', needs: { store: 'postgres' }, run: fillPostgres },
  { name: 'PostgreSQL read-only', needs: { store: 'postgres' }, run: demotePostgres },
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

async function lockSqlite({ random, store, note }: FaultScene): Promise<number> {
  const db = (store as SqliteStore).open();
  try {
    db.exec('BEGIN IMMEDIATE');
    note('database locked');
    await sleep(random.between(1_000, 3_000));
    db.exec('ROLLBACK');
    note('database unlocked');
    return 1;
  } finally {
    db.close();
  }
}

/** Fills the file up to the bound that `limited-disk.ts` gives the consumers, and empties it again. */
async function fillDisk({ random, store, note }: FaultScene): Promise<number> {
  const db = (store as SqliteStore).open();
  try {
    const [size] = db.prepare('PRAGMA page_count').all();
    const bytes = Math.max(0, PAGE_LIMIT - Number(size?.['page_count'])) * 4_096;
    db.exec(
      `CREATE TABLE filler (filler BLOB) STRICT; INSERT INTO filler (filler) VALUES (zeroblob(${bytes}))`,
    );
    note('disk full');
    await sleep(random.between(1_000, 3_000));
    db.exec('DROP TABLE filler');
    note('disk has room again');
    return 1;
  } finally {
    db.close();
  }
}

async function killPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server } = store as PostgresStore;
  await server.kill();
  note('PostgreSQL killed');
  await sleep(random.between(300, 2_500));
  await server.up();
  note('PostgreSQL up');
  return 1;
}

async function recoverPostgres({ store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const struck = await server.crashBackend(database);
  note(struck > 0 ? 'PostgreSQL recovers from the crash of a backend' : 'no backend to crash');
  await server.up();
  note('PostgreSQL up');
  return struck;
}

async function slowPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const seconds = random.between(1, 3).toFixed(2);
  note(`PostgreSQL answers after ${seconds} s`);
  await server.sql(
    `BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(${seconds}); ROLLBACK`,
    database,
  );
  note('PostgreSQL answers at once');
  return 1;
}

async function exhaustPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  const release = await server.takeConnections(database);
  note('PostgreSQL out of connections');
  await sleep(random.between(1_000, 3_000));
  await release();
  note('PostgreSQL has connections again');
  return 1;
}

/** A server whose disk is full answers each insert with SQLSTATE 53100. */
async function fillPostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  await server.sql(
    `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
     CREATE TRIGGER full_disk BEFORE INSERT ON orders EXECUTE FUNCTION full_disk()`,
    database,
  );
  note('PostgreSQL full');
  await sleep(random.between(1_000, 3_000));
  await server.sql('DROP FUNCTION full_disk() CASCADE', database);
  note('PostgreSQL has room again');
  return 1;
}

/** As after a failover: connections are cut, and who connects finds a server that takes no writes. */
async function demotePostgres({ random, store, note }: FaultScene): Promise<number> {
  const { server, database } = store as PostgresStore;
  await server.sql(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
  await server.disconnect(database);
  note('PostgreSQL read-only');
  await sleep(random.between(1_000, 3_000));
  await server.sql(`ALTER DATABASE ${database} RESET default_transaction_read_only`);
  note('PostgreSQL takes writes again');
  return 1;
}
