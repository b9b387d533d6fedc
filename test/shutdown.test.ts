import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { buffer } from 'node:stream/consumers';
import { queueAttributes } from '@orders/shared/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { describe, expect, test, vi } from 'vitest';
import { startEmulator } from '../dev/emulator.ts';
import { type Pipeline, type PipelineEvent, type PipelineOptions, startPipeline } from '../dev/pipeline.ts';
import { sqsClient } from './backends.ts';
import { eventually } from './eventually.ts';
import { allStored, startLoad } from './load.ts';
import { post } from './pair.ts';

vi.setConfig({ testTimeout: 120_000 });

type Service = 'producer' | 'consumer';

const ROOT = path.join(import.meta.dirname, '..');
const GRACE_MS = 40_000;
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

type Scene = {
  pipeline: Pipeline;
  dataDir: string;
  /** Sends SIGTERM, as often as told, and answers how the process ended. It is started again afterwards. */
  terminate: (service: Service, times?: number) => Promise<{ status: string; afterMs: number }>;
  log: (service: Service, message: string) => Promise<Record<string, unknown>[]>;
  /** Nothing waits, is in flight, or is in the DLQ. */
  queuesAreEmpty: () => Promise<void>;
  [Symbol.asyncDispose]: () => Promise<void>;
};

/** All three as processes, on ports and in a folder of their own. */
async function openScene(options: PipelineOptions = {}): Promise<Scene> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'shutdown-'));
  const died = new Map<number | undefined, string>();
  const onEvent = (event: PipelineEvent) => {
    if (event.type === 'died') died.set(event.pid, event.status);
  };
  const pipeline = await startPipeline({ ports: 'free', quiet: true, dataDir, onEvent, ...options });
  const log = async (service: Service, message: string) => {
    const text = await readFile(path.join(dataDir, 'logs', `${service}.log`), 'utf8');
    const lines = text.split('\n').filter((line) => line.startsWith('{') && line.endsWith('}'));
    return lines.map((line) => JSON.parse(line)).filter((line) => line.message === message);
  };
  return {
    pipeline,
    dataDir,
    log,
    terminate: async (service, times = 1) => {
      const pid = pipeline.pid(service) as number;
      const startedAt = performance.now();
      for (let time = 0; time < times; time++) {
        process.kill(pid, 'SIGTERM');
        if (time + 1 < times)
          await eventually(async () => expect(await log(service, 'stopping')).not.toEqual([]));
      }
      await eventually(() => expect(died.has(pid)).toBe(true), GRACE_MS + 5_000);
      return { status: died.get(pid) ?? '', afterMs: performance.now() - startedAt };
    },
    queuesAreEmpty: async () => {
      const client = sqsClient({ AWS_ENDPOINT_URL: pipeline.endpoint });
      for (const queue of ['order-queue', 'order-dlq']) {
        await eventually(async () => {
          const { ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible } =
            await queueAttributes(client, `${pipeline.endpoint}/000000000000/${queue}`);
          expect([ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible]).toEqual(['0', '0']);
        });
      }
      client.destroy();
    },
    [Symbol.asyncDispose]: async () => {
      await pipeline.stop();
      await rm(dataDir, { recursive: true });
    },
  };
}

describe('SIGTERM under load', () => {
  test('consumer, finishes what it has, releases nothing, and ends with status 0 within the grace period', async () => {
    await using scene = await openScene();
    const { pipeline } = scene;
    const load = startLoad(pipeline.producerUrl, { clients: 8, pauseMs: 2 });
    await load.more(50);
    const stored = () => metric(pipeline.consumerUrl, 'orders_stored_total');
    const pid = pipeline.pid('consumer') as number;
    process.kill(pid, 'SIGSTOP');
    const backlog = await placeBatches(pipeline.producerUrl, 2);
    process.kill(pid, 'SIGCONT');
    const before = await stored();
    await vi.waitFor(async () => expect(await stored()).toBeGreaterThan(before), { interval: 1 });
    const { status, afterMs } = await scene.terminate('consumer');
    expect(status).toBe('status 0');
    expect(afterMs).toBeLessThan(GRACE_MS);
    expect(await scene.log('consumer', 'consumer drained')).toMatchObject([{ released: 0 }]);
    await pipeline.ready();
    await load.more(20);
    await load.stop();
    expect(load.answers.every((answer) => answer.status === 202)).toBe(true);
    await allStored(pipeline.consumerUrl, [...backlog, ...load.accepted()]);
    await scene.queuesAreEmpty();
    // The next one had work left, and none of it had been received by the first.
    expect(await stored()).toBeGreaterThan(100);
    expect(await metric(pipeline.consumerUrl, 'sqs_messages_redelivered_total')).toBe(0);
  });

  test('producer, refuses nothing before its delay is over, answers what it took, and ends with status 0', async () => {
    const delayMs = 1_000;
    await using scene = await openScene({ env: { producer: { SHUTDOWN_DELAY_MS: String(delayMs) } } });
    const { pipeline } = scene;
    const load = startLoad(pipeline.producerUrl, { clients: 8, pauseMs: 2 });
    await load.more(100);
    const sentAtMs = performance.now();
    const ended = scene.terminate('producer');
    const notReadyAtMs = await eventually(async () => {
      expect((await fetch(`${pipeline.producerUrl}/readyz`)).status).toBe(503);
      return performance.now();
    });
    expect(notReadyAtMs).toBeLessThan(sentAtMs + delayMs);
    await load.more(5);
    const { status, afterMs } = await ended;
    expect(status).toBe('status 0');
    expect(afterMs).toBeLessThan(GRACE_MS);
    await pipeline.ready();
    await load.more(20);
    await load.stop();
    const refused = load.answers.filter((answer) => answer.status !== 202);
    // Connections are refused while nobody listens; a request that was taken has its 202.
    expect(refused.map((answer) => answer.status).filter((status) => status !== undefined)).toEqual([]);
    expect(Math.min(...refused.map(({ endedAtMs }) => endedAtMs))).toBeGreaterThan(sentAtMs + delayMs - 5);
    const whileNotReady = load.answers.filter(
      (answer) =>
        answer.status === 202 && answer.endedAtMs > notReadyAtMs && answer.endedAtMs < sentAtMs + delayMs,
    );
    expect(whileNotReady.length).toBeGreaterThan(0);
    await allStored(pipeline.consumerUrl, load.accepted());
    await scene.queuesAreEmpty();
  });

  test.each(['producer', 'consumer'] as const)('%s, twice, stops once and in order', async (service) => {
    await using scene = await openScene({ env: { producer: { SHUTDOWN_DELAY_MS: '500' } } });
    const { pipeline } = scene;
    const load = startLoad(pipeline.producerUrl, { clients: 8, pauseMs: 2 });
    await load.more(100);
    expect(await scene.terminate(service, 2)).toMatchObject({ status: 'status 0' });
    expect(await scene.log(service, 'stopping')).toHaveLength(1);
    expect(await scene.log(service, 'stopped')).toHaveLength(1);
    await pipeline.ready();
    await load.more(20);
    await load.stop();
    await allStored(pipeline.consumerUrl, load.accepted());
    await scene.queuesAreEmpty();
  });
});

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
      } finally {
        child.kill('SIGKILL');
        await gate.stop();
        await emulator.stop();
        await rm(dataDir, { recursive: true });
      }
    },
  );
});

/** So many batches of 500 orders at once. Answers their ids. */
async function placeBatches(producerUrl: string, batches: number): Promise<string[]> {
  const orders = Array.from({ length: batches * 500 }, () => anOrderRequest({ orderId: randomUUID() }));
  await Promise.all(
    Array.from({ length: batches }, async (_, batch) => {
      const part = orders.slice(batch * 500, (batch + 1) * 500);
      const { body } = await post(`${producerUrl}/orders/batch`, part);
      expect(body).toMatchObject({ accepted: 500 });
    }),
  );
  return orders.map(({ orderId }) => orderId ?? '');
}

async function metric(url: string, name: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^${name}\\S* (\\d+)`, 'm').exec(metrics)?.[1]);
}

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
