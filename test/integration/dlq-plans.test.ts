import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { text } from 'node:stream/consumers';
import type { SQSClient } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import type { DeadLetter } from '@orders/consumer/queue/dead-letter.ts';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash, type Order } from '@orders/shared/order/order.ts';
import { MessageSender } from '@orders/shared/sqs/message-sender.ts';
import { queueDepth, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { sendFaulty } from '../../dev/dead-letters.ts';
import { sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { type Pair, startPair } from '../support/pair.ts';

// Each starts the tool several times.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

const ROOT = path.join(import.meta.dirname, '..', '..');
const TOOL = path.join(ROOT, 'scripts', 'dlq.ts');
const folder = mkdtempSync(path.join(tmpdir(), 'dlq-plans-'));
const database = path.join(folder, 'orders.db');
const file = (name: string) => path.join(folder, name);

let pair: Pair;
let client: SQSClient;
let queueUrl: string;
let deadLetterQueueUrl: string;

beforeAll(async () => {
  pair = await startPair({ DATABASE_URL: `sqlite:${database}` });
  client = sqsClient({ AWS_ENDPOINT_URL: pair.endpoint });
  const names = { APP_ENV: 'dev', ORDER_QUEUE_NAME: 'order-queue', ORDER_DLQ_NAME: 'order-dlq' } as const;
  ({ queueUrl, deadLetterQueueUrl } = await resolveQueues(client, names as never));
});
afterAll(async () => {
  client?.destroy();
  await pair?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});
/** What a test left behind. */
afterEach(async () => {
  if ((await inQueue()).visible === 0) return;
  const queue = new DeadLetterQueue(client, { queueUrl, deadLetterQueueUrl });
  await queue.redrive({ toSend: () => undefined, conflicts: true });
});

const environment = (endpoint = pair.endpoint) => ({
  ...process.env,
  AWS_ENDPOINT_URL: endpoint,
  AWS_ENDPOINT_URL_SQS: '',
  DATABASE_URL: `sqlite:${database}`,
  INIT_CWD: folder,
});
type Ended = { status: number; out: string; error: string };
const dlq = (...args: string[]) =>
  new Promise<Ended>((resolve) => {
    const child = execFile(process.execPath, [TOOL, ...args], { env: environment() }, (_, out, error) =>
      resolve({ status: child.exitCode ?? -1, out, error }),
    );
  });
const start = (args: string[], endpoint?: string): ChildProcess =>
  spawn(process.execPath, [TOOL, ...args], { env: environment(endpoint), stdio: ['ignore', 'pipe', 'pipe'] });

const inQueue = async () => {
  const { visible, inFlight } = await queueDepth(client, deadLetterQueueUrl);
  return { visible, inFlight };
};
const letters = (visible: number) =>
  eventually(async () => expect(await inQueue()).toEqual({ visible, inFlight: 0 }));

async function bodyOf(order: Order): Promise<string> {
  const message = { order, contentHash: contentHash(order), traceparent: undefined };
  const options = { version: 1, encoding: 'identity', compressAboveBytes: 1e9 } as const;
  return (await encodeOrderMessage(message, options)).body;
}

/** Puts messages into the DLQ, as the consumer would. */
async function put(bodies: readonly string[], about: Partial<DeadLetter> = {}, attributes = {}) {
  const sender = new MessageSender(client, deadLetterQueueUrl);
  await Promise.all(
    bodies.map((MessageBody) => {
      const letter: DeadLetter = {
        ...{ reason: 'INVALID_ORDER', detail: 'items.0.quantity: too small', errorClass: 'E', attempts: 1 },
        ...{ failures: 0, firstSeenAt: '2026-03-01T00:00:00.000Z', deadLetteredAt: new Date().toISOString() },
        ...{ codeVersion: 'old', traceId: '0'.repeat(32), messageId: randomUUID() },
        ...about,
      };
      const deadLetter = { DataType: 'String', StringValue: JSON.stringify(letter) };
      return sender.send({ MessageBody, MessageAttributes: { ...attributes, deadLetter } });
    }),
  );
  await letters(bodies.length);
}
const good = (overrides: Partial<Order> = {}): Order => anOrder({ orderId: randomUUID(), ...overrides });
/** Of an order whose quantity is wrong; {@link REPAIR} makes it good. */
const faulty = async (order = good()) => (await bodyOf(order)).replace(/"quantity":\d+/, '"quantity":-1');
const manyFaulty = (count: number) => Promise.all(Array.from({ length: count }, () => faulty()));
const REPAIR = [{ op: 'replace', path: '/items/0/quantity', value: anOrder().items[0]?.quantity }];
const repair = (name: string, patch: unknown = REPAIR) => {
  writeFileSync(file(name), JSON.stringify(patch));
  return `--repair=${name}`;
};

const linesIn = (name: string) =>
  readFileSync(file(name), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const journal = (plan: string) => linesIn(`${plan}.journal.ndjson`);
const resultsIn = (plan: string, result: string) => journal(plan).filter((line) => line.result === result);
const storedIds = () => {
  using db = new DatabaseSync(database, { readOnly: true });
  return new Set(
    db
      .prepare('SELECT order_id AS id FROM orders')
      .all()
      .map(({ id }) => id),
  );
};

test('dlq.sh plan, told of no messages, refuses; of all, writes down what would be done, and touches nothing', async () => {
  const customer = good();
  await put([
    ...(await manyFaulty(3)),
    await bodyOf(good()),
    (await bodyOf(customer)).replace(/"customerId":"[^"]*"/, '"customerId":""'),
    'no JSON',
  ]);
  expect(await dlq('plan', '--out=none.plan')).toMatchObject({ status: 2, out: '' });
  expect(await dlq('plan', '--all', '--reason=X', '--out=none.plan')).toMatchObject({ status: 2 });
  expect(await dlq('plan', '--reason=UNKNOWN', '--out=none.plan')).toMatchObject({ status: 1 });

  const patch = repair('p.json', [...REPAIR, { op: 'add', path: '/customerId', value: 'C-1' }]);
  expect((await dlq('plan', '--all', '--out=as-is.plan')).out).toMatch(
    /6 chosen, 6 of about 6 seen\n1 to redrive, 0 to repair and redrive, 0 to discard, 5 left\n/,
  );
  // Most would become another customer's.
  const { out } = await dlq('plan', '--all', patch, '--out=other.plan');
  expect(out).toMatch(/0 to redrive, 0 to repair.*6 left/);
  expect(out).toContain('the repair changes customerId');
  const repaired = await dlq('plan', '--all', patch, '--identity', '--out=identity.plan');
  expect(repaired.out).toMatch(/0 to redrive, 5 to repair and redrive, 0 to discard, 1 left/);
  expect(repaired.out).toMatch(/\/items\/0\/quantity: -1 → \d/);
  expect(repaired.out).toContain('1 left: still NOT_JSON (not valid JSON)');
  const [header, ...entries] = linesIn('identity.plan');
  expect(header).toMatchObject({ environment: 'dev', queue: expect.stringContaining(':order-dlq') });
  expect(entries.filter(({ action }) => action === 'repair')).toHaveLength(5);
  await letters(6);
});

test('dlq.sh run repairs and moves what was planned, and its account closes with the store', async () => {
  const orders = Array.from({ length: 30 }, () => good());
  await put(await Promise.all(orders.map((order) => faulty(order))));
  await dlq('plan', '--reason=INVALID_ORDER', repair('q.json'), '--out=good.plan');
  const { status, out } = await dlq('run', 'good.plan');
  expect(out).toContain('30 = 30 stored + 0 duplicate + 0 rejected again + 0 still on the way + 0 not sent');
  expect(status).toBe(0);
  const ids = storedIds();
  expect(orders.every(({ orderId }) => ids.has(orderId))).toBe(true);
  await letters(0);
  for (const result of ['SENDING', 'SENT', 'STORED']) expect(resultsIn('good.plan', result)).toHaveLength(30);
  expect(resultsIn('good.plan', 'SENDING')[0]).toMatchObject({
    by: expect.stringContaining('@'),
    before: expect.stringMatching(/^[0-9a-f]{64}$/),
    after: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
  // There is nothing left to do, and it says so.
  expect(await dlq('run', 'good.plan')).toMatchObject({ status: 0, out });
});

test('dlq.sh run, of what is rejected again, counts the redrive and keeps what it was; after three it is parked', async () => {
  const mark = {
    id: 'x',
    plan: 'y',
    redriveCount: 2,
    messageId: 'first',
    firstSeenAt: '2026-03-01T00:00:00.000Z',
  };
  const text = (StringValue: string) => ({ DataType: 'String', StringValue });
  await put([await faulty()], {}, { mine: text('kept'), redrive: text(JSON.stringify(mark)) });
  await dlq('plan', '--all', '--unreadable', '--out=again.plan');
  const { status, out } = await dlq('run', 'again.plan', '--max-failing=100');
  expect(out).toContain('0 stored + 0 duplicate + 1 rejected again (1 INVALID_ORDER) + 0 still on the way');
  expect(status).toBe(0);
  await letters(1);
  const [letter] = await new DeadLetterQueue(client, { queueUrl, deadLetterQueueUrl }).peek(1);
  expect(letter?.message.attributes).toMatchObject({ mine: 'kept' });
  expect(JSON.parse(letter?.message.attributes['redrive'] ?? '')).toMatchObject({
    redriveCount: 3,
    messageId: 'first',
    firstSeenAt: '2026-03-01T00:00:00.000Z',
  });
  await letters(1);
  expect((await dlq('plan', '--all', '--unreadable', '--out=parked')).out).toContain(
    'parked: redriven 3 times',
  );
  expect((await dlq('parked')).out).toContain('1 shown');
});

test('dlq.sh run, of a bad repair, stops before 20 of 1,000 are sent', async () => {
  const stored = good();
  const order = new MessageSender(client, queueUrl);
  await order.send({ MessageBody: await bodyOf(stored), MessageAttributes: {} });
  await eventually(() => expect(storedIds().has(stored.orderId)).toBe(true));
  // Each becomes another order of an id that is taken.
  const bodies = Array.from({ length: 1_000 }, (_, n) =>
    faulty({ ...stored, items: [{ ...(stored.items[0] as Order['items'][0]), name: `other ${n}` }] }),
  );
  await put(await Promise.all(bodies));
  expect((await dlq('plan', '--all', repair('bad.json'), '--out=bad.plan')).out).toContain(
    '1000 to repair and redrive',
  );
  const { status, out } = await dlq('run', 'bad.plan', '--rate=1000');
  expect(status).toBe(1);
  expect(out).toMatch(/stopped: too many fail again, the last one with CONFLICT/);
  expect(resultsIn('bad.plan', 'SENT').length).toBeLessThanOrEqual(20);
  await letters(1_000);
});

/** The same plan, changed, with a hash that fits. */
function forge(name: string, as: string, change: (lines: Record<string, unknown>[]) => void) {
  const [, ...rest] = linesIn(name).toReversed();
  const lines = rest.toReversed();
  change(lines);
  const written = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  const hash = createHash('sha256').update(written).digest('hex');
  writeFileSync(file(as), `${written}${JSON.stringify({ entries: lines.length - 1, hash })}\n`);
}

test('dlq.sh run refuses a plan of another queue, and stops at a message that is not the one that was planned', async () => {
  await put(await manyFaulty(2));
  await dlq('plan', '--all', repair('r.json'), '--out=true.plan');
  forge('true.plan', 'queue', ([header = {}]) => Object.assign(header, { queue: `${header['queue']}-2` }));
  forge('true.plan', 'messages', (lines) => {
    for (const line of lines.slice(1)) line['hash'] = '0'.repeat(64);
  });
  expect(await dlq('run', 'queue')).toMatchObject({
    status: 1,
    out: '',
    error: expect.stringContaining('is of another queue'),
  });
  expect(await dlq('run', 'messages')).toMatchObject({
    status: 1,
    out: expect.stringMatching(
      /stopped: message .* is not the one that was planned\n2 = 0 stored.* 2 not sent/,
    ),
  });
  await letters(2);
});

test('dlq.sh run, killed between a send and its answer, goes on where it was, and stores each once', async () => {
  const orders = Array.from({ length: 40 }, () => good());
  await put(await Promise.all(orders.map((order) => faulty(order))));
  await dlq('plan', '--all', repair('k.json'), '--out=killed.plan');
  let sends = 0;
  const sent = Promise.withResolvers<void>();
  // What it holds is free again soon. The answer to one send never comes.
  const proxy = http.createServer(async (request, response) => {
    const target = String(request.headers['x-amz-target']);
    const body = (await text(request)).replace('"VisibilityTimeout":120', '"VisibilityTimeout":2');
    const { host: _, connection: __, 'content-length': ___, ...headers } = request.headers;
    const answer = await fetch(pair.endpoint, { method: 'POST', headers: headers as never, body });
    if (target.endsWith('SendMessageBatch') && ++sends === 6) return sent.resolve();
    response.writeHead(answer.status, { 'content-type': 'application/x-amz-json-1.0' });
    response.end(await answer.text());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const child = start(['run', 'killed.plan'], `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`);
  await sent.promise;
  child.kill('SIGKILL');
  await once(child, 'close');
  proxy.closeAllConnections();
  proxy.close();
  const before = resultsIn('killed.plan', 'SENT').length;
  expect(before).toBeGreaterThan(0);
  expect(resultsIn('killed.plan', 'SENDING').length).toBeGreaterThan(before);

  const { status, out } = await dlq('run', 'killed.plan');
  expect(out).toContain(
    '40 = 40 stored + 0 duplicate + 0 rejected again + 0 still on the way + 0 not sent + 0',
  );
  expect(status).toBe(0);
  const ids = storedIds();
  expect(orders.every(({ orderId }) => ids.has(orderId))).toBe(true);
  await letters(0);
});

test('dlq.sh run, while another process runs the plan, or of which the journal is lost, moves nothing more', async () => {
  await put(await manyFaulty(5));
  await dlq('plan', '--all', repair('t.json'), '--out=two.plan');
  // Nobody says what becomes of the first message, which is waited for.
  await pair.stopConsumer();
  const child = start(['run', 'two.plan']);
  const closed = once(child, 'close');
  await eventually(() => expect(resultsIn('two.plan', 'SENT')).toHaveLength(1));
  expect(await dlq('run', 'two.plan')).toMatchObject({
    status: 1,
    out: '',
    error: expect.stringContaining('another process runs'),
  });
  await rm(file('two.plan.journal.ndjson'));
  const error = text(child.stderr as never);
  await pair.startConsumerAgain();
  expect(await closed).toEqual([1, null]);
  expect(await error).toContain('nothing is moved');
  await letters(4);

  // What was sent is in no journal: nobody can say what became of it.
  const again = await dlq('run', 'two.plan');
  expect(again.out).toContain(
    '5 = 4 stored + 0 duplicate + 0 rejected again + 0 still on the way + 0 not sent + 1',
  );
  expect(again.status).toBe(1);

  await put(await manyFaulty(1));
  await dlq('plan', '--all', repair('t.json'), '--out=no-journal.plan');
  await mkdir(file('no-journal.plan.journal.ndjson'));
  expect(await dlq('run', 'no-journal.plan')).toMatchObject({ status: 1, out: '' });
  await letters(1);
});

test('dlq.sh run, of an order that was stored meanwhile, counts a duplicate; of messages that are gone, does not close', async () => {
  const [meanwhile, other] = [good(), good()];
  await put([await bodyOf(meanwhile), await bodyOf(other)], { reason: 'MAX_FAILURES' });
  await dlq('plan', '--readable', '--out=late.plan');
  const sender = new MessageSender(client, queueUrl);
  await sender.send({ MessageBody: await bodyOf(meanwhile), MessageAttributes: {} });
  await eventually(() => expect(storedIds().has(meanwhile.orderId)).toBe(true));
  expect(await dlq('run', 'late.plan')).toMatchObject({
    status: 0,
    out: expect.stringContaining('2 = 1 stored + 1 duplicate + 0 rejected again'),
  });

  await put([await bodyOf(good()), await bodyOf(good())], { reason: 'MAX_FAILURES' });
  await dlq('plan', '--all', '--out=gone.plan');
  await dlq('redrive');
  await letters(0);
  const { status, out } = await dlq('run', 'gone.plan');
  expect(out).toMatch(/0 not sent \+ 2 not found in the dead-letter queue\nThe account is NOT closed/);
  expect(status).toBe(1);
});

test('dlq.sh discard keeps what it deletes, says why, and deletes nothing of which it cannot keep a copy', async () => {
  await put(['no JSON', 'neither'], { reason: 'NOT_JSON' });
  await dlq('plan', '--all', '--discard', '--out=discarded.plan');
  expect(await dlq('discard', 'discarded.plan')).toMatchObject({ status: 2 });
  expect(await dlq('run', 'discarded.plan')).toMatchObject({
    status: 1,
    error: expect.stringContaining('is to discard'),
  });
  const refused = await dlq('discard', 'discarded.plan', '--because=waste', `--archive=${folder}`);
  expect(refused).toMatchObject({ status: 1, error: expect.stringContaining('nothing is discarded') });
  await letters(2);

  const { status, out } = await dlq('discard', 'discarded.plan', '--because=waste');
  expect(out).toContain('2 of 2 discarded');
  expect(status).toBe(0);
  await letters(0);
  const kept = linesIn('discarded.plan.discarded.ndjson');
  expect(kept.map(({ body }) => body).toSorted()).toEqual(['neither', 'no JSON']);
  expect(kept[0].attributes.deadLetter.StringValue).toContain('NOT_JSON');
  expect(resultsIn('discarded.plan', 'DISCARDING')[0]).toMatchObject({ reason: 'waste' });
  expect(await dlq('discard', 'discarded.plan', '--because=waste')).toMatchObject({ status: 0 });
});

test('the commands of the runbook do what it says', async () => {
  const page = readFileSync(path.join(ROOT, 'docs', 'runbooks', 'DeadLetters.md'), 'utf8');
  const typed = [...page.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block).join('');
  expect(typed.match(/^scripts\/dlq\.sh \w+/gm)).toEqual(
    ['summary', 'plan', 'run', 'plan', 'discard'].map((verb) => `scripts/dlq.sh ${verb}`),
  );
  const script = typed
    .replaceAll('scripts/dlq.sh', `"${process.execPath}" "${TOOL}"`)
    .replaceAll(' production', ' dev');
  await sendFaulty(client, queueUrl, 25);
  await letters(25);
  const { status, out, error } = await new Promise<Ended>((resolve) => {
    const child = execFile('sh', ['-ec', script], { cwd: folder, env: environment() }, (_, out, error) =>
      resolve({ status: child.exitCode ?? -1, out, error }),
    );
  });
  expect({ status, error }).toEqual({ status: 0, error: '' });
  expect(out).toContain('25 of about 25 seen');
  expect(out).toContain('5 = 5 stored');
  expect(out).toContain('5 of 5 discarded');
  await letters(15);
});
