import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { getJson, type Pair, post, startPair } from '../support/pair.ts';

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
    pair = await startPair({ SHUTDOWN_DELAY_MS: '0', HTTP_MAX_CONNECTIONS: String(2 * COUNT) });
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
        const holder = await holdConnections(urlOf(pair, service), request, COUNT);
        try {
          await eventually(async () => expect(await openFiles()).toBeGreaterThan(COUNT));
          await stillServing(pair);
          expect(holder.closed()).toBe(0);
        } finally {
          holder.kill();
        }
        await eventually(async () => expect(await openFiles()).toBeLessThan(OTHER_FILES));
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
async function holdConnections(
  url: string,
  request: string,
  count: number,
): Promise<{ kill: () => void; closed: () => number }> {
  const script = `
    const { once } = require('node:events');
    const connect = async () => {
      const socket = require('node:net').connect(process.env.PORT, '127.0.0.1').on('error', () => {});
      await once(socket, 'connect');
      socket.once('close', () => process.stdout.write('x'));
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
    expect(String((await once(holder.stdout, 'data'))[0])).toBe('open');
  } catch (error) {
    holder.kill();
    throw error;
  }
  let closed = 0;
  holder.stdout.on('data', (signs: Buffer) => {
    closed += signs.length;
  });
  return { kill: () => holder.kill(), closed: () => closed };
}

function maxOpenFiles(): number {
  try {
    return Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/**
 * What the servers themselves allow is half a minute and more. Here they get a twentieth of it, whatever it is: one that
 * has no limit has none here either. Less, and a busy machine is itself too slow: headers that it reads late get a 408.
 */
describe('slow clients', () => {
  const FASTER = 20;
  /** REQUEST_TIMEOUT_MS, and as long until Node looks. */
  const CUT_AFTER_MS = 60_000 / FASTER;
  /** Two hundred answers, on a machine that has other things to do; without a limit it would be a minute. */
  const SLACK_MS = 10_000;
  const CLIENTS = 200;

  let pair: Pair;
  beforeAll(async () => {
    const createServer = http.createServer as (...args: unknown[]) => http.Server;
    const spy = vi.spyOn(http, 'createServer').mockImplementation(((...args: unknown[]) => {
      const server = createServer(...args) as http.Server & { connectionsCheckingInterval: number };
      // Before the server itself looks at them.
      server.prependOnceListener('listening', () => {
        server.headersTimeout /= FASTER;
        server.requestTimeout /= FASTER;
        server.connectionsCheckingInterval /= FASTER;
      });
      return server;
    }) as typeof http.createServer);
    pair = await startPair();
    spy.mockRestore();
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  const TOO_SLOW = /^HTTP\/1\.1 408 .*content-type: application\/problem\+json.*"\/problems\/too-slow"/s;
  const HEADERS = 'Host: x\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n';

  describe.each([
    { service: 'producer', what: 'nothing at all', bytes: '', trickle: '', answer: TOO_SLOW },
    {
      service: 'producer',
      what: 'headers',
      bytes: 'POST /orders HTTP/1.1\r\nX: ',
      trickle: 'y',
      answer: TOO_SLOW,
    },
    {
      service: 'producer',
      what: 'a body',
      bytes: `POST /orders HTTP/1.1\r\n${HEADERS}\r\n`,
      trickle: ' ',
      answer: TOO_SLOW,
    },
    {
      service: 'producer',
      what: 'a body that nobody asked for',
      bytes: `POST /x HTTP/1.1\r\n${HEADERS}\r\n`,
      trickle: ' ',
      answer: /^HTTP\/1\.1 404 /,
    },
    { service: 'consumer', what: 'nothing at all', bytes: '', trickle: '', answer: TOO_SLOW },
    {
      service: 'consumer',
      what: 'headers',
      bytes: 'GET /orders HTTP/1.1\r\nX: ',
      trickle: 'y',
      answer: TOO_SLOW,
    },
    {
      service: 'consumer',
      what: 'a body that nobody asked for',
      bytes: `POST /orders HTTP/1.1\r\n${HEADERS}\r\n`,
      trickle: ' ',
      answer: /^HTTP\/1\.1 405 /,
    },
    {
      service: 'consumer',
      what: 'the body of a GET',
      bytes: `GET /livez HTTP/1.1\r\n${HEADERS}\r\n`,
      trickle: ' ',
      answer: /^HTTP\/1\.1 200 /,
    },
  ] as const)('$service', ({ service, what, bytes, trickle, answer }) => {
    test(`${service}, of ${CLIENTS} clients that send ${what} too slowly, gives them up in time and serves others`, async () => {
      const clients = Array.from({ length: CLIENTS }, () =>
        slowClient(urlOf(pair, service), { bytes, trickle }),
      );
      await stillServing(pair);
      const cut = await Promise.all(clients);
      expect(Math.max(...cut.map(({ afterMs }) => afterMs))).toBeLessThan(CUT_AFTER_MS + SLACK_MS);
      // What crosses with a byte of the client is reset, and the answer with it.
      const answers = cut.map(({ text }) => text).filter((text) => text !== '');
      expect(answers.length).toBeGreaterThan(CLIENTS / 2);
      expect(answers.filter((text) => !answer.test(text))).toEqual([]);
    });
  });
});

/** Goes on until the server closes the connection. */
async function slowClient(
  url: string,
  { bytes, trickle }: { bytes: string; trickle: string },
): Promise<{ text: string; afterMs: number }> {
  const socket = net
    .connect(portOf(url), '127.0.0.1')
    .setEncoding('utf8')
    .on('error', () => {});
  const startedAt = performance.now();
  let text = '';
  socket.on('data', (data) => {
    text += data;
  });
  socket.write(bytes);
  const trickling = setInterval(() => trickle && socket.write(trickle), 100);
  // Not `once` of node:events, which a reset would reject: the end counts, however it comes.
  await new Promise((resolve) => socket.once('close', resolve));
  clearInterval(trickling);
  return { text, afterMs: performance.now() - startedAt };
}
