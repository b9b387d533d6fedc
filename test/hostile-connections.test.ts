import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from './eventually.ts';
import { getJson, type Pair, post, startPair } from './pair.ts';

const SERVICES = ['producer', 'consumer'] as const;
const urlOf = (pair: Pair, service: (typeof SERVICES)[number]) =>
  service === 'producer' ? pair.producerUrl : pair.consumerUrl;
const portOf = (url: string) => Number(new URL(url).port);

async function stillServing(pair: Pair): Promise<void> {
  const { status, body } = await post(`${pair.producerUrl}/orders`, anOrderRequest());
  expect(status).toBe(202);
  await eventually(async () =>
    expect((await getJson(`${pair.consumerUrl}/orders/${body.orderId}`)).status).toBe(200),
  );
}

describe('idle connections', () => {
  /** To one service at a time; the nightly run takes IDLE_CONNECTIONS=10000. */
  const COUNT = Number(process.env['IDLE_CONNECTIONS'] ?? 2_000);
  /** What the services and the test need besides. */
  const OTHER_FILES = 300;
  const GET = 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n';

  let pair: Pair;
  beforeAll(async () => {
    // Node itself raises ulimit -n as far as it may.
    expect(maxOpenFiles(), 'ulimit -Hn').toBeGreaterThan(COUNT + OTHER_FILES);
    pair = await startPair({ SHUTDOWN_DELAY_MS: '0' });
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  const openFiles = async () =>
    (await getJson(`${pair.consumerUrl}/actuator/metrics/process.files.open`)).body.measurements[0].value;

  describe.each(SERVICES)('%s', (service) => {
    test.each([
      { kind: 'that never brought a request', request: '' },
      { kind: 'that brought one', request: GET },
    ])(
      `${service}, with ${COUNT} idle connections $kind, serves others, and forgets them when they are gone`,
      { timeout: 60_000 + COUNT * 10 },
      async ({ request }) => {
        const before = await openFiles();
        const holder = await holdConnections(urlOf(pair, service), request, COUNT);
        try {
          await eventually(async () => expect(await openFiles()).toBeGreaterThanOrEqual(before + COUNT));
          await stillServing(pair);
        } finally {
          holder.kill();
        }
        await eventually(async () => expect(await openFiles()).toBeLessThan(before + OTHER_FILES));
      },
    );
  });

  test(`both, with ${COUNT} idle connections to each of them by turns, stop without waiting for them`, {
    timeout: 60_000 + COUNT * 20,
  }, async () => {
    for (const service of SERVICES) {
      const holder = await holdConnections(urlOf(pair, service), GET, COUNT);
      try {
        const startedAt = performance.now();
        await (service === 'producer' ? pair.stopProducer() : pair.stopConsumer());
        expect(performance.now() - startedAt).toBeLessThan(10_000);
      } finally {
        holder.kill();
      }
    }
  });
});

/** Their other ends are another process's: one alone might not be allowed so many files. */
async function holdConnections(url: string, request: string, count: number): Promise<{ kill: () => void }> {
  const script = `
    const { once } = require('node:events');
    const connect = async () => {
      const socket = require('node:net').connect(process.env.PORT, '127.0.0.1').on('error', () => {});
      await once(socket, 'connect');
      if (!process.env.REQUEST) return;
      socket.write(process.env.REQUEST);
      await once(socket, 'data');
    };
    (async () => {
      // Some at a time: the queue of connections that wait to be taken is short.
      for (let left = Number(process.env.COUNT); left > 0; left -= 100)
        await Promise.all(Array.from({ length: Math.min(left, 100) }, connect));
      process.stdout.write('open');
      setInterval(() => {}, 60_000);
    })();`;
  const holder = spawn(process.execPath, ['--eval', script], {
    env: { ...process.env, PORT: String(portOf(url)), REQUEST: request, COUNT: String(count) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    expect(String(await once(holder.stdout, 'data'))).toBe('open');
  } catch (error) {
    holder.kill();
    throw error;
  }
  return { kill: () => holder.kill() };
}

function maxOpenFiles(): number {
  try {
    return Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
