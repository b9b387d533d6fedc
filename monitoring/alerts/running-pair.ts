import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { DeleteMessageBatchCommand, ReceiveMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { expect } from 'vitest';
import { stringify } from 'yaml';
import { startEmulator } from '../../dev/emulator.ts';
import { freePorts } from '../../dev/port-owner.ts';
import { createRandom } from '../../test/faults/random.ts';
import { ServiceProcess, type ServiceRole } from '../../test/faults/service-process.ts';
import { baseEnv, GRACE_MS, SETTINGS } from '../../test/faults/settings.ts';
import { type SqsFaultProxy, startSqsFaultProxy } from '../../test/faults/sqs-fault-proxy.ts';
import { sendMessages } from '../../test/faults/workload.ts';
import { sqsClient } from '../../test/support/backends.ts';
import { eventually } from '../../test/support/eventually.ts';
import { post } from '../../test/support/pair.ts';
import { alertmanagerConfig } from '../alertmanager.ts';
import { ask, type Slack, startAlertmanager, startPrometheus, startSlack } from '../check/servers.ts';
import { readContacts } from '../contacts.ts';
import { prometheusConfig, ruleFile } from '../prometheus.ts';
import { QUEUES } from '../thresholds.ts';
import { shortened } from './shortened.ts';

const READY_WITHIN_MS = 120_000;
const ORDER_EVERY_MS = 200;
const SCRAPE_SECONDS = 2;
/** A minute becomes three seconds. */
const SHORT = {
  minuteSeconds: 3,
  shortestWindowSeconds: 5 * SCRAPE_SECONDS,
  evaluateSeconds: SCRAPE_SECONDS,
};

/** Both services as processes, orders that come all the time, and a real Prometheus and Alertmanager that watch. */
export type RunningPair = AsyncDisposable & {
  slack: Slack;
  proxy: SqsFaultProxy;
  producer: ServiceProcess;
  stopConsumer: () => Promise<void>;
  startConsumer: () => Promise<void>;
  /** Pauses the consumer, as scripts/consumption.sh does, or resumes it. */
  setPaused: (paused: boolean) => Promise<void>;
  /** Puts messages into the order queue that are no orders, until what it returns is called; that empties the DLQ. */
  floodWithPoison: () => () => Promise<void>;
  /** Keeps everybody else from writing to the consumer's store until what it returns is called. */
  lockStore: () => () => void;
};

export async function startRunningPair(): Promise<RunningPair> {
  await using started = new AsyncDisposableStack();
  const folder = await mkdtemp(path.join(tmpdir(), 'order-alerts-'));
  started.defer(() => rm(folder, { recursive: true }));
  const emulator = await startEmulator({ port: 0 });
  started.defer(emulator.stop);
  const proxy = await startSqsFaultProxy({ target: emulator.endpoint, random: createRandom(1) });
  started.defer(proxy.stop);
  const sqs = sqsClient({ AWS_ENDPOINT_URL: emulator.endpoint });
  started.defer(() => sqs.destroy());
  const queues = await ensureQueues(sqs, 'dev', {
    queue: QUEUES.orders,
    deadLetterQueue: QUEUES.deadLetters,
  });

  const database = path.join(folder, 'orders.db');
  const [producerPort = 0, consumerPort = 0] = await freePorts(2);
  const service = (role: ServiceRole, port: number) =>
    new ServiceProcess({
      name: role,
      role,
      port,
      env: {
        ...baseEnv(),
        ...SETTINGS,
        // SQLite holds the consumer up while it is locked: it must have time for Prometheus in between.
        BREAKER_MIN_OPEN_MS: '2000',
        BREAKER_MAX_OPEN_MS: '3000',
        AWS_ENDPOINT_URL: proxy.url,
        DATABASE_URL: `sqlite:${database}`,
      },
      folder,
      graceMs: GRACE_MS,
      note: () => {},
    });
  const startService = async (role: ServiceRole, port: number) => {
    const process = service(role, port);
    process.start();
    started.defer(() => process.kill());
    await process.ready(AbortSignal.timeout(READY_WITHIN_MS));
    return process;
  };
  let consumer = await startService('consumer', consumerPort);
  const producer = await startService('producer', producerPort);
  // What is refused, or finds nobody, is what the alerts are about.
  const customers = setInterval(
    () => void post(`${producer.url}/orders`, anOrderRequest()).catch(() => {}),
    ORDER_EVERY_MS,
  );
  started.defer(() => clearInterval(customers));

  const slack = started.use(await startSlack());
  const contacts = readContacts();
  // A minute of the escalation is a second.
  const alertmanager = started.use(
    await startAlertmanager(alertmanagerConfig(contacts, { slack: { url: slack.url }, timeScale: 1 / 60 })),
  );
  const rules = path.join(folder, 'rules.yml');
  await writeFile(rules, stringify(shortened(ruleFile(contacts), SHORT)));
  const prometheusServer = started.use(
    await startPrometheus(
      prometheusConfig({
        targets: [
          { address: `127.0.0.1:${producerPort}`, service: 'order-producer' },
          { address: `127.0.0.1:${consumerPort}`, service: 'order-consumer' },
        ],
        rules,
        alertmanager: new URL(alertmanager.url).host,
        scrapeInterval: `${SCRAPE_SECONDS}s`,
        evaluationInterval: `${SCRAPE_SECONDS}s`,
      }),
    ),
  );

  // A rate needs two samples from before the fault.
  await eventually(async () => {
    for (const series of ['orders_accepted_total', 'orders_processed_total'])
      expect(
        await ask(prometheusServer.url, `rate(${series}[${SHORT.shortestWindowSeconds}s]) > 0`),
      ).not.toEqual([]);
  }, READY_WITHIN_MS);

  const running = started.move();
  return {
    slack,
    proxy,
    producer,
    setPaused: async (paused) => {
      const { status, body } = await post(`${consumer.url}/actuator/consumption`, { paused });
      expect([status, body]).toEqual([200, expect.objectContaining({ paused })]);
    },
    stopConsumer: () => consumer.stop(),
    startConsumer: async () => {
      consumer = service('consumer', consumerPort);
      consumer.start();
      running.defer(() => consumer.kill());
      await consumer.ready(AbortSignal.timeout(READY_WITHIN_MS));
    },
    floodWithPoison: () => floodWithPoison(sqs, queues.queue.url, queues.deadLetterQueue.url),
    lockStore: () => {
      const db = new DatabaseSync(database, { timeout: READY_WITHIN_MS });
      db.exec('BEGIN IMMEDIATE');
      return () => db.close();
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

const POISON_AT_ONCE = 10;
const POISON_EVERY_MS = 500;

function floodWithPoison(sqs: SQSClient, queueUrl: string, deadLetterQueueUrl: string) {
  let sending = Promise.resolve(0);
  const send = async (before: number) => {
    const messages = Array.from({ length: POISON_AT_ONCE }, () => ({ body: 'no order', attributes: {} }));
    return before + (await sendMessages(sqs, queueUrl, messages)).length;
  };
  const flood = setInterval(() => {
    sending = sending.then(send);
  }, POISON_EVERY_MS);
  return async () => {
    clearInterval(flood);
    // As a person who has looked at all of them, once the last has come.
    for (let left = await sending; left > 0; ) left -= await deleteSome(sqs, deadLetterQueueUrl);
  };
}

async function deleteSome(sqs: SQSClient, QueueUrl: string): Promise<number> {
  const { Messages = [] } = await sqs.send(
    new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 1 }),
  );
  if (Messages.length === 0) return 0;
  const Entries = Messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
  await sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
  return Messages.length;
}
