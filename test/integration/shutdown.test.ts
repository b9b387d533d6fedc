import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { buffer } from 'node:stream/consumers';
import { SendMessageCommand } from '@aws-sdk/client-sqs';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { describe, expect, test, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { findPostgres, PostgresServer } from '../../dev/postgres-server.ts';
import { sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { allStored, startLoad } from '../support/load.ts';
import { depthOf } from '../support/queues.ts';
import { describeStopUnderLoad, GRACE_MS, openScene, type Service } from '../support/shutdown-scene.ts';

vi.setConfig({ testTimeout: 120_000 });

const ROOT = path.join(import.meta.dirname, '..', '..');
/** For outages, in which messages are left in flight: they come back soon. */
const SHORT_LEASES = {
  SQS_WAIT_TIME_SECONDS: '1',
  VISIBILITY_TIMEOUT_SECONDS: '8',
  HEARTBEAT_SECONDS: '2',
  HANDLING_TIMEOUT_SECONDS: '3',
  LEASE_MARGIN_SECONDS: '2',
  OUTAGE_RELEASE_MIN_SECONDS: '1',
  OUTAGE_RELEASE_MAX_SECONDS: '2',
};

describeStopUnderLoad('SIGTERM under load', openScene);

describe('SIGTERM in an outage', () => {
  test('of SQS, ends both with status 0 in time, and nothing accepted is lost when it is back', async () => {
    const dataDir = await mkdtemp(path.join(tmpdir(), 'shutdown-sqs-'));
    let emulator = await startEmulator({ port: 0, dataDir });
    const port = Number(new URL(emulator.endpoint).port);
    try {
      await using scene = await openScene({
        services: ['producer', 'consumer'],
        ports: { emulator: port, producer: 0, consumer: 0 },
        env: { consumer: SHORT_LEASES },
      });
      const { pipeline } = scene;
      const load = startLoad(pipeline.producerUrl, { clients: 8, pauseMs: 10 });
      await load.more(100);
      await emulator.stop();
      await eventually(() => expect(load.answers.some(({ status }) => status === 503)).toBe(true));
      await eventually(async () => expect(await scene.log('consumer', 'poll failed')).not.toEqual([]));
      const ends = await Promise.all([scene.terminate('producer'), scene.terminate('consumer')]);
      for (const { status, afterMs } of ends) {
        expect(status).toBe('status 0');
        expect(afterMs).toBeLessThan(GRACE_MS);
      }
      emulator = await startEmulator({ port, dataDir });
      await pipeline.ready();
      await load.more(20);
      await load.stop();
      await allStored(pipeline.consumerUrl, load.accepted());
      await scene.queuesAreEmpty();
    } finally {
      await emulator.stop();
      await rm(dataDir, { recursive: true });
    }
  });

  test('of the store, ends the consumer with status 0 in time, and gives back what it held', async () => {
    await using scene = await openScene({ env: { consumer: SHORT_LEASES } });
    const { pipeline } = scene;
    const load = startLoad(pipeline.producerUrl, { clients: 8, pauseMs: 20 });
    await load.more(50);
    const other = new DatabaseSync(path.join(scene.dataDir, 'orders.db'), { timeout: 5_000 });
    try {
      other.exec('BEGIN IMMEDIATE');
      await eventually(async () => expect(await scene.log('consumer', 'breaker opened')).not.toEqual([]));
      const { status, afterMs } = await scene.terminate('consumer');
      expect(status).toBe('status 0');
      expect(afterMs).toBeLessThan(GRACE_MS);
      expect(await scene.log('consumer', 'message released')).toContainEqual(
        expect.objectContaining({ cause: 'store-unavailable' }),
      );
    } finally {
      other.close();
    }
    await pipeline.ready();
    await load.more(20);
    await load.stop();
    expect(load.answers.every((answer) => answer.status === 202)).toBe(true);
    await allStored(pipeline.consumerUrl, load.accepted());
    await scene.queuesAreEmpty();
  });
});

/** Twice, while what it waits for holds back its answer; it stops once, in order, when that comes. */
async function stopWhileItWaits(
  child: ReturnType<typeof startService>,
  gate: { reached: Promise<unknown>; open: () => void },
): Promise<void> {
  const output = buffer(child.stdout as NodeJS.ReadableStream);
  await gate.reached;
  child.kill('SIGTERM');
  child.kill('SIGTERM');
  gate.open();
  await eventually(() => expect([child.exitCode, child.signalCode]).toEqual([0, null]));
  const lines = (await output).toString().trim().split('\n');
  const messages = lines.map((line) => JSON.parse(line).message);
  expect(messages.filter((message) => message === 'stopping' || message === 'stopped')).toEqual([
    'stopping',
    'stopped',
  ]);
}

describe('SIGTERM during start-up', () => {
  test.each(['producer', 'consumer'] as const)(
    '%s, that waits for the first answer of SQS, ends with status 0 and takes nothing',
    async (service) => {
      const dataDir = await mkdtemp(path.join(tmpdir(), 'shutdown-start-'));
      const emulator = await startEmulator({ port: 0 });
      const gate = await startGate(emulator.endpoint);
      const child = startService(service, {
        AWS_ENDPOINT_URL: gate.url,
        DATABASE_URL: `sqlite:${path.join(dataDir, 'orders.db')}`,
      });
      try {
        await stopWhileItWaits(child, gate);
      } finally {
        child.kill('SIGKILL');
        await gate.stop();
        await emulator.stop();
        await rm(dataDir, { recursive: true });
      }
    },
  );

  test('consumer, whose database never answers, ends with status 0 without waiting for it', async () => {
    const emulator = await startEmulator({ port: 0 });
    const gate = await startTcpGate(1);
    const child = startService('consumer', {
      AWS_ENDPOINT_URL: emulator.endpoint,
      DATABASE_URL: `postgres://orders@127.0.0.1:${gate.port}/orders`,
      DATABASE_CONNECT_TIMEOUT_MS: '30000',
    });
    try {
      await gate.reached;
      child.kill('SIGTERM');
      await eventually(() => expect([child.exitCode, child.signalCode]).toEqual([0, null]), 10_000);
    } finally {
      child.kill('SIGKILL');
      await gate.stop();
      await emulator.stop();
    }
  });

  const postgres = findPostgres();
  test.skipIf(!postgres)(
    'consumer, that waits for its database (skipped where no PostgreSQL server is installed), ends with status 0, and keeps what is queued',
    async () => {
      const emulator = await startEmulator({ port: 0 });
      const server = await PostgresServer.start(postgres as string);
      const url = new URL(await server.createDatabase('starting'));
      const gate = await startTcpGate(Number(url.port));
      url.port = String(gate.port);
      const client = sqsClient({ AWS_ENDPOINT_URL: emulator.endpoint });
      const { queue } = await ensureQueues(client, 'dev', {
        queue: 'order-queue',
        deadLetterQueue: 'order-dlq',
      });
      const order = anOrder();
      const { body: MessageBody } = await encodeOrderMessage(
        { order, contentHash: contentHash(order), traceparent: undefined },
        { version: 1, encoding: 'identity', compressAboveBytes: 4_096 },
      );
      await client.send(new SendMessageCommand({ QueueUrl: queue.url, MessageBody }));
      const child = startService('consumer', {
        AWS_ENDPOINT_URL: emulator.endpoint,
        DATABASE_URL: url.href,
        DATABASE_CONNECT_TIMEOUT_MS: '30000',
      });
      try {
        await stopWhileItWaits(child, gate);
        const { visible, inFlight } = await depthOf(client, queue.url);
        const [stored] = await server.sql('SELECT count(*) FROM orders', 'starting');
        expect(inFlight).toBe(0);
        expect(visible + Number(stored)).toBe(1);
      } finally {
        child.kill('SIGKILL');
        client.destroy();
        await gate.stop();
        await server.stop();
        await emulator.stop();
      }
    },
  );
});

function startService(service: Service, env: NodeJS.ProcessEnv): ChildProcess {
  return spawn(process.execPath, [`${service}/src/main.ts`], {
    cwd: ROOT,
    env: {
      ...process.env,
      PRODUCER_PORT: '0',
      CONSUMER_PORT: '0',
      SQS_WAIT_TIME_SECONDS: '1',
      LIBRARY_LOG_LEVEL: 'warn',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Stands before a server and lets nothing through until it is opened. */
async function startTcpGate(
  target: number,
): Promise<{ port: number; reached: Promise<void>; open: () => void; stop: () => Promise<void> }> {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ pauseOnConnect: true }, async (client) => {
    sockets.add(client.on('error', () => {}));
    reached.resolve();
    await opened.promise;
    const upstream = net.connect(target, '127.0.0.1');
    sockets.add(upstream.on('error', () => {}));
    client.on('close', () => upstream.destroy()).pipe(upstream);
    upstream.on('close', () => client.destroy()).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    reached: reached.promise,
    open: opened.resolve,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

type Gate = { url: string; reached: Promise<void>; open: () => void; stop: () => Promise<void> };

/** Stands before a server and holds every request up until it is opened. */
async function startGate(target: string): Promise<Gate> {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const server = http.createServer(async (request, response) => {
    reached.resolve();
    const body = await buffer(request);
    await opened.promise;
    const { host: _host, connection: _connection, ...headers } = request.headers;
    const forward = http.request(target + request.url, { method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    forward.on('error', () => response.destroy());
    forward.end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    reached: reached.promise,
    open: opened.resolve,
    stop: async () => {
      opened.resolve();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
