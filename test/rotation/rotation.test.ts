import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import { keyLine } from '@orders/shared/testing/cipher.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePorts } from '../../dev/port-owner.ts';
import { PostgresServer } from '../../dev/postgres-server.ts';
import { ServiceProcess, type ServiceRole } from '../faults/service-process.ts';
import { BACKENDS, type RunningBackend, sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { postgresPrograms } from '../support/postgres-programs.ts';
import { depthOf, type Queues } from '../support/queues.ts';

const ORDERS_PER_SECOND = Number(process.env['ROTATION_ORDERS_PER_SECOND'] || 500);
const BATCH_MS = 200;
/** Orders that must be stored after a step, all of which were placed after it. */
const ORDERS_PER_STEP = 2 * ORDERS_PER_SECOND;
const READY_MS = 10_000;
const GRACE_MS = 12_000;

/** Batches at a steady rate, whether or not those before were answered. */
class BatchLoad {
  readonly accepted: string[] = [];
  /** Statuses of what failed for another reason than that the producer was busy. */
  readonly refused: number[] = [];
  busy = 0;
  apiKey = '';
  readonly #stop = new AbortController();
  readonly #open = new Set<Promise<void>>();
  #running: Promise<void> | undefined;

  start(producerUrl: string, apiKey: string): void {
    this.apiKey = apiKey;
    this.#running = this.#run(producerUrl);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await Promise.all(this.#open);
  }

  async #run(producerUrl: string): Promise<void> {
    const startedAt = performance.now();
    for (let batches = 1; !this.#stop.signal.aborted; batches++) {
      const batch = this.#place(producerUrl).finally(() => this.#open.delete(batch));
      this.#open.add(batch);
      const waitMs = startedAt + batches * BATCH_MS - performance.now();
      await sleep(Math.max(0, waitMs), undefined, { signal: this.#stop.signal }).catch(() => {});
    }
  }

  async #place(producerUrl: string): Promise<void> {
    const orders = Array.from({ length: Math.ceil((ORDERS_PER_SECOND * BATCH_MS) / 1_000) }, () =>
      anOrderRequest({ orderId: crypto.randomUUID() }),
    );
    const { status, statuses } = await placeOrders(producerUrl, this.apiKey, orders);
    for (const [index, { orderId }] of orders.entries()) {
      const answer = statuses[index] ?? status;
      if (answer === 202) this.accepted.push(orderId as string);
      else if (answer === 429) this.busy++;
      else this.refused.push(answer);
    }
  }
}

const programs = postgresPrograms();

describe.skipIf(!programs.available)(`secrets that rotate under load (PostgreSQL ${programs.reason})`, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'rotation-'));
  const files = {
    keys: path.join(folder, 'api-keys'),
    encryption: path.join(folder, 'encryption-keys'),
    user: path.join(folder, 'database', 'username'),
    password: path.join(folder, 'database', 'password'),
  };
  const services = {} as Record<ServiceRole, ServiceProcess>;
  const load = new BatchLoad();
  let database: PostgresServer;
  let sqs: RunningBackend;
  let queues: Queues;
  let pids: (number | undefined)[];

  const [first, second] = [createApiKey(), createApiKey()];
  const writeKeys = (...digests: string[]) =>
    writeFileSync(files.keys, `shop orders:write ${digests.join(' ')}\n`);
  let deliveries = 0;
  /** As the kubelet does: a new folder, and one link that is turned. */
  function deliver(login: { username: string; password: string }): void {
    const version = path.join(folder, 'database', `..version-${++deliveries}`);
    mkdirSync(version, { recursive: true });
    for (const [name, value] of Object.entries(login)) writeFileSync(path.join(version, name), value);
    const data = path.join(folder, 'database', '..data');
    symlinkSync(version, `${data}.new`);
    renameSync(`${data}.new`, data);
  }
  const setPassword = (role: string, password: string) =>
    database.sql(`ALTER ROLE ${role} PASSWORD '${password}'`);
  const cutConnections = () =>
    database.sql(
      `SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = 'order-consumer'`,
    );
  const usersConnected = () =>
    database.sql(`SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'order-consumer'`);
  const allReady = async () => {
    for (const service of Object.values(services)) await service.ready(AbortSignal.timeout(60_000));
  };
  const errorsOf = (role: ServiceRole, file: 'database_login' | 'encryption_key' | 'api_key') =>
    services[role].metric(`${file}_file_errors_total`);
  const logged = (role: ServiceRole, text: string) => services[role].log().split(text).length - 1;
  /** Resolves when orders that were accepted from now on are stored. */
  async function storing(): Promise<void> {
    const from = load.accepted.length;
    await eventually(
      () => expect(load.accepted.length).toBeGreaterThanOrEqual(from + ORDERS_PER_STEP),
      120_000,
    );
    const step = load.accepted.slice(from, from + ORDERS_PER_STEP);
    const count = `SELECT count(*) FROM orders WHERE order_id = ANY ('{${step.join()}}')`;
    await eventually(
      async () => expect(await database.sql(count, 'orders')).toEqual([`${ORDERS_PER_STEP}`]),
      120_000,
      500,
    );
  }

  beforeAll(async () => {
    database = await PostgresServer.start(programs.postgres);
    const url = new URL(await database.createDatabase('orders'));
    url.username = '';
    await database.requirePasswords();
    await setPassword('orders', 'first');
    await database.sql("CREATE ROLE orders_clone LOGIN PASSWORD 'clone' IN ROLE orders");
    sqs = await BACKENDS.embedded.start();
    const client = sqsClient(sqs.env);
    const { queue, deadLetterQueue } = await ensureQueues(client, 'staging', {
      queue: 'order-queue',
      deadLetterQueue: 'order-dlq',
    });
    queues = { client, urls: { queueUrl: queue.url, deadLetterQueueUrl: deadLetterQueue.url } };
    deliver({ username: 'orders', password: 'first\n' });
    for (const name of ['username', 'password'])
      symlinkSync(path.join('..data', name), path.join(folder, 'database', name));
    writeKeys(first.digest);
    writeFileSync(files.encryption, keyLine('one'));

    const ports = await freePorts(2);
    for (const [index, role] of (['producer', 'consumer'] as const).entries()) {
      services[role] = new ServiceProcess({
        name: role,
        role,
        port: ports[index] as number,
        env: {
          ...sqs.env,
          PATH: process.env['PATH'],
          APP_ENV: 'staging',
          ALLOW_PLAINTEXT: 'sqs,database',
          AWS_ACCESS_KEY_ID: 'emulator',
          AWS_SECRET_ACCESS_KEY: 'emulator',
          LIBRARY_LOG_LEVEL: 'warn',
          AUTH: 'api-key',
          API_KEYS_FILE: files.keys,
          MESSAGE_ENCRYPTION: 'local',
          MESSAGE_ENCRYPTION_KEY_FILE: files.encryption,
          DATABASE_URL: url.href,
          DATABASE_USER_FILE: files.user,
          DATABASE_PASSWORD_FILE: files.password,
          SQS_WAIT_TIME_SECONDS: '1',
          SHUTDOWN_GRACE_MS: String(GRACE_MS),
        },
        folder: path.join(folder, role),
        graceMs: GRACE_MS,
        note: () => {},
      });
      services[role].start();
    }
    await allReady();
    pids = Object.values(services).map(({ pid }) => pid);
    load.start(services.producer.url, first.key);
    await storing();
  });

  afterAll(async () => {
    await load.stop();
    for (const service of Object.values(services)) await service.stop();
    queues?.client.destroy();
    await sqs?.stop();
    await database?.stop();
    rmSync(folder, { recursive: true });
  });

  test('the password changes in place, the file before the connections are cut', async () => {
    await setPassword('orders', 'second');
    deliver({ username: 'orders', password: 'second\n' });
    await cutConnections();
    await storing();
    expect(await errorsOf('consumer', 'database_login')).toBe(0);
  });

  test('the password changes in place, and the file only after an outage', async () => {
    await setPassword('orders', 'third');
    await cutConnections();
    await eventually(async () => expect(await services.consumer.isReady()).toBe(false));
    deliver({ username: 'orders', password: 'third' });
    const deliveredAt = performance.now();
    await allReady();
    expect(performance.now() - deliveredAt).toBeLessThan(READY_MS);
    await storing();
    expect(await errorsOf('consumer', 'database_login')).toBe(1);
  });

  test('users alternate, and their connections are cut', async () => {
    deliver({ username: 'orders_clone', password: 'clone' });
    await cutConnections();
    await storing();
    expect(await usersConnected()).toEqual(['orders_clone']);
    await setPassword('orders', 'fourth');
    deliver({ username: 'orders', password: 'fourth' });
    await cutConnections();
    await storing();
    expect(await usersConnected()).toEqual(['orders']);
    expect(await errorsOf('consumer', 'database_login')).toBe(1);
  });

  test.each([
    ['empty', () => deliver({ username: 'orders', password: '' })],
    ['half-written', () => deliver({ username: 'orders', password: 'four' })],
    ['of the wrong user', () => deliver({ username: 'orders_clone', password: 'fourth' })],
    [
      'gone',
      () => {
        deliver({ username: 'orders', password: 'fourth' });
        rmSync(path.join(folder, 'database', `..version-${deliveries}`, 'password'));
      },
    ],
    [
      'unreadable',
      () => {
        deliver({ username: 'orders', password: 'fourth' });
        const file = path.join(folder, 'database', `..version-${deliveries}`, 'password');
        rmSync(file);
        mkdirSync(file);
      },
    ],
  ])('the file is %s for a while, and connections are cut', async (_what, spoil) => {
    const before = (await errorsOf('consumer', 'database_login')) ?? 0;
    spoil();
    await cutConnections();
    await storing();
    expect(await errorsOf('consumer', 'database_login')).toBe(before + 1);
    deliver({ username: 'orders', password: 'fourth' });
    await cutConnections();
    await storing();
    expect(await errorsOf('consumer', 'database_login')).toBe(before + 1);
  });

  test('API keys are replaced: the next one is added, used, and the one before taken out', async () => {
    writeKeys(first.digest, second.digest);
    const isAccepted = async (apiKey: string) =>
      (await placeOrders(services.producer.url, apiKey, [anOrderRequest()])).status === 207;
    await eventually(async () => expect(await isAccepted(second.key)).toBe(true));
    load.apiKey = second.key;
    await storing();
    writeFileSync(files.keys, '');
    await eventually(async () => expect(await errorsOf('producer', 'api_key')).toBe(1));
    await storing();
    writeKeys(second.digest);
    await eventually(async () => expect(await isAccepted(first.key)).toBe(false));
    await storing();
  });

  test('the encryption key is replaced: the next one is added as the last, and then made the first', async () => {
    const [read, errors] = ['"secret":"encryption-keys","file"', 'encryption_key'] as const;
    const roles = ['producer', 'consumer'] as const;
    for (const [times, keys] of [
      keyLine('one') + keyLine('two'),
      keyLine('two') + keyLine('one'),
    ].entries()) {
      writeFileSync(files.encryption, keys);
      for (const role of roles)
        await eventually(() => expect(logged(role, read)).toBeGreaterThanOrEqual(times + 1));
      await storing();
    }
    writeFileSync(files.encryption, keyLine('two').slice(0, -8));
    for (const role of roles) await eventually(async () => expect(await errorsOf(role, errors)).toBe(1));
    await storing();
  });

  test('nothing is lost or in the DLQ, nobody was refused, and no process was started again', async () => {
    await load.stop();
    await allReady();
    await eventually(
      async () => {
        const there = new Set(await database.sql('SELECT order_id FROM orders', 'orders'));
        expect(load.accepted.filter((id) => !there.has(id)).length, 'accepted and not stored').toBe(0);
      },
      120_000,
      1_000,
    );
    await eventually(async () =>
      expect(await depthOf(queues.client, queues.urls.queueUrl)).toEqual({ visible: 0, inFlight: 0 }),
    );
    expect(await depthOf(queues.client, queues.urls.deadLetterQueueUrl)).toEqual({ visible: 0, inFlight: 0 });
    expect(load.refused).toEqual([]);
    expect(Object.values(services).map(({ pid }) => pid)).toEqual(pids);
    expect(Object.values(services).flatMap(({ badEnds }) => badEnds)).toEqual([]);
    console.log(`${load.accepted.length} orders accepted and stored, ${load.busy} told to come later (429)`);
  });
});

async function placeOrders(producerUrl: string, apiKey: string, orders: object[]) {
  const response = await fetch(`${producerUrl}/orders/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': apiKey },
    body: JSON.stringify({ orders }),
  });
  const body = (await response.json()) as { results?: { status: number }[] };
  return { status: response.status, statuses: (body.results ?? []).map(({ status }) => status) };
}
