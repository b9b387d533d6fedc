import { mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type PipelineEvent,
  type PipelineOptions,
  PipelineSupervisor,
  startPipeline,
} from '../../dev/pipeline.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let dataDir: string;
let options: PipelineOptions;
let events: PipelineEvent[];

beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'pipeline-'));
  events = [];
  options = { dataDir, ports: 'free', quiet: true, onEvent: (event) => events.push(event) };
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

async function placeOrder(producerUrl: string): Promise<string> {
  const response = await fetch(`${producerUrl}/orders`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(anOrderRequest()),
  });
  expect(response.status).toBe(202);
  return ((await response.json()) as { orderId: string }).orderId;
}

async function untilStored(consumerUrl: string, orderId: string): Promise<void> {
  while ((await fetch(`${consumerUrl}/orders/${orderId}`)).status !== 200) await sleep(50);
}

describe('startPipeline', () => {
  it('after a stop with orders in the queue, goes on with them', async () => {
    const first = await startPipeline({ ...options, services: ['emulator', 'producer'] });
    const orderId = await placeOrder(first.producerUrl);
    await first.stop();
    const second = await startPipeline(options);
    await untilStored(second.consumerUrl, orderId);
    await second.stop();
    expect(events).toEqual([]);
  });

  it('told to listen where it does not look, says so at once', async () => {
    await expect(startPipeline({ ...options, baseEnv: { ...process.env, HOST: '::1' } })).rejects.toThrow(
      'HOST=::1',
    );
  });

  it('whose folder is deleted, accepts nothing more, says so and stops', async () => {
    const { producerUrl } = await startPipeline(options);
    await placeOrder(producerUrl);
    await rm(dataDir, { recursive: true });
    const response = await fetch(`${producerUrl}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(anOrderRequest()),
    }).catch(() => undefined);
    expect(response?.status).not.toBe(202);
    await vi.waitFor(
      () => expect(events).toContainEqual({ type: 'data gone', name: 'emulator', dataDir }),
      30_000,
    );
    await vi.waitFor(() => expect(fetch(`${producerUrl}/livez`)).rejects.toThrow(), 30_000);
  });

  it('starts again what was killed, with what it held', async () => {
    const pipeline = await startPipeline(options);
    const before = (['emulator', 'producer', 'consumer'] as const).map(
      (name) => pipeline.pid(name) as number,
    );
    const stored = await placeOrder(pipeline.producerUrl);
    await untilStored(pipeline.consumerUrl, stored);
    for (const pid of before) process.kill(pid, 'SIGKILL');
    await vi.waitUntil(() => events.filter(({ type }) => type === 'restarted').length >= 3, {
      timeout: 30_000,
    });
    await pipeline.ready();
    await untilStored(pipeline.consumerUrl, stored);
    await untilStored(pipeline.consumerUrl, await placeOrder(pipeline.producerUrl));
    const died = events.filter(({ type }) => type === 'died');
    expect(died).toContainEqual({
      type: 'died',
      name: 'emulator',
      pid: before[0],
      status: 'killed by SIGKILL',
      restartInMs: 0,
    });
    await pipeline.stop();
  });

  it('when a port is taken, names who has it and leaves nothing running', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as net.AddressInfo;
    const ports = { emulator: 0, producer: port, consumer: 0 };
    await expect(startPipeline({ ...options, ports })).rejects.toThrow(
      new RegExp(`port ${port} of the producer is taken by .*\\n.*PRODUCER_PORT=\\d+ npm start`),
    );
    server.close();
    expect(events).toEqual([]);
  });

  it('when a service cannot start, says what it said and leaves nothing running', async () => {
    const supervisor = new PipelineSupervisor({ ...options, env: { consumer: { MAX_IN_WORK: '0' } } });
    await expect(supervisor.start()).rejects.toThrow(/consumer ended with status 1.*MAX_IN_WORK: Too small/s);
    expect(supervisor.pid('emulator')).toBeUndefined();
    expect(supervisor.pid('producer')).toBeUndefined();
    expect(await readFile(path.join(dataDir, 'logs', 'producer.log'), 'utf8')).not.toContain('FATAL');
  });

  it('when it is stopped while it starts, leaves nothing running', async () => {
    const supervisor = new PipelineSupervisor(options);
    const start = supervisor.start();
    await vi.waitUntil(() => supervisor.pid('emulator') !== undefined, { timeout: 30_000 });
    await supervisor.stop();
    await expect(start).rejects.toThrow('stopped while starting');
    expect(supervisor.pid('emulator')).toBeUndefined();
  });
});
