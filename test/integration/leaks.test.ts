import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { ReceiveMessageCommand, SendMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { ensureQueues, queueDepth } from '@orders/shared/sqs/queue-admin.ts';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { freePorts } from '../../dev/port-owner.ts';
import { PostgresServer } from '../../dev/postgres-server.ts';
import { SERVICE_FLAGS, SERVICE_SCRIPT } from '../../dev/services.ts';
import { ServiceProcess, type ServiceRole } from '../faults/service-process.ts';
import { BACKENDS, type RunningBackend, sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { postgresPrograms } from '../support/postgres-programs.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 240_000 });

const ROOT = path.join(import.meta.dirname, '..', '..');
const ISSUER = 'https://id.example';
const programs = postgresPrograms();

/** A text that stands nowhere but where it is put, and says in a failure what it was. */
const marker = (what: string) => `leak${what}${crypto.randomUUID().replaceAll('-', '')}`;

const [shop, audit] = [createApiKey(), createApiKey()];
const { publicKey, privateKey } = await generateKeyPair('ES256');
const tokenOf = (expiresAt: string) =>
  new SignJWT({ client_id: 'partner', scope: 'orders:write', note: marker('claim') })
    .setProtectedHeader({ alg: 'ES256', kid: '1' })
    .setIssuer(ISSUER)
    .setAudience('orders')
    .setIssuedAt(0)
    .setExpirationTime(expiresAt)
    .sign(privateKey);
const [token, expired] = [await tokenOf('1h'), await tokenOf('-1h')];

const SECRETS = {
  databasePassword: marker('databasePassword'),
  awsSecret: marker('awsSecret'),
  awsSession: marker('awsSession'),
  key: shop.key,
  anotherKey: audit.key,
  digest: shop.digest,
  wrongKey: marker('wrongKey'),
  basic: marker('basic'),
  token: String(token.split('.')[1]),
  signature: String(token.split('.')[2]),
  expired: String(expired.split('.')[1]),
};
/** What customers and clients wrote. */
const CONTENT = {
  customer: marker('customer'),
  product: marker('product'),
  metadataName: marker('metadataName'),
  metadata: marker('metadata'),
  idempotencyKey: marker('idempotencyKey'),
  field: marker('field'),
  notJson: marker('notJson'),
  invalid: marker('invalid'),
  attribute: marker('attribute'),
  quotedByDatabase: marker('quotedByDatabase'),
  castByDatabase: marker('castByDatabase'),
};

const found = (texts: Record<string, string>, markers: Record<string, string>): string[] =>
  Object.entries(texts).flatMap(([where, text]) =>
    Object.entries(markers).flatMap(([what, value]) => (text.includes(value) ? [`${what} in ${where}`] : [])),
  );

const orderOf = (customerId: string) => ({
  customerId,
  items: [{ productId: 'P-1', name: CONTENT.product, quantity: 1, unitPrice: 1_499 }],
  currency: 'USD',
  totalAmount: 1_499,
  createdAt: '2026-11-22T09:00:00Z',
  metadata: { [CONTENT.metadataName]: CONTENT.metadata },
});

/** A rule of the operator's that says what it does not like, and one that stumbles over the order. */
const TALKATIVE_RULES = `
  CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.customer_id LIKE 'leakquoted%' THEN
      RAISE EXCEPTION 'we do not like %', NEW.data USING DETAIL = NEW.data, HINT = NEW.data, ERRCODE = '42501';
    END IF;
    IF NEW.customer_id LIKE 'leakcast%' THEN PERFORM NEW.customer_id::int; END IF;
    RETURN NEW;
  END $$;
  CREATE TRIGGER judge BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION judge()`;

describe.skipIf(!programs.available)(`nothing leaks (PostgreSQL ${programs.reason})`, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'leaks-'));
  const journal = path.join(folder, 'accepted.ndjson');
  const common = {
    PATH: process.env['PATH'],
    APP_ENV: 'staging',
    ALLOW_PLAINTEXT: 'sqs,database',
    AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
    AWS_SECRET_ACCESS_KEY: SECRETS.awsSecret,
    AWS_SESSION_TOKEN: SECRETS.awsSession,
    AUTH: 'api-key,jwt',
    API_KEYS_FILE: path.join(folder, 'api-keys'),
    JWT_ISSUER: ISSUER,
    JWT_AUDIENCE: 'orders',
    JWT_JWKS: path.join(folder, 'jwks.json'),
    JWT_ALGORITHMS: 'ES256',
    // All that they can say.
    LOG_LEVEL: 'trace',
    LIBRARY_LOG_LEVEL: 'trace',
    SQS_WAIT_TIME_SECONDS: '1',
    BREAKER_MIN_OPEN_MS: '100',
    BREAKER_MAX_OPEN_MS: '500',
    SQS_REQUEST_TIMEOUT_MS: '2000',
    SHUTDOWN_GRACE_MS: '12000',
  };
  let database: PostgresServer;
  let sqs: RunningBackend;
  let client: SQSClient;
  let env: NodeJS.ProcessEnv;
  const services = {} as Record<ServiceRole, ServiceProcess>;
  /** What a service or a tool said to somebody, by what it was. */
  const answers: Record<string, string> = {};
  const refusals: Record<string, string> = {};
  const tools: Record<string, string> = {};
  const commandLines: Record<string, string> = {};
  const environments: Record<string, string> = {};
  let deadLetterReasons = '';
  let deadLetterBodies = '';
  let stored = '';

  beforeAll(async () => {
    database = await PostgresServer.start(programs.postgres);
    sqs = await BACKENDS.embedded.start();
    const url = new URL(await database.createDatabase('orders'));
    url.password = SECRETS.databasePassword;
    writeFileSync(
      common.API_KEYS_FILE,
      `shop orders:write ${shop.digest}\naudit orders:read:all,operations ${audit.digest}\n`,
    );
    const jwk = { ...(await exportJWK(publicKey)), kid: '1', alg: 'ES256' };
    writeFileSync(common.JWT_JWKS, JSON.stringify({ keys: [jwk] }));
    env = { ...common, ...sqs.env, DATABASE_URL: url.href };
    client = sqsClient(sqs.env);
    const names = { queue: 'order-queue', deadLetterQueue: 'order-dlq' };
    const { queue, deadLetterQueue } = await ensureQueues(client, 'staging', names);

    const ports = await freePorts(2);
    for (const [index, role] of (['producer', 'consumer'] as const).entries()) {
      services[role] = new ServiceProcess({
        name: role,
        role,
        port: ports[index] as number,
        env: { ...env, ACCEPTANCE_JOURNAL: journal, MAX_FAILURES: '1' },
        folder: path.join(folder, role),
        graceMs: 12_000,
        note: () => {},
      });
      services[role].start();
    }
    const ready = async () => {
      for (const service of Object.values(services)) await service.ready(AbortSignal.timeout(60_000));
    };
    await ready();
    await database.sql(TALKATIVE_RULES, 'orders');

    /** Keeps the whole answer, and returns its status. */
    const ask = async (what: string, role: ServiceRole, at: string, init: RequestInit = {}) => {
      const response = await fetch(`${services[role].url}${at}`, init);
      const answer = JSON.stringify([...response.headers]) + (await response.text());
      answers[what] = answer;
      if (response.status >= 400) refusals[what] = answer;
      return response.status;
    };
    const post = (what: string, body: unknown, headers: Record<string, string>) =>
      ask(what, 'producer', '/orders', {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      });
    const look = (what: string, at: string, headers: Record<string, string> = { 'x-api-key': audit.key }) =>
      ask(what, 'consumer', at, { headers });
    const byKey = { 'x-api-key': shop.key };

    // Success, by both methods.
    const good = orderOf(CONTENT.customer);
    expect(await post('by key', good, { ...byKey, 'idempotency-key': CONTENT.idempotencyKey })).toBe(202);
    expect(await post('by token', good, { authorization: `Bearer ${token}` })).toBe(202);
    const list = `/orders?customerId=${CONTENT.customer}`;
    await eventually(async () => {
      await look('look-up', list);
      expect(answers['look-up']).toContain(CONTENT.product);
    });

    // Whatever clients do wrong.
    expect(await post('wrong key', good, { 'x-api-key': SECRETS.wrongKey })).toBe(401);
    expect(await post('expired', good, { authorization: `Bearer ${expired}` })).toBe(401);
    expect(await post('basic', good, { authorization: `Basic ${SECRETS.basic}` })).toBe(401);
    expect(await post('no right', good, { 'x-api-key': audit.key })).toBe(403);
    expect(await look('no right to look', list, byKey)).toBe(403);
    expect(await post('unknown field', { ...good, [CONTENT.field]: CONTENT.field }, byKey)).toBe(400);
    expect(await post('no JSON', `{"${CONTENT.notJson}`, byKey)).toBe(400);
    expect(await look('no such page', `/${CONTENT.field}?x=${CONTENT.field}`)).toBe(404);
    expect(await look('no id', `/orders/${CONTENT.field}`)).toBe(400);

    // Messages and orders that end in the dead-letter queue.
    for (const MessageBody of [
      CONTENT.notJson,
      JSON.stringify({
        specversion: '1.0',
        type: 'order.placed.v1',
        id: CONTENT.invalid,
        source: 'x',
        data: {},
      }),
      JSON.stringify({
        ...{ specversion: '1.0', type: 'order.placed.v1', id: 'x', source: 'x' },
        data: { ...good, orderId: CONTENT.invalid, [CONTENT.field]: 1, currency: CONTENT.invalid },
      }),
      JSON.stringify({ specversion: '1.0', type: `${CONTENT.invalid}.v1`, id: 'x', source: 'x' }),
    ])
      await client.send(
        new SendMessageCommand({
          QueueUrl: queue.url,
          MessageBody,
          MessageAttributes: { note: { DataType: 'String', StringValue: CONTENT.attribute } },
        }),
      );
    for (const customer of [CONTENT.quotedByDatabase, CONTENT.castByDatabase])
      expect(await post(customer, orderOf(customer), byKey)).toBe(202);
    const REJECTED = 6;
    await eventually(
      async () => expect((await queueDepth(client, deadLetterQueue.url)).visible).toBe(REJECTED),
      60_000,
    );
    for (let received = 0; received < REJECTED; ) {
      const { Messages = [] } = await client.send(
        new ReceiveMessageCommand({
          QueueUrl: deadLetterQueue.url,
          MaxNumberOfMessages: 10,
          MessageAttributeNames: ['All'],
          VisibilityTimeout: 1,
        }),
      );
      received += Messages.length;
      for (const { Body, MessageAttributes } of Messages) {
        deadLetterReasons += MessageAttributes?.['deadLetter']?.StringValue;
        deadLetterBodies += Body;
      }
    }

    // Pages of operators, and processes, while all of that has happened.
    for (const role of ['producer', 'consumer'] as const)
      for (const at of [
        '/metrics',
        '/actuator/prometheus',
        '/actuator/health',
        '/actuator/info',
        '/actuator/metrics',
      ])
        await ask(`${role} ${at}`, role, at, { headers: { 'x-api-key': audit.key } });
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      commandLines[`process ${pid}`] = ofProcess(pid, 'cmdline');
      environments[pid] = ofProcess(pid, 'environ');
    }
    stored = (await database.sql('SELECT data::text FROM orders', 'orders')).join();

    // Tools, redrive among them; what is wrong is rejected again.
    for (const action of ['status', 'summary', 'list', 'redrive'])
      tools[action] = (await run('scripts/dlq.ts', [action, 'staging'], env)).said;
    await eventually(
      async () => expect((await queueDepth(client, deadLetterQueue.url)).visible).toBe(REJECTED),
      60_000,
    );

    // The database goes away, then the queue, then the processes.
    await database.kill();
    await eventually(async () => expect(await look('no database', list)).toBe(503));
    expect(await post('meanwhile', good, byKey)).toBe(202);
    await eventually(() => expect(services.consumer.log()).toContain('breaker opened'));
    await database.up();
    await eventually(async () => expect(await look('database again', list)).toBe(200));
    for (const service of Object.values(services)) await service.signal('SIGKILL');
    await ready();
    await sqs.restart?.();
    await eventually(async () => expect(await post('after a crash', good, byKey)).toBe(202));
    for (const service of Object.values(services)) await service.stop();
  });

  afterAll(async () => {
    for (const service of Object.values(services)) await service.kill();
    client?.destroy();
    await sqs?.stop();
    await database?.stop();
    rmSync(folder, { recursive: true });
  });

  const logs = () =>
    Object.fromEntries(Object.values(services).map((each) => [`log of ${each.name}`, each.log()]));

  test('what was planted is where it belongs', () => {
    expect(stored).toContain(CONTENT.metadata);
    for (const marker of [CONTENT.notJson, CONTENT.invalid, CONTENT.quotedByDatabase, CONTENT.castByDatabase])
      expect(deadLetterBodies).toContain(marker);
    expect(services.consumer.log()).toContain('message sent to the dead-letter queue');
    expect(readFileSync(journal, 'utf8')).toContain('"journal":"accepted"');
  });

  test('secrets are in no log, answer, page, journal, message, row or command line', () => {
    const texts = {
      ...logs(),
      ...answers,
      ...tools,
      ...commandLines,
      'the journal': readFileSync(journal, 'utf8'),
      'the dead-letter queue': deadLetterReasons + deadLetterBodies,
      'the database': stored,
    };
    expect(found(texts, SECRETS)).toEqual([]);
  });

  test('what customers and clients wrote is in no log, page, journal, reason or command line, nor what tools say', () => {
    const pages = Object.fromEntries(
      Object.entries(answers).filter(([what]) => what.includes('/actuator') || what.includes('/metrics')),
    );
    const texts = {
      ...logs(),
      ...pages,
      ...tools,
      ...commandLines,
      'the journal': readFileSync(journal, 'utf8'),
      'the reasons in the dead-letter queue': deadLetterReasons,
    };
    expect(found(texts, CONTENT)).toEqual([]);
  });

  test('a refusal repeats nothing of the order but the name of a field that is unknown', () => {
    const { 'unknown field': field, 'no such page': page, ...others } = refusals;
    expect(found(others, CONTENT)).toEqual([]);
    const { field: _, ...values } = CONTENT;
    expect(found({ field: field ?? '', page: page ?? '' }, values)).toEqual([]);
  });

  test('secrets are in the environment of the services alone', () => {
    const holders = Object.entries(environments).filter(
      ([, environment]) => found({ environment }, SECRETS).length > 0,
    );
    expect(holders).toHaveLength(2);
    for (const [pid] of holders)
      expect(commandLines[`process ${pid}`]).toMatch(/(producer|consumer)\/src\/main\.ts/);
  });

  test('a process that crashes leaves no memory behind', () => {
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .map((name) => path.join(folder, name))
      .filter((file) => statSync(file).isFile());
    expect(files.map((file) => path.relative(folder, file)).toSorted()).toEqual([
      'accepted.ndjson',
      'api-keys',
      'consumer/consumer.log',
      'jwks.json',
      'producer/producer.log',
    ]);
    const dockerfile = readFileSync(path.join(ROOT, 'Dockerfile'), 'utf8');
    const flags = [...SERVICE_FLAGS, ...(dockerfile.match(/--[\w-]+/g) ?? [])];
    expect(flags.filter((flag) => /report|heapsnapshot|heap-prof|cpu-prof|abort|inspect/.test(flag))).toEqual(
      [],
    );
    expect(dockerfile).toContain('NODE_OPTIONS=--disable-sigusr1');
    const compose = readFileSync(path.join(ROOT, 'docker-compose.dev.yml'), 'utf8');
    expect(compose).toMatch(/x-service: &service\n(?: .*\n)*? {2}ulimits: \{ core: 0 \}\n/);
  });

  const wrong = path.join(folder, 'wrong');
  const password = SECRETS.databasePassword;
  test.each<[string, ServiceRole, NodeJS.ProcessEnv, string?]>([
    ['another database', 'consumer', { DATABASE_URL: `mysql://u:${password}@127.0.0.1/orders` }],
    [
      'a password that is not encoded',
      'consumer',
      { DATABASE_URL: `postgres://u:${password}/%@127.0.0.1/orders` },
    ],
    ['no database there', 'consumer', { DATABASE_URL: `postgres://u:${password}@127.0.0.1:1/orders` }],
    ['no TLS', 'consumer', { DATABASE_URL: `postgres://u:${password}@h/orders`, ALLOW_PLAINTEXT: 'sqs' }],
    [
      'no file of CAs',
      'consumer',
      { DATABASE_URL: `postgres://u:${password}@h/o?sslmode=verify-full`, DATABASE_CA_FILE: wrong },
    ],
    ['no SQS there', 'producer', { AWS_ENDPOINT_URL: `http://u:${password}@127.0.0.1:1/` }],
    [
      'SQS without TLS',
      'producer',
      { AWS_ENDPOINT_URL: `http://u:${password}@127.0.0.1:1/`, ALLOW_PLAINTEXT: '' },
    ],
    ['a key in place of its hash', 'producer', { API_KEYS_FILE: wrong }, `shop orders:write ${SECRETS.key}`],
    ['a key alone', 'producer', { API_KEYS_FILE: wrong }, SECRETS.key],
    ['a file of keys that is no JSON', 'producer', { JWT_JWKS: wrong }, SECRETS.key],
  ])('a service that does not start, for %s, says so without a secret', async (_what, role, own, content) => {
    writeFileSync(wrong, content ?? '');
    const { status, said } = await run(SERVICE_SCRIPT[role], [], {
      ...env,
      ...own,
      PRODUCER_PORT: '0',
      CONSUMER_PORT: '0',
    });
    expect({ status, said }).toMatchObject({
      status: 1,
      said: expect.stringContaining(Object.keys(own)[0] ?? ''),
    });
    expect(found({ said }, SECRETS)).toEqual([]);
    // Part of a secret is one, too; V8 quotes ten characters.
    expect(said).not.toContain(SECRETS.key.slice(0, 8));
  });
});

function ofProcess(pid: string, file: 'cmdline' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return ''; // It has ended, or is somebody else's.
  }
}

async function run(script: string, args: string[], env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, [path.join(ROOT, script), ...args], { env, cwd: tmpdir() });
  const [[status], ...said] = await Promise.all([
    once(child, 'close'),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { status: status as number, said: said.join('') };
}
