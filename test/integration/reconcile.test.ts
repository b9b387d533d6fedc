import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { DeleteMessageCommand, ReceiveMessageCommand, SendMessageCommand } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { messagesIn, queueAttributes } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Pair, post, startPair } from '../support/pair.ts';
import { type FoundQueues, findQueues } from '../support/queues.ts';

const eventually = <T>(assertion: () => T | Promise<T>) =>
  vi.waitFor(assertion, { timeout: 30_000, interval: 20 });

const root = path.join(import.meta.dirname, '..', '..');

let folder: string;
let journal: string;
let databaseUrl: string;
let pair: Pair;
let queues: FoundQueues;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'reconcile-'));
  journal = path.join(folder, 'accepted.ndjson');
  databaseUrl = `sqlite:${path.join(folder, 'orders.db')}`;
  pair = await startPair({ ACCEPTANCE_JOURNAL: journal, DATABASE_URL: databaseUrl });
  queues = await findQueues(pair.endpoint);
});
afterEach(async () => {
  queues[Symbol.dispose]();
  await pair[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

/** The tool as operators run it. */
const reconcile = (args: string[], input?: string | Buffer) => runScript('reconcile.ts', args, input);
async function runScript(name: string, args: string[], input?: string | Buffer) {
  const tool = spawn(process.execPath, [path.join(root, 'scripts', name), ...args], {
    env: { ...process.env, AWS_ENDPOINT_URL: pair.endpoint, DATABASE_URL: databaseUrl, INIT_CWD: folder },
  });
  tool.stdin.end(input);
  const closed = new Promise<number | null>((resolve) => tool.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(tool.stdout), text(tool.stderr)]);
  return { status: await closed, stdout, stderr };
}
async function reconcileJson(...args: string[]) {
  const { status, stdout, stderr } = await reconcile([...args, '--json']);
  expect(stderr).toBe('');
  return { status, report: JSON.parse(stdout) };
}

async function place(overrides: object = {}): Promise<string> {
  const { status, body } = await post(`${pair.producerUrl}/orders`, anOrderRequest(overrides));
  expect(status).toBe(202);
  return body.orderId;
}
const placeMany = (count: number) => Promise.all(Array.from({ length: count }, () => place()));
const workedOff = () =>
  eventually(async () => expect(await messagesIn(queues.client, queues.urls.queueUrl)).toBe(0));
function inStore<T>(work: (db: DatabaseSync) => T): T {
  const db = new DatabaseSync(databaseUrl.slice('sqlite:'.length), { timeout: 5_000 });
  try {
    return work(db);
  } finally {
    db.close();
  }
}
const removeRow = (orderId: string) =>
  inStore((db) => expect(db.prepare('DELETE FROM orders WHERE order_id = ?').run(orderId).changes).toBe(1));

// Each run of the tool is a process of its own.
describe('reconcile', { timeout: 120_000 }, () => {
  test('of orders that are all stored, finds all well', async () => {
    await placeMany(50);
    await workedOff();
    const { status, report } = await reconcileJson(journal);
    expect(report).toMatchObject({
      verdict: 'ok',
      accepted: 50,
      stored: 50,
      deadLettered: 0,
      missing: 0,
      unresolved: 0,
      inFlight: 0,
      storedNeverAccepted: 0,
      journal: { lines: 50, garbled: 0, other: 0 },
    });
    expect(status).toBe(0);
    const { stdout } = await reconcile([path.basename(journal)]);
    expect(stdout).toMatch(/^accepted +50 {3}50 journal lines.*\n {2}stored +50\n/);
    expect(stdout).toMatch(/\nOK: .*\n$/);
  });

  test('of a store from which a row was deleted, finds that order', async () => {
    const ids = await placeMany(20);
    await workedOff();
    const lost = ids[7] as string;
    removeRow(lost);
    const { status, report } = await reconcileJson(journal);
    expect(status).toBe(1);
    expect(report).toMatchObject({ verdict: 'wrong', accepted: 20, stored: 19, missing: 1, unresolved: 0 });
    const line = (await readFile(journal, 'utf8')).split('\n').find((each) => each.includes(lost)) ?? '';
    const { journal: _mark, ...known } = JSON.parse(line);
    expect(report.orders.missing).toEqual([known]);
    const asText = await reconcile([journal]);
    expect(asText.status).toBe(1);
    expect(asText.stdout).toContain(`missing: ${lost} accepted ${known.acceptedAt}`);
    expect(asText.stdout).toMatch(/\nWRONG: 1 missing\n$/);
  });

  test('of a store that has an id twice, in two spellings, finds it', async () => {
    const orderId = randomUUID().replace(/^./, 'a');
    await place({ orderId });
    await workedOff();
    inStore((db) =>
      db.exec(
        'INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data) SELECT upper(order_id), customer_id, created_at_ms, content_hash, trace_id, data FROM orders',
      ),
    );
    const { status, report } = await reconcileJson(journal);
    expect(report).toMatchObject({
      accepted: 1,
      stored: 1,
      storedTwice: 1,
      orders: { storedTwice: [orderId] },
    });
    expect(status).toBe(1);
  });

  test('of an order sent again by its client, counts it once', async () => {
    const orderId = await place();
    expect(await place({ orderId })).toBe(orderId);
    await workedOff();
    const { status, report } = await reconcileJson(journal, journal);
    expect(report).toMatchObject({
      accepted: 1,
      stored: 1,
      acceptedAgain: 1,
      journal: { lines: 4, repeated: 2 },
    });
    expect(status).toBe(0);
  });

  test('of two different orders under one id, finds the second where it is, and misses it when it is lost', async () => {
    const orderId = await place({ customerId: 'C-FIRST' });
    await workedOff();
    await place({ orderId, customerId: 'C-SECOND' });
    const { client, urls } = queues;
    await eventually(async () => expect(await messagesIn(client, urls.deadLetterQueueUrl)).toBe(1));
    await workedOff();
    const found = await reconcileJson(journal);
    expect(found.report).toMatchObject({
      accepted: 2,
      otherContent: 1,
      stored: 1,
      deadLettered: 1,
      missing: 0,
    });
    expect(found.status).toBe(0);

    const receive = { QueueUrl: urls.deadLetterQueueUrl, VisibilityTimeout: 30 };
    const { Messages = [] } = await client.send(new ReceiveMessageCommand(receive));
    const ReceiptHandle = Messages[0]?.ReceiptHandle;
    await client.send(new DeleteMessageCommand({ QueueUrl: urls.deadLetterQueueUrl, ReceiptHandle }));
    const lost = await reconcileJson(journal);
    expect(lost.report).toMatchObject({
      accepted: 2,
      stored: 1,
      missing: 1,
      orders: { missing: [{ orderId }] },
    });
    expect(lost.status).toBe(1);
  });

  test('of orders that retention archived, finds them there; not told of archives, it asks for them', async () => {
    const ids = await placeMany(5);
    await workedOff();
    const backdated = (await readFile(journal, 'utf8')).replaceAll(
      /"acceptedAt":"\d{4}/g,
      '"acceptedAt":"2020',
    );
    await writeFile(journal, backdated);
    inStore((db) =>
      db
        .prepare("UPDATE orders SET stored_at = '2020-11-27T00:00:00.000Z' WHERE order_id <> ?")
        .run(ids[0] as string),
    );
    const archive = path.join(folder, 'old.gz');
    await runScript('retention.ts', ['--keep-days=30', `--archive=${archive}`]);
    const { status, report } = await reconcileJson(journal, `--archive=${archive}`);
    expect(report).toMatchObject({
      accepted: 5,
      stored: 1,
      archived: 4,
      missing: 0,
      archives: { orders: 4 },
    });
    expect(status).toBe(0);

    const asked = await reconcile([journal, '--keep-days=400']);
    expect(asked.stdout).toMatch(/\n {2}archived\? +4 .*\n(.*\n)*UNRESOLVED: 4 .*--archive/);
    expect(asked.status).toBe(3);
    const untold = await reconcile([journal]);
    expect(untold.stdout).toMatch(/\nWRONG: 4 missing.*\n.*--archive/);
    expect(untold.status).toBe(1);

    // Its client reads that it is missing, and sends it again with its own id.
    await place({ orderId: ids[4] });
    await workedOff();
    const again = await reconcileJson(journal, `--archive=${archive}`);
    expect(again.report).toMatchObject({ storedAgain: 1, orders: { storedAgain: [ids[4]] } });
    expect(again.status).toBe(0);
  });

  test('of an archive that an earlier release cut, reads what can be read, and tells of the rest', async () => {
    const ids = await placeMany(3);
    await workedOff();
    const { data, hash } = inStore((db) => ({
      data: db.prepare('SELECT data FROM orders').all(),
      hash: db.prepare('SELECT content_hash FROM orders').get()?.['content_hash'],
    }));
    const [first, second, third] = data.map((row) => {
      const order = JSON.parse(String(row['data']));
      return `${JSON.stringify({ order, contentHash: hash, traceId: '', storedAt: new Date() })}\n`;
    }) as [string, string, string];
    inStore((db) => db.exec('DELETE FROM orders'));
    const cut = gzipSync(second + first);
    const archive = path.join(folder, 'old.gz');
    await writeFile(archive, Buffer.concat([gzipSync(first), cut.subarray(0, -60), gzipSync(third)]));
    const { status, stdout } = await reconcile([journal, `--archive=${archive}`]);
    expect(stdout).toMatch(/^ {2}archived +(\d) +\1 lines of 1 archive, 1 garbled, \d+ bytes unreadable$/m);
    expect(stdout).not.toContain(`missing: ${ids[0]}`);
    expect(status).toBe(stdout.includes('missing: ') ? 1 : 0);
  });

  test('of an order that is not stored but dead-lettered, accounts for it, by its id or by its message', async () => {
    const ids = await placeMany(3);
    await workedOff();
    await pair.stopConsumer();
    const lines = (await readFile(journal, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    for (const id of ids) removeRow(id);
    const messageOf = (id: string | undefined) => lines.find(({ orderId }) => orderId === id).messageId;
    const deadLetter = (body: string, reason: string, messageId: string) =>
      queues.client.send(
        new SendMessageCommand({
          QueueUrl: queues.urls.deadLetterQueueUrl,
          MessageBody: body,
          MessageAttributes: {
            deadLetter: {
              DataType: 'String',
              StringValue: JSON.stringify({
                reason,
                detail: '',
                errorClass: 'Error',
                attempts: 1,
                failures: 1,
                firstSeenAt: '',
                deadLetteredAt: '',
                codeVersion: '',
                traceId: '',
                messageId,
              }),
            },
          },
        }),
      );
    const event = (data: object) =>
      JSON.stringify({ specversion: '1.0', type: 'order.placed.v1', id: '1', source: '/x', data });
    await deadLetter(event(anOrderRequest({ orderId: ids[0] })), 'MAX_FAILURES', randomUUID());
    await deadLetter('not readable at all', 'NOT_JSON', messageOf(ids[1]));
    // A letter of another order with this id does not make up for it.
    const other = anOrderRequest({ orderId: ids[2], customerId: 'C-OTHER' });
    await deadLetter(event(other), 'CONFLICT', randomUUID());

    const { status, report } = await reconcileJson(journal);
    expect(report).toMatchObject({
      accepted: 3,
      stored: 0,
      deadLettered: 2,
      missing: 1,
      orders: { missing: [{ orderId: ids[2] }] },
      deadLetterQueue: { messages: 3, notSeen: 0 },
    });
    expect(status).toBe(1);
    // What was looked at is there, and visible at once.
    const { ApproximateNumberOfMessages } = await queueAttributes(
      queues.client,
      queues.urls.deadLetterQueueUrl,
    );
    expect(ApproximateNumberOfMessages).toBe('3');
    expect(await new DeadLetterQueue(queues.client, queues.urls).peek(10)).toHaveLength(3);

    const without = await reconcileJson(journal, '--no-dlq');
    expect(without.report).toMatchObject({
      deadLettered: 0,
      missing: 0,
      unresolved: 3,
      deadLetterQueue: { messages: 3, notSeen: 3 },
    });
    expect(without.status).toBe(3);
  });

  test('of an order that cannot be read, and was rejected again after a redrive, accounts for it by its envelope', async () => {
    const order = { ...anOrderRequest(), orderId: randomUUID(), totalAmount: 1 };
    const content = `v1:${'ab'.repeat(32)}`;
    const { client, urls } = queues;
    const { MessageId } = await client.send(
      new SendMessageCommand({
        QueueUrl: urls.queueUrl,
        MessageBody: JSON.stringify({
          specversion: '1.0',
          type: 'order.placed.v1',
          id: order.orderId,
          source: '/order-producer',
          contenthash: content,
          data: order,
        }),
      }),
    );
    const line = {
      journal: 'accepted',
      orderId: order.orderId,
      acceptedAt: new Date(),
      messageId: MessageId,
    };
    await writeFile(journal, `${JSON.stringify({ ...line, content: content.slice(0, 19) })}\n`);
    const rejected = () =>
      eventually(async () => expect(await messagesIn(client, urls.deadLetterQueueUrl)).toBe(1));
    await rejected();
    expect(await new DeadLetterQueue(client, urls).redrive({})).toBe(1);
    await rejected();
    await workedOff();
    const { status, report } = await reconcileJson(journal);
    expect(report).toMatchObject({ accepted: 1, deadLettered: 1, missing: 0 });
    expect(status).toBe(0);
  });

  test('of a packed message of which one order was dead-lettered, finds another that the store lost', async () => {
    const { endpoint } = pair;
    await using packing = await startPair({
      AWS_ENDPOINT_URL: endpoint,
      ACCEPTANCE_JOURNAL: journal,
      DATABASE_URL: databaseUrl,
      PUBLISH_PACKING: 'on',
    });
    // The store takes one order of this customer only.
    inStore((db) => db.exec("CREATE UNIQUE INDEX once ON orders (customer_id) WHERE customer_id = 'C-ONCE'"));
    await place({ customerId: 'C-ONCE' });
    await workedOff();
    const lost = randomUUID();
    const batch = [
      anOrderRequest({ customerId: 'C-ONCE' }),
      anOrderRequest({ orderId: lost }),
      anOrderRequest(),
    ];
    const { body } = await post(`${packing.producerUrl}/orders/batch`, batch);
    expect(body).toMatchObject({ accepted: 3 });
    await workedOff();
    expect((await reconcileJson(journal)).report).toMatchObject({ accepted: 4, stored: 3, deadLettered: 1 });
    const messages = (await readFile(journal, 'utf8')).match(/"messageId":"[^"]+"/g);
    expect(new Set(messages).size).toBe(2);

    removeRow(lost);
    const { status, report } = await reconcileJson(journal);
    expect(report).toMatchObject({
      stored: 2,
      deadLettered: 1,
      missing: 1,
      orders: { missing: [{ orderId: lost }] },
    });
    expect(status).toBe(1);
  });

  test('of orders that wait in the queue, cannot tell yet, and can when they are worked off', async () => {
    await place();
    await workedOff();
    await pair.stopConsumer();
    await placeMany(5);
    const waiting = await reconcileJson(journal);
    expect(waiting.report).toMatchObject({
      verdict: 'unresolved',
      accepted: 6,
      stored: 1,
      missing: 0,
      unresolved: 5,
      inFlight: 5,
    });
    expect(waiting.status).toBe(3);
    // Also those that a consumer holds are not visible, and not lost.
    const receive = { QueueUrl: queues.urls.queueUrl, MaxNumberOfMessages: 10, VisibilityTimeout: 2 };
    await queues.client.send(new ReceiveMessageCommand(receive));
    expect((await reconcileJson(journal)).status).toBe(3);
    await pair.startConsumerAgain();
    await workedOff();
    expect((await reconcileJson(journal)).status).toBe(0);
  });

  test('of orders that were stored and never accepted, tells, and minds only when it is strict', async () => {
    const [known, unknown] = (await placeMany(2)) as [string, string];
    await workedOff();
    const lines = (await readFile(journal, 'utf8')).split('\n').filter((line) => !line.includes(unknown));
    await writeFile(journal, lines.join('\n'));
    const lenient = await reconcileJson(journal);
    expect(lenient.report).toMatchObject({
      accepted: 1,
      stored: 1,
      storedNeverAccepted: 1,
      orders: { storedNeverAccepted: [unknown] },
    });
    expect(lenient.status).toBe(0);
    const strict = await reconcile([journal, '--strict']);
    expect(strict.status).toBe(1);
    expect(strict.stdout).toMatch(/\nWRONG: 1 stored, never accepted\n$/);
    expect(strict.stdout).not.toContain(known);
  });

  test('of log streams, packed or not, from a file or a pipe, reads the lines among others', async () => {
    await placeMany(10);
    await workedOff();
    const lines = (await readFile(journal, 'utf8')).trim().split('\n');
    const mixed = [
      '{"level":"INFO","message":"ready"}',
      ...lines.slice(0, 6),
      `${lines[0]?.slice(0, 60)}${lines[6]}`,
      `producer-1  | ${lines[7]}`,
      JSON.stringify({ log: `${lines[8]}\n`, stream: 'stdout' }),
      JSON.stringify({ extra: 1, ...JSON.parse(lines[9] ?? '') }),
      lines[0]?.slice(0, 60),
      '{"journal":"accepted","orderId":"no id","acceptedAt":"2026-11-22T09:00:00Z"}',
      '',
    ].join('\n');
    const gz = path.join(folder, 'log.gz');
    await writeFile(gz, Buffer.concat([gzipSync(mixed.slice(0, 1_000)), gzipSync(mixed.slice(1_000))]));
    const expected = { accepted: 10, stored: 10, journal: { lines: 13, garbled: 2, other: 1, repeated: 0 } };
    expect((await reconcileJson('dev', gz)).report).toMatchObject(expected);
    for (const input of [mixed, gzipSync(mixed)]) {
      const { status, stdout } = await reconcile(['-', '--json'], input);
      expect(JSON.parse(stdout)).toMatchObject(expected);
      expect(status).toBe(0);
    }
  });

  test('of the standard output of a producer that logs a lot, finds every line whole', async () => {
    const producer = spawn(process.execPath, [path.join(root, 'producer', 'src', 'main.ts')], {
      env: {
        ...process.env,
        AWS_ENDPOINT_URL: pair.endpoint,
        PRODUCER_PORT: '0',
        ACCEPTANCE_JOURNAL: 'stdout',
        LOG_LEVEL: 'debug',
        LIBRARY_LOG_LEVEL: 'debug',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    producer.stdout.setEncoding('utf8').on('data', (data: string) => {
      output += data;
    });
    const closed = new Promise((resolve) => producer.once('close', resolve));
    const url = await eventually(() => {
      const ready = /"url":"([^"]+)".*"message":"ready"/.exec(output);
      expect(ready).not.toBeNull();
      return ready?.[1] as string;
    });
    const answers = await Promise.all(
      Array.from({ length: 300 }, () => post(`${url}/orders`, anOrderRequest())),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(300).fill(202));
    await workedOff();
    producer.kill();
    expect(await closed).toBe(0);
    const { status, stdout } = await reconcile(['-', '--json'], output);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ accepted: 300, stored: 300, journal: { garbled: 0, repeated: 0 } });
    expect(report.journal.other).toBeGreaterThan(10);
    expect(status).toBe(0);
  });

  test('of a time range, judges only what was accepted in it', async () => {
    const early = await place();
    await workedOff();
    const since = new Date(Date.now() + 1).toISOString();
    await vi.waitUntil(() => Date.now() > Date.parse(since), { timeout: 30_000 });
    const late = await place();
    await workedOff();
    removeRow(early);
    const range = await reconcileJson(journal, `--since=${since}`);
    expect(range.report).toMatchObject({ accepted: 1, stored: 1, missing: 0, journal: { outsideRange: 1 } });
    expect(range.status).toBe(0);
    const before = await reconcileJson(journal, `--until=${since}`);
    expect(before.report).toMatchObject({
      accepted: 1,
      missing: 1,
      orders: { missing: [{ orderId: early }] },
    });
    expect(before.report.storedNeverAccepted).toBe(0);
    expect(before.status).toBe(1);
    removeRow(late);
    expect((await reconcileJson(journal, `--since=${since}`)).report.missing).toBe(1);
  });

  test('of what it cannot check, says why, with a status of its own', async () => {
    const bad = async (...args: string[]) => {
      const { status, stdout, stderr } = await reconcile(args);
      expect({ args, status, stdout }).toEqual({ args, status: 2, stdout: '' });
      return stderr;
    };
    expect(await bad()).toMatch(/^which journal\?\n\nusage: /);
    expect(await bad('nowhere.ndjson')).toMatch(/^cannot read nowhere.ndjson: ENOENT/);
    expect(await bad(journal, '--since=yesterday')).toMatch(/^--since: "yesterday" must be a time/);
    expect(await bad(journal, '--list=-1')).toMatch(/^--list: "-1" must be|argument is ambiguous/);
    expect(await bad(journal, '--delete')).toMatch(/Unknown option '--delete'/);
    expect(await bad(journal, '--archive=nowhere.gz')).toMatch(/^no archive at nowhere.gz/);
    expect(await bad(journal, '--archive=a.gz', '--keep-days=30')).toMatch(
      /^--keep-days is for when no --archive/,
    );
    const [early, late] = ['2026-11-22T09:00:00Z', '2026-11-22T10:00:00Z'];
    expect(await bad(journal, `--since=${late}`, `--until=${early}`)).toMatch(
      /^--until must be after --since/,
    );
    expect(await bad(journal, `--since=${late}`, `--until=${late}`)).toMatch(
      /^--until must be after --since/,
    );
    await appendFile(journal, '{"level":"INFO","message":"ready"}\n');
    expect(await bad(journal)).toMatch(/no accepted order in 1 lines: is this a journal/);
    await place();
    expect(await bad(journal, '--since=2100-01-01T00:00:00Z')).toMatch(
      /no order was accepted in that time: 1 lines are of another/,
    );
    const gz = path.join(folder, 'cut.gz');
    await writeFile(gz, gzipSync(await readFile(journal)).subarray(0, -12));
    expect(await bad(gz)).toMatch(/cannot read .*cut.gz to its end: unexpected end of file/);
    databaseUrl = `sqlite:${path.join(folder, 'nowhere.db')}`;
    expect(await bad(journal)).toMatch(/^DATABASE_URL: cannot open sqlite:/);
    databaseUrl = '';
    expect(await bad('production', journal)).toMatch(
      /^DATABASE_URL is not set: name the store of production/,
    );
  });

  test('of a journal of which most lines are garbled, does not say that all is well', async () => {
    await placeMany(2);
    await workedOff();
    const [first = '', second = ''] = (await readFile(journal, 'utf8')).split('\n');
    await writeFile(journal, [first, ...Array(199).fill(second.slice(0, 70))].join('\n'));
    const { status, stdout } = await reconcile([journal]);
    expect(stdout).toMatch(/^accepted +1 .*199 garbled/);
    expect(stdout).toMatch(/\nUNRESOLVED: 199 of 200 lines of the journals cannot be read\n$/);
    expect(status).toBe(3);
  });
});
