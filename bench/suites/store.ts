import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openOrderRepository } from '@orders/consumer/adapters/open-order-repository.ts';
import { Client } from 'pg';
import { findPostgres, PostgresServer } from '../../dev/postgres-server.ts';
import { UsageError } from '../../scripts/command.ts';
import type { ContestResult } from '../contest.ts';
import { type Backend, startSink, withLatency } from '../servers/start.ts';
import type { Suite, SuiteContext } from '../suite.ts';
import {
  BATCH_HANDLER,
  type ConsumePeer,
  consumerOf,
  MESSAGE_HANDLER,
  OURS,
  RAW,
  shared,
  TOOLKIT,
} from './consume.ts';

/** Between the consumer and a server in another zone. */
const DATABASE_LATENCY_MS = 2;

/**
 * The same with a store behind it. Into the embedded store, peers read the order with our codec and do the same SQL; into
 * PostgreSQL, each batch is one plain statement of theirs.
 */
export const store: Suite = {
  run: async (context) => {
    const given = databaseGiven();
    const sink = await startSink();
    try {
      return [await embedded(context, sink), ...(await postgres(context, sink, given))];
    } finally {
      await sink.stop();
    }
  },
};

async function embedded(context: SuiteContext, sink: Backend): Promise<ContestResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'bench-store-'));
  let files = 0;
  const database = async () => `sqlite:${path.join(folder, `${files++}.db`)}`;
  const peers = [OURS, BATCH_HANDLER, MESSAGE_HANDLER, TOOLKIT, RAW];
  try {
    return await contest(context, 'Consume into the embedded store', { peers, sink, database });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** @throws {UsageError} its orders are deleted before each run, so its name must say what it is for */
function databaseGiven(): string | undefined {
  const url = process.env['BENCH_DATABASE_URL'];
  if (url !== undefined && !(URL.canParse(url) && new URL(url).pathname.includes('bench')))
    throw new UsageError(
      "BENCH_DATABASE_URL: all orders of this database are deleted; give one whose name contains 'bench'",
    );
  return url;
}

/** On a durable server of its own, or in the database given. */
async function postgres(
  context: SuiteContext,
  sink: Backend,
  given: string | undefined,
): Promise<ContestResult[]> {
  const binaries = findPostgres();
  if (given === undefined && !binaries) {
    context.note('Consume into PostgreSQL: left out, no BENCH_DATABASE_URL and no binaries of a server');
    return [];
  }
  const server =
    given === undefined && binaries ? await PostgresServer.start(binaries, { durable: true }) : undefined;
  const url = given ?? (await server?.createDatabase('bench')) ?? '';
  const { hostname, port } = new URL(url);
  const behind = { endpoint: `http://${hostname}:${port || 5_432}`, stop: async () => {} };
  const far = await withLatency(behind, DATABASE_LATENCY_MS);
  const farUrl = new URL(url);
  farUrl.host = new URL(far.endpoint).host;
  const emptied = (reachedBy: string) => async () => {
    await emptyOrders(url);
    return reachedBy;
  };
  const peers = [OURS, BATCH_HANDLER, MESSAGE_HANDLER];
  try {
    return [
      await contest(context, 'Consume into PostgreSQL', { peers, sink, database: emptied(url) }),
      await contest(context, `Consume into PostgreSQL ${DATABASE_LATENCY_MS} ms away`, {
        peers,
        sink,
        database: emptied(farUrl.href),
      }),
    ];
  } finally {
    await far.stop();
    await server?.stop();
  }
}

/** Makes the schema, where it is missing. */
async function emptyOrders(url: string): Promise<void> {
  const timeouts = { connectTimeoutMs: 10_000, statementTimeoutMs: 60_000 };
  await (await openOrderRepository(url, { poolSize: 1, ...timeouts })).close();
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query('TRUNCATE orders');
  await client.end();
}

function contest(
  { compete }: SuiteContext,
  title: string,
  { peers, sink, database }: { peers: ConsumePeer[]; sink: Backend; database: () => Promise<string> },
): Promise<ContestResult> {
  const contestants = peers.map((peer) => consumerOf(peer, shared(sink), { database }));
  return compete({ title, reference: OURS.name, contestants });
}
