import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Environment } from '@orders/shared/runtime/config.ts';
import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { describe, expect, test, vi } from 'vitest';
import {
  type Pipeline,
  type PipelineEvent,
  type PipelineOptions,
  startPipeline,
} from '../../dev/pipeline.ts';
import { scrape } from '../../scripts/prometheus-text.ts';
import { eventually } from './eventually.ts';
import { allStored, startLoad } from './load.ts';
import { post } from './pair.ts';
import { findQueues, openQueues, type Queues } from './queues.ts';

export type Service = 'producer' | 'consumer';

/** SHUTDOWN_GRACE_MS, its default. */
export const GRACE_MS = 40_000;
export type Scene = {
  pipeline: Pipeline;
  dataDir: string;
  /** Sends SIGTERM, `again` and again until the process has ended, and answers how. It is started again afterwards. */
  terminate: (
    service: Service,
    options?: { again: boolean },
  ) => Promise<{ status: string; afterMs: number; signals: number }>;
  log: (service: Service, message: string) => Promise<Record<string, unknown>[]>;
  /** Nothing waits, is in flight, or is in the DLQ. */
  queuesAreEmpty: () => Promise<void>;
  [Symbol.asyncDispose]: () => Promise<void>;
};

/**
 * Both services as processes, on ports and in a folder of their own; by default with the embedded emulator and store,
 * else with queues of their own on the SQS, and in the database, that `backends` names.
 */
export async function openScene(options: PipelineOptions = {}, backends?: Environment): Promise<Scene> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'shutdown-'));
  const died = new Map<number | undefined, string>();
  const onEvent = (event: PipelineEvent) => {
    if (event.type === 'died') died.set(event.pid, event.status);
  };
  const own = backends && (await openQueues(backends));
  const { env = {}, services } = options;
  const pipeline = await startPipeline({
    ports: 'free',
    quiet: true,
    dataDir,
    onEvent,
    ...options,
    ...(backends ? { services: ['producer', 'consumer'] } : services ? { services } : {}),
    env: {
      ...env,
      producer: { ...own?.env, ...env.producer },
      consumer: { ...own?.env, ...env.consumer },
    },
  });
  const log = async (service: Service, message: string) => {
    const text = await readFile(path.join(dataDir, 'logs', `${service}.log`), 'utf8');
    const lines = text.split('\n').filter((line) => line.startsWith('{') && line.endsWith('}'));
    return lines.map((line) => JSON.parse(line)).filter((line) => line.message === message);
  };
  return {
    pipeline,
    dataDir,
    log,
    terminate: async (service, { again } = { again: false }) => {
      const pid = pipeline.pid(service) as number;
      const startedAt = performance.now();
      let signals = 0;
      const send = () => {
        if (died.has(pid)) return;
        process.kill(pid, 'SIGTERM');
        signals++;
      };
      send();
      // A stop may take some milliseconds only: a second signal sent when the log tells of the first may come too late.
      const repeated = again ? setInterval(send, 5) : undefined;
      await eventually(() => expect(died.has(pid)).toBe(true), GRACE_MS + 5_000);
      clearInterval(repeated);
      return { status: died.get(pid) ?? '', afterMs: performance.now() - startedAt, signals };
    },
    queuesAreEmpty: async () => {
      using found = own ? undefined : await findQueues(pipeline.endpoint);
      const { client, urls } = (own ?? found) as Queues;
      for (const url of Object.values(urls))
        await eventually(async () => expect(await messagesIn(client, url)).toBe(0));
    },
    [Symbol.asyncDispose]: async () => {
      await pipeline.stop();
      await own?.[Symbol.asyncDispose]();
      await rm(dataDir, { recursive: true });
    },
  };
}

/** On whatever SQS the scenes are opened with. */
export function describeStopUnderLoad(
  name: string,
  open: (options?: PipelineOptions) => Promise<Scene>,
): void {
  describe(name, () => {
    test('consumer, finishes what it has, releases nothing, and ends with status 0 within the grace period', async () => {
      await using scene = await open();
      const { pipeline } = scene;
      const load = startLoad(pipeline.producerUrl, { clients: 8, pauseMs: 2 });
      await load.more(50);
      const stored = async () => (await scrape(pipeline.consumerUrl)).value('orders_stored_total');
      const pid = pipeline.pid('consumer') as number;
      process.kill(pid, 'SIGSTOP');
      const backlog = await placeBatches(pipeline.producerUrl, 2);
      process.kill(pid, 'SIGCONT');
      const before = await stored();
      await vi.waitFor(async () => expect(await stored()).toBeGreaterThan(before), {
        timeout: 30_000,
        interval: 1,
      });
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
      expect((await scrape(pipeline.consumerUrl)).value('sqs_messages_redelivered_total')).toBe(0);
    });

    test('producer, refuses nothing before its delay is over, answers what it took, and ends with status 0', async () => {
      const delayMs = 1_000;
      await using scene = await open({ env: { producer: { SHUTDOWN_DELAY_MS: String(delayMs) } } });
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
      // A process takes longer to start than a client pauses: without a refusal nothing was looked at.
      expect(refused.length).toBeGreaterThan(0);
      expect(Math.min(...refused.map(({ endedAtMs }) => endedAtMs))).toBeGreaterThan(sentAtMs + delayMs - 5);
      const whileNotReady = load.answers.filter(
        (answer) =>
          answer.status === 202 && answer.endedAtMs > notReadyAtMs && answer.endedAtMs < sentAtMs + delayMs,
      );
      expect(whileNotReady.length).toBeGreaterThan(0);
      await allStored(pipeline.consumerUrl, load.accepted());
      await scene.queuesAreEmpty();
    });

    test.each(['producer', 'consumer'] as const)(
      '%s, again and again, stops once and in order',
      async (service) => {
        await using scene = await open({ env: { producer: { SHUTDOWN_DELAY_MS: '500' } } });
        const { pipeline } = scene;
        const load = startLoad(pipeline.producerUrl, { clients: 8, pauseMs: 2 });
        await load.more(100);
        const { status, signals } = await scene.terminate(service, { again: true });
        expect(status).toBe('status 0');
        expect(signals).toBeGreaterThan(1);
        expect(await scene.log(service, 'stopping')).toHaveLength(1);
        expect(await scene.log(service, 'stopped')).toHaveLength(1);
        await pipeline.ready();
        await load.more(20);
        await load.stop();
        await allStored(pipeline.consumerUrl, load.accepted());
        await scene.queuesAreEmpty();
      },
    );
  });
}

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
