import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { text } from 'node:stream/consumers';
import {
  CreateQueueCommand,
  DeleteQueueCommand,
  GetQueueUrlCommand,
  SendMessageCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { startConsumer } from '@orders/consumer/app.ts';
import { loadConsumerConfig } from '@orders/consumer/config.ts';
import { startProducer } from '@orders/producer/app.ts';
import { loadProducerConfig } from '@orders/producer/config.ts';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import { FakeKms } from '@orders/shared/testing/fake-kms.ts';
import { anOrder, anOrderRequest } from '@orders/shared/testing/orders.ts';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { MESSAGE_KEY_RIGHTS, SERVICE_RIGHTS } from '../../infra/rights.ts';
import { RIGHTS as DLQ } from '../../scripts/dlq.ts';
import { RIGHTS as MANAGE } from '../../scripts/manage-queues.ts';
import { RIGHTS as RECONCILE } from '../../scripts/reconcile.ts';
import type { SqsRights } from '../../scripts/sqs-tool.ts';
import { sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { post, startPair } from '../support/pair.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const names = { queue: 'order-queue', deadLetterQueue: 'order-dlq' };

// Each starts the tools several times.
vi.setConfig({ testTimeout: 300_000 });

let emulator: Awaited<ReturnType<typeof startEmulator>>;
let client: SQSClient;
let env: NodeJS.ProcessEnv;
let folder: string;
/** What was called, such as `SendMessage order-queue`. */
const called = new Set<string>();
/** Before the emulator. */
const recorder = http.createServer(async (request, response) => {
  const body = await text(request);
  const { QueueName, QueueUrl, SourceArn } = JSON.parse(body);
  const queue = String(QueueName ?? QueueUrl ?? SourceArn)
    .split(/[/:]/)
    .at(-1);
  const action = String(request.headers['x-amz-target']).replace('AmazonSQS.', '');
  called.add(`${action.replace(/Batch$/, '')} ${queue}`);
  const { host: _, connection: __, ...headers } = request.headers;
  const answer = await fetch(emulator.endpoint, {
    method: 'POST',
    headers: headers as Record<string, string>,
    body,
  });
  response.writeHead(answer.status, { 'content-type': 'application/x-amz-json-1.0' });
  response.end(await answer.text());
});

beforeAll(async () => {
  emulator = await startEmulator({ port: 0 });
  await new Promise<void>((resolve) => recorder.listen(0, '127.0.0.1', resolve));
  folder = await mkdtemp(path.join(tmpdir(), 'rights-'));
  env = {
    ...process.env,
    AWS_ENDPOINT_URL: `http://127.0.0.1:${(recorder.address() as AddressInfo).port}`,
    AWS_ENDPOINT_URL_SQS: '',
    DATABASE_URL: `sqlite:${path.join(folder, 'orders.db')}`,
    ORDER_QUEUE_NAME: names.queue,
    ORDER_DLQ_NAME: names.deadLetterQueue,
    ALLOW_PLAINTEXT: 'sqs,database',
  };
  // Outside dev, where more is checked, nobody has credentials by default.
  for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) {
    env[name] = 'test';
    vi.stubEnv(name, 'test');
  }
  client = sqsClient({ AWS_ENDPOINT_URL: emulator.endpoint });
});
beforeEach(async () => {
  const { deadLetterQueue } = await ensureQueues(client, 'staging', names);
  await client.send(new SendMessageCommand({ QueueUrl: deadLetterQueue.url, MessageBody: 'an order' }));
  called.clear();
});
afterAll(async () => {
  client.destroy();
  recorder.closeAllConnections();
  recorder.close();
  await emulator.stop();
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

const run = (script: string, ...args: string[]) =>
  new Promise<string>((resolve) => {
    execFile(process.execPath, [path.join(ROOT, script), ...args], { cwd: folder, env }, (_, out, error) =>
      resolve(out + error),
    );
  });

function asCalled({ both = [], queue = [], deadLetterQueue = [] }: SqsRights): string[] {
  const on = (name: string, actions: readonly string[]) => actions.map((action) => `${action} ${name}`);
  return [
    ...on(names.queue, [...both, ...queue]),
    ...on(names.deadLetterQueue, [...both, ...deadLetterQueue]),
  ].toSorted();
}

/** What is called meanwhile. */
async function callsOf(work: () => Promise<unknown>): Promise<string[]> {
  called.clear();
  await work();
  return [...called].toSorted();
}

/** Of orders of one customer, by the database, for a while. */
const REFUSAL = `CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.customer_id = 'C-REFUSED'
  BEGIN SELECT RAISE(ABORT, 'not now'); END`;

it('manage-queues.sh calls of SQS what its usage says, and nothing else', async () => {
  const manage = (...args: string[]) => run('scripts/manage-queues.ts', ...args);
  const seen = {
    status: await callsOf(() => manage('status', 'staging')),
    delete: await callsOf(() => manage('delete', 'staging', `--confirm=${names.queue}`)),
    create: await callsOf(async () => {
      await manage('create', 'staging');
      // Without a tag, and not as defined.
      for (const QueueName of Object.values(names)) {
        const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName }));
        await client.send(new DeleteQueueCommand({ QueueUrl }));
        await client.send(new CreateQueueCommand({ QueueName }));
      }
      await manage('create', 'staging');
    }),
  };
  expect(seen).toEqual({
    status: asCalled(MANAGE.status),
    delete: asCalled(MANAGE.delete),
    create: asCalled(MANAGE.create),
  });
});

it('dlq.sh calls of SQS what its usage says, and nothing else', async () => {
  const dlq = (action: string, ...args: string[]) => run('scripts/dlq.ts', action, 'staging', ...args);
  expect({
    status: await callsOf(() => dlq('status')),
    look: await callsOf(async () => {
      await dlq('summary');
      await dlq('list');
      await dlq('show', 'none');
    }),
    peek: await callsOf(() => dlq('peek')),
    record: await callsOf(() => dlq('record')),
    redrive: await callsOf(async () => {
      await dlq('redrive', '--code-version=none');
      await dlq('redrive');
    }),
  }).toEqual({
    status: asCalled(DLQ.status),
    look: asCalled(DLQ['summary, list, show, parked or plan']),
    peek: asCalled(DLQ.peek),
    record: asCalled(DLQ.record),
    redrive: asCalled(DLQ.redrive),
  });
  // SQS itself does the rest, with the rights of who asks for it.
  const seen = await callsOf(() => dlq('redrive', '--move-task', '--conflicts'));
  const bySqs = ['DeleteMessage order-dlq', 'ReceiveMessage order-dlq', 'SendMessage order-queue'];
  expect([...seen, ...bySqs].toSorted()).toEqual(asCalled(DLQ['redrive --move-task']));
});

it('dlq.sh run and discard call of SQS what its usage says, and nothing else', async () => {
  const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName: names.deadLetterQueue }));
  for (const customerId of ['C-RUN', 'C-DISCARD']) {
    const order = anOrder({ orderId: randomUUID(), customerId });
    const MessageBody = JSON.stringify({
      ...{ specversion: '1.0', id: order.orderId, source: '/x', type: 'order.placed.v1', data: order },
    });
    await client.send(new SendMessageCommand({ QueueUrl, MessageBody }));
  }
  const [toRun, toDiscard] = ['run.plan', 'discard.plan'].map((name) => path.join(folder, name)) as [
    string,
    string,
  ];
  const dlq = (action: string, ...args: string[]) => run('scripts/dlq.ts', action, 'staging', ...args);
  expect(await callsOf(() => dlq('plan', '--customer=C-RUN', `--out=${toRun}`))).toEqual(
    asCalled(DLQ['summary, list, show, parked or plan']),
  );
  await dlq('plan', '--customer=C-DISCARD', '--discard', `--out=${toDiscard}`);
  expect({
    // Nobody consumes: nothing is heard of what was sent.
    run: await callsOf(() => dlq('run', toRun, '--wait=1')),
    discard: await callsOf(() => dlq('discard', toDiscard, '--because=a test')),
  }).toEqual({ run: asCalled(DLQ.run), discard: asCalled(DLQ.discard) });
});

it('reconcile.sh calls of SQS what its usage says, and nothing else', async () => {
  const journal = path.join(folder, 'accepted.ndjson');
  await using pair = await startPair({
    ...env,
    AWS_ENDPOINT_URL: emulator.endpoint,
    ACCEPTANCE_JOURNAL: journal,
  });
  await post(`${pair.producerUrl}/orders`, anOrderRequest());
  // The dead-letter queue is looked into where an order is not stored.
  const accepted = await readFile(journal, 'utf8');
  await appendFile(journal, accepted.replace(JSON.parse(accepted).orderId, randomUUID()));
  const reconcile = (...args: string[]) => run('scripts/reconcile.ts', 'staging', journal, ...args);
  expect({
    without: await callsOf(() => reconcile()),
    'with --no-dlq': await callsOf(() => reconcile('--no-dlq')),
  }).toEqual({
    without: asCalled(RECONCILE['one without']),
    'with --no-dlq': asCalled(RECONCILE['a run with --no-dlq']),
  });
});

it('each service calls of SQS what its role in infra/rights.ts allows, and nothing else', async () => {
  const direct = { ...env, AWS_ENDPOINT_URL: emulator.endpoint };
  const database = path.join(folder, 'services.db');
  const keys = path.join(folder, 'api-keys');
  await writeFile(keys, `tests orders:write ${'0'.repeat(64)}\n`);
  const common = {
    APP_ENV: 'staging',
    AUTH: 'none,api-key',
    API_KEYS_FILE: keys,
    PRODUCER_PORT: '0',
    CONSUMER_PORT: '0',
    DATABASE_URL: `sqlite:${database}`,
    SQS_WAIT_TIME_SECONDS: '1',
  };
  const logger = pino({}, { write: () => {} });
  const fail = (error: unknown) => {
    throw error;
  };
  const startsProducer = (env: NodeJS.ProcessEnv) =>
    startProducer(loadProducerConfig({ ...env, ...common, PUBLISH_PACKING: 'on' }), logger, 'test');
  const startsConsumer = (env: NodeJS.ProcessEnv) =>
    startConsumer(loadConsumerConfig({ ...env, ...common }), logger, 'test', fail);

  const producerCalls = await callsOf(async () => {
    const producer = await startsProducer(env);
    await fetch(`${producer.url}/readyz`);
    await post(`${producer.url}/orders`, anOrderRequest());
    await producer.stop();
  });
  expect(producerCalls).toEqual(asCalled(SERVICE_RIGHTS.producer));

  const consumerCalls = await callsOf(async () => {
    const producer = await startsProducer(direct);
    const consumer = await startsConsumer(env);
    // One order of a packed message fails for a while, and so does one that is alone; one message is no order.
    using store = new DatabaseSync(database);
    store.exec(REFUSAL);
    const refused = () => anOrderRequest({ orderId: randomUUID(), customerId: 'C-REFUSED' });
    const others = Array.from({ length: 20 }, () => anOrderRequest({ orderId: randomUUID() }));
    await post(`${producer.url}/orders/batch`, [refused(), ...others]);
    await post(`${producer.url}/orders`, refused());
    const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName: names.queue }));
    await client.send(new SendMessageCommand({ QueueUrl, MessageBody: 'no order' }));
    const expected = asCalled(SERVICE_RIGHTS.consumer);
    await eventually(() => expect([...called]).toEqual(expect.arrayContaining(expected)));
    await consumer.stop();
    await producer.stop();
  });
  expect(consumerCalls).toEqual(asCalled(SERVICE_RIGHTS.consumer));
});

it('each service calls of KMS what its role in infra/rights.ts allows, and nothing else', async () => {
  using kms = await FakeKms.start();
  const database = path.join(folder, 'encrypted.db');
  const common = {
    ...env,
    AWS_ENDPOINT_URL: emulator.endpoint,
    ...kms.env,
    PUBLISH_PACKING: 'on',
    PRODUCER_PORT: '0',
    CONSUMER_PORT: '0',
    DATABASE_URL: `sqlite:${database}`,
    SQS_WAIT_TIME_SECONDS: '1',
  };
  const logger = pino({}, { write: () => {} });
  const asked = () => [...new Set(kms.calls.splice(0).map(({ operation }) => `kms:${operation}`))].toSorted();

  const startsConsumer = () =>
    startConsumer(loadConsumerConfig(common), logger, 'test', (error) => {
      throw error;
    });
  // Creates the tables. Then one order of a packed message fails for a while.
  await (await startsConsumer()).stop();
  using store = new DatabaseSync(database);
  store.exec(REFUSAL);

  const producer = await startProducer(loadProducerConfig(common), logger, 'test');
  const refused = anOrderRequest({ orderId: randomUUID(), customerId: 'C-REFUSED' });
  await post(`${producer.url}/orders/batch`, [refused, anOrderRequest({ orderId: randomUUID() })]);
  await producer.stop();
  expect(asked()).toEqual(MESSAGE_KEY_RIGHTS.producer);

  // It is sent again by itself, encrypted.
  const consumer = await startsConsumer();
  const calls = new Set<string>();
  await eventually(() => {
    for (const call of asked()) calls.add(call);
    expect([...calls].toSorted()).toEqual(MESSAGE_KEY_RIGHTS.consumer);
  });
  await consumer.stop();
});
