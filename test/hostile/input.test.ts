import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { text } from 'node:stream/consumers';
import zlib from 'node:zlib';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { allStored } from '../support/load.ts';
import { getJson } from '../support/pair.ts';
import { MAX_PEAK_BYTES, peakBytes } from '../support/watched-process.ts';
import { mutatedTexts } from './input.ts';
import { type HostileMessage, hostileMessages, sendAll, sendAndAccountFor } from './messages.ts';
import { type HostileScene, openHostileScene } from './scene.ts';

/** Of each kind; the nightly run takes HOSTILE_INPUTS=100000. */
const COUNT = Number(process.env['HOSTILE_INPUTS'] ?? 3_000);
const SEED = Number(process.env['HOSTILE_SEED'] ?? 20_261_123);
/** So many messages are sent, and accounted for, at a time. */
const MESSAGES_A_ROUND = 1_000;

let scene: HostileScene;

beforeAll(async () => {
  // A mutated version may be a newer one: no newer consumer will come for it.
  scene = await openHostileScene({ NEWER_VERSION_REJECT_SECONDS: '0' });
});
afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
});

const metric = async (url: string, name: string) =>
  (await getJson(`${url}/actuator/metrics/${name}`)).body.measurements[0].value as number;
const stillServing = async () => {
  for (const url of [scene.producerUrl, scene.consumerUrl]) {
    expect(await getJson(`${url}/readyz`)).toEqual({ status: 200, body: { status: 'UP' } });
  }
};

describe('hostile input over HTTP', () => {
  test(`producer, with ${COUNT} mutated bodies (seed ${SEED}), answers each with 202, 207 or a problem`, {
    timeout: 60_000 + COUNT * 20,
  }, async () => {
    const order = () => ({
      orderId: randomUUID(),
      ...anOrderRequest({ adjustment: 0, metadata: { channel: 'web' } }),
    });
    const isBatch = (index: number) => index % 5 === 0;
    const base = (index: number) =>
      isBatch(index) ? (index % 2 === 0 ? [order(), order()] : { orders: [order()] }) : order();
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
    const bodies = mutatedTexts(base, COUNT, SEED);
    const seen = new Map<string, number>();
    const accepted: string[] = [];
    const refused = new Set<unknown>();
    let index = 0;
    const worker = async () => {
      for (const body of bodies) {
        const path = isBatch(index++) ? '/orders/batch' : '/orders';
        const { status, type, text } = await send(agent, scene.producerUrl + path, body);
        for (const each of eachIn(text)) {
          if (each.status === 202 || each.status === 'ACCEPTED') accepted.push(each.orderId);
          else refused.add(each.status);
        }
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
    expect([...refused].filter((status) => ![400, 413, 415, 422].includes(status as number))).toEqual([]);
    // What the producer takes, the consumer takes too.
    expect(accepted.length).toBeGreaterThan(0);
    await allStored(scene.consumerUrl, accepted);
    expect(await messagesIn(scene.queues.client, scene.queues.urls.deadLetterQueueUrl)).toBe(0);
    await stillServing();
  });
});

describe('hostile input on the queue', () => {
  test(`consumer, with ${COUNT} mutated messages (seed ${SEED}), stores or dead-letters each at its first receive`, {
    timeout: 60_000 + COUNT * 40,
  }, async () => {
    const received = () => metric(scene.consumerUrl, 'sqs.messages.received');
    const total = { stored: 0, deadLettered: 0 };
    const settle = async (messages: HostileMessage[]) => {
      const before = await received();
      const { queues, consumerUrl } = scene;
      const { stored, deadLettered } = await sendAndAccountFor(messages, { ...queues, consumerUrl });
      expect((await received()) - before).toBe(messages.length);
      total.stored += stored;
      total.deadLettered += deadLettered;
    };
    let round: HostileMessage[] = [];
    for (const message of hostileMessages(COUNT, SEED, { astral: false })) {
      round.push(message);
      if (round.length < MESSAGES_A_ROUND) continue;
      await settle(round);
      round = [];
    }
    await settle(round);
    expect(await metric(scene.consumerUrl, 'sqs.messages.redelivered')).toBe(0);
    expect(total.deadLettered).toBeGreaterThan(COUNT / 2);
    expect(total.stored).toBeGreaterThan(0);
    await stillServing();
  });

  test.each([
    // As much as fits into a message under gzip.
    { name: '150 MB under gzip', bytes: 150_000_000, contentencoding: 'gzip', pack: zlib.gzipSync, of: {} },
    {
      name: '1 GB under zstd',
      bytes: 1_000_000_000,
      contentencoding: 'zstd',
      pack: zlib.zstdCompressSync,
      of: {},
    },
    {
      name: '1 GB of packed messages',
      bytes: 1_000_000_000,
      contentencoding: 'zstd',
      pack: zlib.zstdCompressSync,
      of: { type: 'order.placed.v2', datacontenttype: 'application/x-ndjson' },
    },
  ])(
    'consumer, with a message that unpacks to $name, dead-letters it and keeps its memory',
    async ({ bytes, contentencoding, pack, of }) => {
      const bomb = pack(Buffer.alloc(bytes, ' ')).toString('base64');
      const marker = randomUUID();
      const body = JSON.stringify({
        specversion: '1.0',
        type: 'order.placed.v1',
        id: marker,
        source: '/x',
        contentencoding,
        data_base64: bomb,
        ...of,
      });
      const { queues } = scene;
      await sendAll([{ body, attributes: {} }], queues);
      const queue = new DeadLetterQueue(queues.client, queues.urls);
      await vi.waitFor(
        async () => {
          const found = (await queue.peek(10)).find(({ message }) => message.body.includes(marker));
          expect(found?.deadLetter?.reason).toBe('UNREADABLE_CONTENT');
        },
        { timeout: 30_000, interval: 200 },
      );
      // Of the process's whole life: what was needed for a moment only counts as well.
      expect(peakBytes(scene.consumerPid())).toBeLessThan(MAX_PEAK_BYTES);
    },
  );
});

test('both services, after all that, have died of none of it and have room for twice as much in their memory', async () => {
  await scene.isWell();
});

type Answer = { status: number; type: string; text: string };

function send(agent: http.Agent, url: string, body: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
      const { statusCode: status = 0, headers } = response;
      text(response).then((text) => resolve({ status, type: headers['content-type'] ?? '', text }), reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

type EachAnswer = { status: unknown; orderId: string };

/** The answers to the orders of a batch, or that to one. */
function eachIn(answer: string): EachAnswer[] {
  const { status, orderId, results = [{ status, orderId }] } = JSON.parse(answer);
  return results;
}
