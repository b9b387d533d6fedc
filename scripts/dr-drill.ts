import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { type Pipeline, startPipeline } from '../dev/pipeline.ts';
import { findPostgres, PostgresServer } from '../dev/postgres-server.ts';
import { defineCommand, flag, runCommand, type ValuesOf, wholeNumber } from './command.ts';

export const command = defineCommand({
  name: 'scripts/dr-drill.sh',
  summary:
    'A drill for disaster recovery, on this machine: loses the database after a backup, restores it, loses the queue, creates it again, and reconciles each time by the acceptance journal. What the journal names as missing is sent again by the client. Passes if nothing accepted is lost at the end. docs/disaster-recovery.md says how to do the same on AWS.',
  positionals: {},
  options: {
    orders: {
      takes: 'N',
      description:
        'number of orders: a quarter each is in the backup, stored after it, waiting then, waiting when the queue is lost',
      schema: wholeNumber(4, 100_000).default(1_000),
    },
    json: flag('prints the report as JSON'),
  },
  changes: 'nothing: emulator, services and PostgreSQL are its own, in a temporary folder, on free ports.',
  needs: "PostgreSQL's programs (initdb, postgres, psql, pg_dump, pg_restore).",
  exitStatuses: { 0: 'nothing accepted is lost', 1: 'something is, or the drill could not run to its end' },
});

const ROOT = path.join(import.meta.dirname, '..');
const DATABASE = 'orders';
const CONNECTIONS = 20;

/** What was lost, found and brought back in one of the disasters. */
type Disaster = {
  name: string;
  /** Accepted before it, and then neither in the store nor in a queue: what the drill destroyed on purpose. */
  destroyed: number;
  /** Named by scripts/reconcile.sh as missing. */
  named: number;
  /** Sent again, by the ids named. */
  resent: number;
  /** From the loss to a service that works again, and until nothing was missing. */
  restoredMs: number;
  completeMs: number;
};
type Reconciled = {
  verdict: 'ok' | 'wrong' | 'unresolved';
  accepted: number;
  stored: number;
  missing: number;
  storedTwice: number;
  orders: { missing: { orderId: string }[] };
};
type Report = { accepted: number; stored: number; lost: number; storedTwice: number; disasters: Disaster[] };

async function main({ orders, json }: ValuesOf<typeof command>): Promise<number> {
  const binaries = findPostgres();
  if (!binaries)
    throw new StartupError('no PostgreSQL here: there is no initdb, postgres and psql on the path');
  const folder = mkdtempSync(path.join(tmpdir(), 'order-pipeline-drill-'));
  const postgres = await PostgresServer.start(binaries);
  const drill = new Drill(binaries, folder, postgres, (line) => json || console.log(line));
  try {
    const report = await drill.run(Math.floor(orders / 4));
    console.log(json ? JSON.stringify(report) : describe(report));
    return report.lost === 0 && report.storedTwice === 0 ? 0 : 1;
  } finally {
    await drill.stop();
    await postgres.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

class Drill {
  readonly #binaries: string;
  readonly #folder: string;
  readonly #postgres: PostgresServer;
  readonly #note: (line: string) => void;
  readonly #journal: string;
  /** What the client knows: it can send any of its orders again, with the same id and content. */
  readonly #sent = new Map<string, string>();
  #databaseUrl = '';
  #accepting: Pipeline | undefined;
  #consuming: Pipeline | undefined;

  constructor(binaries: string, folder: string, postgres: PostgresServer, note: (line: string) => void) {
    this.#binaries = binaries;
    this.#folder = folder;
    this.#postgres = postgres;
    this.#note = note;
    this.#journal = path.join(folder, 'accepted.ndjson');
  }

  async run(quarter: number): Promise<Report> {
    this.#databaseUrl = await this.#postgres.createDatabase(DATABASE);
    this.#accepting = await startPipeline({
      ...this.#options('accepting'),
      services: ['emulator', 'producer'],
      env: { producer: { ACCEPTANCE_JOURNAL: this.#journal } },
    });
    const database = await this.#loseDatabase(quarter);
    const queue = await this.#loseQueue(quarter);
    const { accepted, stored, missing, storedTwice } = await this.#reconcile();
    // The journal must have all that the client was told is accepted: otherwise it could not name what is lost.
    const lost = missing + (this.#sent.size - accepted);
    return { accepted, stored, lost, storedTwice, disasters: [database, queue] };
  }

  async stop(): Promise<void> {
    await this.#consuming?.stop();
    await this.#accepting?.stop();
  }

  /** The store goes back to its backup; what waits in the queue is not touched. */
  async #loseDatabase(quarter: number): Promise<Disaster> {
    await this.#startConsumer();
    await this.#place(quarter);
    await this.#stored(quarter);
    const backup = path.join(this.#folder, 'backup');
    await this.#postgresProgram('pg_dump', [
      '--format=custom',
      `--file=${backup}`,
      `--dbname=${this.#ownUrl()}`,
    ]);
    this.#note(`backup of ${quarter} orders`);
    await this.#place(quarter);
    await this.#stored(2 * quarter);
    await this.#stopConsumer();
    await this.#place(quarter);

    const lostAt = performance.now();
    await this.#postgres.dropDatabase(DATABASE);
    this.#note(`database dropped: ${quarter} orders stored since the backup, ${quarter} wait in the queue`);
    await this.#postgres.createDatabase(DATABASE);
    await this.#postgresProgram('pg_restore', [`--dbname=${this.#ownUrl()}`, '--exit-on-error', backup]);
    await this.#startConsumer();
    const restoredMs = performance.now() - lostAt;
    await this.#stored(2 * quarter);
    return await this.#bringBack('database lost', quarter, lostAt, restoredMs);
  }

  /** Deleted with all that waits in it, and created again. */
  async #loseQueue(quarter: number): Promise<Disaster> {
    await this.#stopConsumer();
    await this.#place(quarter);
    const lostAt = performance.now();
    await this.#tool('manage-queues.ts', ['delete', 'dev']);
    this.#note(`queues deleted, with ${quarter} orders`);
    await this.#tool('manage-queues.ts', ['create', 'dev']);
    await this.#startConsumer();
    return await this.#bringBack('queue deleted', quarter, lostAt, performance.now() - lostAt);
  }

  /** By the journal alone: what it names is sent again by the client, until nothing is missing. */
  async #bringBack(name: string, destroyed: number, lostAt: number, restoredMs: number): Promise<Disaster> {
    const { missing, orders, stored } = await this.#reconcile();
    this.#note(`${name}: the journal names ${missing} orders as missing; the client sends them again`);
    const ids = orders.missing.map(({ orderId }) => orderId);
    await this.#post(ids);
    await this.#stored(stored + ids.length);
    const completeMs = performance.now() - lostAt;
    return { name, destroyed, named: missing, resent: ids.length, restoredMs, completeMs };
  }

  async #place(count: number): Promise<void> {
    const ids = Array.from({ length: count }, () => randomUUID());
    for (const id of ids) this.#sent.set(id, orderOf(id));
    await this.#post(ids);
  }

  /** @throws {Error} one of them is not accepted, or is not the client's */
  async #post(ids: readonly string[]): Promise<void> {
    const left = [...ids];
    const connection = async () => {
      for (let id = left.pop(); id !== undefined; id = left.pop()) {
        const body = this.#sent.get(id);
        if (body === undefined) throw new Error(`the journal names ${id}, which no client sent`);
        const response = await fetch(`${this.#accepting?.producerUrl}/orders`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
        });
        const answer = await response.text();
        if (response.status !== 202) throw new Error(`order not accepted: ${response.status} ${answer}`);
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, connection));
  }

  /** Waits until so many orders are in the store. */
  async #stored(count: number): Promise<void> {
    const deadline = performance.now() + 120_000;
    for (;;) {
      const [found = '0'] = await this.#postgres.sql('SELECT count(*) FROM orders', DATABASE);
      if (Number(found) >= count) return;
      if (performance.now() > deadline)
        throw new Error(`only ${found} of ${count} orders are stored after 120 s`);
      await sleep(100);
    }
  }

  /** What scripts/reconcile.sh finds, as operators run it, once all that was accepted is processed. */
  async #reconcile(): Promise<Reconciled> {
    const deadline = performance.now() + 120_000;
    for (;;) {
      const names = `--list=${this.#sent.size}`;
      const report: Reconciled = JSON.parse(
        await this.#tool('reconcile.ts', ['dev', this.#journal, '--json', names], [0, 1, 3]),
      );
      if (report.verdict !== 'unresolved') return report;
      if (performance.now() > deadline) throw new Error('orders are still in the queue after 120 s');
      await sleep(200);
    }
  }

  async #startConsumer(): Promise<void> {
    this.#consuming = await startPipeline({
      ...this.#options('consuming'),
      services: ['consumer'],
      env: { consumer: { ...this.#toolEnv() } },
    });
  }

  async #stopConsumer(): Promise<void> {
    await this.#consuming?.stop();
    this.#consuming = undefined;
  }

  #options(name: string) {
    return { ports: 'free', dataDir: path.join(this.#folder, name), baseEnv: ownEnv(), quiet: true } as const;
  }

  #toolEnv() {
    return { AWS_ENDPOINT_URL: this.#accepting?.endpoint, DATABASE_URL: this.#databaseUrl };
  }

  #ownUrl(): string {
    return this.#databaseUrl.replace('//orders@', '//postgres@');
  }

  #tool(script: string, args: readonly string[], statuses: readonly number[] = [0]): Promise<string> {
    return run(process.execPath, [path.join(ROOT, 'scripts', script), ...args], statuses, {
      ...ownEnv(),
      ...this.#toolEnv(),
    });
  }

  #postgresProgram(name: string, args: readonly string[]): Promise<string> {
    return run(path.join(this.#binaries, name), args, [0], ownEnv());
  }
}

/** Nothing of who calls it: not their queues, nor their store. */
function ownEnv(): NodeJS.ProcessEnv {
  const { PATH, HOME } = process.env;
  return { PATH, HOME, APP_ENV: 'dev', LOG_LEVEL: 'warn', AWS_REGION: 'ap-northeast-2' };
}

/** @returns what it printed @throws {Error} it ended with another status */
function run(
  program: string,
  args: readonly string[],
  statuses: readonly number[],
  env: NodeJS.ProcessEnv,
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, [...args], { cwd: ROOT, env, maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
      const status = error ? error.code : 0;
      if (typeof status === 'number' && statuses.includes(status)) resolve(stdout);
      else reject(new Error(`${path.basename(program)} ${args[0]}: ${status}: ${stderr.trim() || stdout}`));
    });
  });
}

const orderOf = (orderId: string) =>
  JSON.stringify({
    orderId,
    customerId: 'C-drill',
    items: [{ productId: 'SKU-1', name: 'Compact disc', quantity: 2, unitPrice: 1_499 }],
    totalAmount: 2_998,
    currency: 'USD',
    createdAt: new Date().toISOString(),
  });

function describe({ accepted, stored, lost, storedTwice, disasters }: Report): string {
  const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;
  return [
    ...disasters.map(
      ({ name, destroyed, named, resent, restoredMs, completeMs }) =>
        `${name}: ${destroyed} destroyed, ${named} named by the journal, ${resent} sent again; works again after ${seconds(restoredMs)}, complete after ${seconds(completeMs)}`,
    ),
    `accepted ${accepted}, stored ${stored}, lost ${lost}, stored twice ${storedTwice}`,
  ].join('\n');
}

// At the end: it runs at once, and needs the class.
if (import.meta.main) await runCommand(command, main);
