import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { zstdCompressSync } from 'node:zlib';
import { SendMessageBatchCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { encodeOrderMessage } from '@orders/shared/message.ts';
import { contentHash } from '@orders/shared/order.ts';
import { queueAttributes, resolveQueues } from '@orders/shared/queue-admin.ts';
import { sendEntries } from '@orders/shared/sqs-batch.ts';
import { anOrder, anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createTool } from '../scripts/sqs-tool.ts';
import { mutatedTexts } from './hostile-input.ts';
import { getJson, type Pair, post, startPair } from './pair.ts';

/** Of each kind; the nightly run takes HOSTILE_INPUTS=100000. */
const COUNT = Number(process.env['HOSTILE_INPUTS'] ?? 3_000);
const SEED = Number(process.env['HOSTILE_SEED'] ?? 20_261_123);
/** ulimit -n must be higher. */
const IDLE_CONNECTIONS = Number(process.env['IDLE_CONNECTIONS'] ?? 2_000);
const HOLD_CONNECTIONS = `
  const { once } = require('node:events');
  const connect = () => once(require('node:net').connect(process.env.PORT, '127.0.0.1'), 'connect');
  (async () => {
    // Some at a time: the queue of connections that wait to be taken is short.
    for (let left = Number(process.env.COUNT); left > 0; left -= 100)
      await Promise.all(Array.from({ length: Math.min(left, 100) }, connect));
    process.stdout.write('open');
  })();`;
/** Of the queue, as it is made for development. */
const MAX_MESSAGE_BYTES = 262_144;
/** What the embedded emulator takes; SQS takes characters above U+FFFF too. */
const SQS_CHARACTERS = /^[\t\n\r -\uD7FF\uE000-\uFFFD]+$/;

let pair: Pair;
let client: SQSClient;
let urls: { queueUrl: string; deadLetterQueueUrl: string };

beforeAll(async () => {
  pair = await startPair();
  const tool = createTool('dev', { AWS_ENDPOINT_URL: pair.endpoint });
  client = tool.client;
  urls = await resolveQueues(client, tool.config);
});
afterAll(async () => {
  client?.destroy();
  await pair?.[Symbol.asyncDispose]();
});

const metric = async (url: string, name: string) =>
  (await getJson(`${url}/actuator/metrics/${name}`)).body.measurements[0].value as number;
const stillServing = async () => {
  for (const url of [pair.producerUrl, pair.consumerUrl]) {
    expect(await getJson(`${url}/readyz`)).toEqual({ status: 200, body: { status: 'UP' } });
  }
};

describe('hostile input over HTTP', () => {
  test(`producer, with ${COUNT} mutated bodies (seed ${SEED}), answers each with 202, 207 or a problem`, {
    timeout: 60_000 + COUNT * 20,
  }, async () => {
    const order = {
      orderId: randomUUID(),
      ...anOrderRequest({ adjustment: 0, metadata: { channel: 'web' } }),
    };
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
    const bodies = mutatedTexts(order, COUNT, SEED);
    const seen = new Map<string, number>();
    const worker = async () => {
      for (let body = bodies.pop(); body !== undefined; body = bodies.pop()) {
        const path = bodies.length % 5 === 0 ? '/orders/batch' : '/orders';
        const { status, type } = await send(agent, pair.producerUrl + path, body);
        const answer = `${status} ${type}`;
        seen.set(answer, (seen.get(answer) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: 20 }, worker));
    agent.destroy();
    const strange = [...seen.keys()].filter(
      (answer) =>
        !/^(202|207) application\/json/.test(answer) &&
        !/^4(00|13|15|22) application\/problem\+json/.test(answer),
    );
    expect(strange).toEqual([]);
    expect([...seen.values()].reduce((sum, count) => sum + count, 0)).toBe(COUNT);
    await stillServing();
  });

  test('producer, with headers that never end on many connections, still answers others', async () => {
    const sockets = Array.from({ length: 200 }, () => {
      const socket = net.connect(Number(new URL(pair.producerUrl).port), '127.0.0.1');
      socket.on('error', () => {});
      socket.write('POST /orders HTTP/1.1\r\nHost: x\r\nX-Slow: ');
      return socket;
    });
    expect((await post(`${pair.producerUrl}/orders`, anOrderRequest())).status).toBe(202);
    for (const socket of sockets) socket.destroy();
  });

  test(`producer, with ${IDLE_CONNECTIONS} idle connections, still answers others`, async () => {
    // Their other ends are another process's: one alone might not be allowed so many files.
    const holder = spawn(process.execPath, ['--eval', HOLD_CONNECTIONS], {
      env: { ...process.env, PORT: new URL(pair.producerUrl).port, COUNT: String(IDLE_CONNECTIONS) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      expect(String(await once(holder.stdout, 'data'))).toBe('open');
      await vi.waitFor(
        async () =>
          expect(await metric(pair.producerUrl, 'process.files.open')).toBeGreaterThan(IDLE_CONNECTIONS),
        { timeout: 20_000 },
      );
      expect((await post(`${pair.producerUrl}/orders`, anOrderRequest())).status).toBe(202);
    } finally {
      holder.kill();
    }
  });
});

describe('hostile input on the queue', () => {
  test(`consumer, with ${COUNT} mutated messages (seed ${SEED}), stores or dead-letters each at its first receive`, {
    timeout: 60_000 + COUNT * 40,
  }, async () => {
    const order = anOrder({ orderId: randomUUID(), metadata: { channel: 'web' } });
    const encoded = await encodeOrderMessage(
      { order, contentHash: contentHash(order), traceparent: undefined },
      { version: 1, encoding: 'identity', compressAboveBytes: 4_096 },
    );
    // More than half of them can be sent.
    const texts = mutatedTexts(JSON.parse(encoded.body), COUNT * 2, SEED)
      .filter((text) => SQS_CHARACTERS.test(text) && Buffer.byteLength(text) <= MAX_MESSAGE_BYTES)
      .slice(0, COUNT);
    expect(texts).toHaveLength(COUNT);
    const received = await metric(pair.consumerUrl, 'sqs.messages.received');
    await sendAll(texts);
    await vi.waitFor(
      async () =>
        expect((await metric(pair.consumerUrl, 'sqs.messages.received')) - received).toBe(texts.length),
      { timeout: 30_000 + COUNT * 20, interval: 200 },
    );
    await vi.waitFor(async () => expect(await depth(urls.queueUrl)).toBe(0), {
      timeout: 20_000,
      interval: 200,
    });
    expect(await metric(pair.consumerUrl, 'sqs.messages.redelivered')).toBe(0);
    expect(await depth(urls.deadLetterQueueUrl)).toBeGreaterThan(texts.length / 2);
    await stillServing();
  });

  test('consumer, with a message that unpacks to a gigabyte, dead-letters it and keeps its memory', async () => {
    const bomb = zstdCompressSync(Buffer.alloc(1_000_000_000, ' ')).toString('base64');
    const before = process.memoryUsage().rss;
    const marker = randomUUID();
    await sendAll([
      JSON.stringify({
        specversion: '1.0',
        type: 'order.placed.v1',
        id: marker,
        source: '/x',
        contentencoding: 'zstd',
        data_base64: bomb,
      }),
    ]);
    const queue = new DeadLetterQueue(client, urls);
    await vi.waitFor(
      async () => {
        const found = (await queue.peek(COUNT * 2)).find(({ message }) => message.body.includes(marker));
        expect(found?.deadLetter?.reason).toBe('UNREADABLE_CONTENT');
      },
      { timeout: 20_000, interval: 200 },
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(300_000_000);
  });
});

async function depth(url: string): Promise<number> {
  const { ApproximateNumberOfMessages: waiting, ApproximateNumberOfMessagesNotVisible: inFlight } =
    await queueAttributes(client, url);
  return Number(waiting) + Number(inFlight);
}

async function sendAll(texts: string[]): Promise<void> {
  const batches: string[][] = [];
  let bytes = 0;
  for (const text of texts) {
    bytes += Buffer.byteLength(text);
    if (batches.length === 0 || (batches.at(-1)?.length ?? 0) >= 10 || bytes > 200_000) {
      batches.push([]);
      bytes = Buffer.byteLength(text);
    }
    batches.at(-1)?.push(text);
  }
  for (const batch of batches) {
    const entries = batch.map((MessageBody) => ({ MessageBody }));
    const results = await sendEntries(entries, (Entries) =>
      client.send(new SendMessageBatchCommand({ QueueUrl: urls.queueUrl, Entries })),
    );
    expect(results.filter((result) => result instanceof Error)).toEqual([]);
  }
}

function send(agent: http.Agent, url: string, body: string): Promise<{ status: number; type: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
      response.resume();
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '' }),
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}
