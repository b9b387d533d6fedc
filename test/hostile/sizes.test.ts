import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { openSqliteOrderRepository } from '@orders/consumer/adapters/sqlite-order-repository.ts';
import { contentHash, type OrderRequest } from '@orders/shared/order/order.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { eventually } from '../support/eventually.ts';
import { type HeldSqs, openHeldSqs } from '../support/held-sqs.ts';
import { getJson } from '../support/pair.ts';
import { startWatched, type WatchedProcess } from '../support/watched-process.ts';

const KB = 1_000;
const MiB = 1024 * 1024;

/** A valid order of about so many bytes, of texts that hardly compress, or of Korean ones. */
function orderOf(bytes: number, script: 'latin' | 'korean' = 'latin'): OrderRequest {
  const name = () =>
    script === 'latin' ? randomBytes(141).toString('base64') : Array.from(randomBytes(62), hangul).join('');
  const items = Array.from({ length: Math.max(1, Math.floor(bytes / 250)) }, () => ({
    productId: 'SKU-1',
    name: name(),
    quantity: 1,
    unitPrice: 1,
  }));
  return anOrderRequest({ items, totalAmount: items.length });
}
const hangul = (byte: number) => String.fromCharCode(0xac00 + byte * 40);

describe('order-producer in front of an SQS that does not answer', () => {
  let sqs: HeldSqs;
  let producer: WatchedProcess;
  const sockets: net.Socket[] = [];
  beforeEach(async () => {
    sqs = await openHeldSqs();
    producer = await startWatched('producer', {
      AWS_ENDPOINT_URL: sqs.endpoint,
      PUBLISH_TIMEOUT_MS: '29000',
      SQS_REQUEST_TIMEOUT_MS: '29000',
    });
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await producer?.[Symbol.asyncDispose]();
    await sqs?.[Symbol.asyncDispose]();
  });

  const waiting = async () =>
    (await getJson(`${producer.url}/actuator/metrics/orders.buffered`)).body.measurements[0].value as number;
  const stillAccepts = async () => {
    sqs.release();
    await eventually(async () => {
      const { status } = await post(`${producer.url}/orders`, JSON.stringify(anOrderRequest()));
      expect(status).toBe(202);
    });
  };

  test.each([
    { what: 'in Latin letters', script: 'latin', env: {} },
    { what: 'in Korean letters', script: 'korean', env: {} },
  ] as const)(
    'producer, of 500 valid orders of 250 KB $what at once, holds what it has room for and refuses the others for now',
    async ({ script }) => {
      const body = JSON.stringify(orderOf(250 * KB, script));
      const answers: Answer[] = [];
      const all = Array.from({ length: 500 }, async () => {
        answers.push(await post(`${producer.url}/orders`, body));
      });
      await eventually(async () => expect(answers.length + (await waiting())).toBe(500), 60_000);
      const refused = answers.length;
      expect(refused).toBeGreaterThan(0);
      await stillAccepts();
      await Promise.all(all);
      expect(answers.filter(({ status }) => status === 202)).toHaveLength(500 - refused);
      for (const { status, retryAfter } of answers.slice(0, refused)) {
        expect(status).toBe(429);
        expect(Number(retryAfter)).toBeGreaterThan(0);
      }
      producer.isWell();
    },
  );

  test('producer, of 200 orders of 250 KB whose clients leave, still counts those that wait for SQS', async () => {
    const body = JSON.stringify(orderOf(250 * KB));
    for (let left = 200; left > 0; left--) {
      const socket = await connected(producer.port);
      sockets.push(socket);
      socket.end(requestText('POST /orders', body));
      await once(socket, 'finish');
    }
    for (const socket of sockets.splice(0)) socket.destroy();
    await eventually(async () => {
      const { status } = await post(`${producer.url}/orders`, body);
      expect(status).toBe(429);
    });
    await stillAccepts();
    producer.isWell();
  });

  test('producer, of 120 uploads of 4 MiB that never end, holds what it has room for', async () => {
    const body = JSON.stringify({ orders: Array.from({ length: 450 }, () => orderOf(8 * KB)) }).padEnd(
      4 * MiB,
    );
    const answers: string[] = [];
    const refused = new Set<net.Socket>();
    const uploads = Array.from({ length: 120 }, async () => {
      const socket = await connected(producer.port);
      sockets.push(socket);
      // A reset by a server that reads no more may overtake its answer.
      socket.once('close', () => refused.add(socket));
      socket.setEncoding('utf8').once('data', (answer) => {
        answers.push(String(answer));
        refused.add(socket);
      });
      await new Promise((resolve) =>
        socket.write(requestText('POST /orders/batch', body).slice(0, -1), resolve),
      );
    });
    await Promise.all(uploads);
    await eventually(() => expect(refused.size).toBeGreaterThan(100));
    expect(answers.length).toBeGreaterThan(0);
    expect(answers.filter((answer) => !/^HTTP\/1.1 429 .*retry-after: \d/is.test(answer))).toEqual([]);
    for (const socket of sockets.splice(0)) socket.destroy();
    await stillAccepts();
    producer.isWell();
  });

  test('producer, of 10 uploads that never end in chunks of a byte, needs no more than for their bytes', async () => {
    const chunks = Buffer.from('1\r\n \r\n'.repeat(250 * KB));
    const uploads = Array.from({ length: 10 }, async () => {
      const socket = await connected(producer.port);
      sockets.push(socket);
      socket.write(
        'POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
      );
      await new Promise((resolve) => socket.write(chunks, resolve));
    });
    await Promise.all(uploads);
    for (const socket of sockets.splice(0)) socket.destroy();
    await stillAccepts();
    producer.isWell();
  });

  test('producer, of 40 batches of 4 MiB at once, 450 valid orders each, answers what it has room for', async () => {
    const body = JSON.stringify(Array.from({ length: 450 }, () => orderOf(8 * KB)));
    expect(body.length).toBeGreaterThan(3.4 * MiB);
    const answers: Answer[] = [];
    const all = Array.from({ length: 40 }, async () => {
      answers.push(await post(`${producer.url}/orders/batch`, body));
    });
    await eventually(() => expect(answers.length).toBeGreaterThan(30));
    await stillAccepts();
    await Promise.all(all);
    expect(answers.filter(({ status }) => ![207, 429].includes(status))).toEqual([]);
    producer.isWell();
  });

  /** What 4 MiB have room for. */
  const filled = (start: string, element: (n: number) => string, end: string) => {
    const parts = [start];
    for (let n = 0, length = start.length; length < 4 * MiB - 100; n++) {
      parts.push(element(n));
      length += parts.at(-1)?.length ?? 0;
    }
    return parts.join('').slice(0, -1) + end;
  };
  test.each<[string, () => string]>([
    ['an order of empty items', () => filled('[{"items":[', () => '{},', ']}]')],
    ['an order of metadata', () => filled('[{"metadata":{', (n) => `"${n}":0,`, '}}]')],
    ['an order of unknown fields', () => filled('[{', (n) => `"${n}":0,`, '}]')],
    ['empty arrays', () => filled('[', () => '[],', ']')],
    ['arrays in arrays', () => `${'['.repeat(2 * MiB - 50)}${']'.repeat(2 * MiB - 50)}`],
    ['objects in objects', () => `${'{"":'.repeat(0.8 * MiB)}0${'}'.repeat(0.8 * MiB)}`],
  ])(
    'producer, of wrong batches of $0 as large as may be, refuses them and keeps its memory',
    async (_what, make) => {
      const body = make();
      const answers = await Promise.all(
        [1, 2, 3, 4, 5, 6].map(() => post(`${producer.url}/orders/batch`, body)),
      );
      expect(answers.filter(({ status }) => ![207, 400].includes(status))).toEqual([]);
      await stillAccepts();
      producer.isWell();
    },
  );

  test('producer, while a batch of 100,000 wrong items takes its time, answers others', async () => {
    const body = JSON.stringify(Array(100).fill({ items: Array(1_000).fill({ quantity: 'none' }) }));
    let answered: number | undefined;
    void post(`${producer.url}/orders/batch`, body).then(({ status }) => {
      answered = status;
    });
    let others = 0;
    for (; answered === undefined; others++) await get(`${producer.url}/livez`);
    expect(answered).toBe(207);
    expect(others).toBeGreaterThan(20);
  });
});

describe('order-consumer with large orders in its store', () => {
  const ORDERS = 450;
  let folder: string;
  let emulator: Awaited<ReturnType<typeof startEmulator>>;
  let consumer: WatchedProcess;
  const ids = Array.from({ length: ORDERS }, () => randomUUID());
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'hostile-sizes-'));
    const DATABASE_URL = `sqlite:${path.join(folder, 'orders.db')}`;
    const repository = openSqliteOrderRepository(DATABASE_URL.slice('sqlite:'.length));
    const order = orderOf(250 * KB);
    for (const orderId of ids)
      await repository.saveAll([
        { order: { ...order, orderId }, contentHash: contentHash(order), traceId: 'a'.repeat(32) },
      ]);
    await repository.close();
    emulator = await startEmulator({ port: 0 });
    consumer = await startWatched('consumer', { AWS_ENDPOINT_URL: emulator.endpoint, DATABASE_URL });
  });
  afterAll(async () => {
    await consumer?.[Symbol.asyncDispose]();
    await emulator?.stop();
    if (folder) await rm(folder, { recursive: true });
  });

  test('consumer, asked for 500 large orders of a customer, gives them in pages of a megabyte or so', async () => {
    const seen: string[] = [];
    let after = '';
    do {
      const { status, text } = await get(`${consumer.url}/orders?customerId=C-1001&limit=500${after}`);
      expect(status).toBe(200);
      expect(text.length).toBeLessThan(2 * MiB);
      const { orders, next } = JSON.parse(text) as { orders: { orderId: string }[]; next?: string };
      seen.push(...orders.map(({ orderId }) => orderId));
      after = next ? `&after=${next}` : '';
    } while (after);
    expect(seen.sort()).toEqual(ids.toSorted());
    consumer.isWell();
  });

  test('consumer, asked for 100 large orders by their ids, gives a megabyte or so and says what to ask next', async () => {
    const asked = ids.slice(0, 100);
    const seen: string[] = [];
    let remaining: string[] | undefined = asked;
    while (remaining) {
      const { status, text } = await get(`${consumer.url}/orders?orderIds=${remaining}`);
      expect(status).toBe(200);
      expect(text.length).toBeLessThan(2 * MiB);
      const page = JSON.parse(text) as { orders: { orderId: string }[]; remaining?: string[] };
      expect(page.orders.length).toBeGreaterThan(0);
      seen.push(...page.orders.map(({ orderId }) => orderId));
      remaining = page.remaining;
    }
    expect(seen).toEqual(asked);
    consumer.isWell();
  });
});

type Answer = { status: number; retryAfter: string | undefined; text: string };

const agent = new http.Agent({ keepAlive: false, maxSockets: 1_000 });

/** Over a connection of its own. */
function post(url: string, body: string): Promise<Answer> {
  return answerOf(
    http.request(url, { method: 'POST', agent, headers: { 'content-type': 'application/json' } }).end(body),
  );
}

function get(url: string): Promise<Answer> {
  return answerOf(http.get(url, { agent }));
}

/** Of a client whose connection is reset, status 0. */
async function answerOf(request: http.ClientRequest): Promise<Answer> {
  try {
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    const { statusCode: status = 0, headers } = response;
    return { status, retryAfter: headers['retry-after'], text: await text(response) };
  } catch {
    return { status: 0, retryAfter: undefined, text: '' };
  }
}

function requestText(line: string, body: string): string {
  return `${line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

async function connected(port: number): Promise<net.Socket> {
  const socket = net.connect(port, '127.0.0.1').on('error', () => {});
  await once(socket, 'connect');
  return socket;
}
