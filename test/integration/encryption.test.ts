import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ReceiveMessageCommand, SendMessageCommand } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { encryptMessages } from '@orders/shared/order/encrypted-message.ts';
import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { aCipher, aKeyFile, keyLine } from '@orders/shared/testing/cipher.ts';
import { FakeKms } from '@orders/shared/testing/fake-kms.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { eventually } from '../support/eventually.ts';
import { allStored } from '../support/load.ts';
import { post, startPair } from '../support/pair.ts';
import { findQueues, openQueues } from '../support/queues.ts';

// Each starts tools, or a service of its own.
vi.setConfig({ testTimeout: 300_000 });

const ROOT = path.join(import.meta.dirname, '..', '..');

function run(args: string[], env: Record<string, string>, cwd = ROOT) {
  const { PATH, HOME = '' } = process.env;
  return new Promise<{ status: number; out: string; error: string }>((resolve) => {
    const child = execFile(process.execPath, args, { cwd, env: { PATH, HOME, ...env } }, (_, out, error) =>
      resolve({ status: child.exitCode ?? -1, out, error }),
    );
  });
}

test('encrypted orders, single and packed, are stored; dead ones are ciphertext that the tools count and move without the key, and show with it', async () => {
  using keys = aKeyFile();
  const folder = mkdtempSync(path.join(tmpdir(), 'encryption-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const journal = path.join(folder, 'accepted.ndjson');
  const DATABASE_URL = `sqlite:${path.join(folder, 'orders.db')}`;
  await using pair = await startPair({
    ...keys.env,
    MESSAGE_ENCRYPTION_REQUIRED: 'on',
    PUBLISH_PACKING: 'on',
    ACCEPTANCE_JOURNAL: journal,
    DATABASE_URL,
  });
  const anOrderOf = (customerId: string) => anOrderRequest({ orderId: randomUUID(), customerId });
  const orders = Array.from({ length: 5 }, () => anOrderOf('C-SECRET'));
  const alone = anOrderOf('C-SECRET');
  expect((await post(`${pair.producerUrl}/orders/batch`, orders)).body.accepted).toBe(5);
  expect((await post(`${pair.producerUrl}/orders`, alone)).status).toBe(202);
  await allStored(
    pair.consumerUrl,
    [...orders, alone].map(({ orderId }) => orderId ?? ''),
  );

  // Of an id that is stored: one alone, one packed with an order that is stored.
  const conflicts = [alone, orders[0]].map((order) => ({
    ...(order as typeof alone),
    customerId: 'C-OTHER',
  }));
  expect((await post(`${pair.producerUrl}/orders`, conflicts[0] as typeof alone)).status).toBe(202);
  const good = anOrderOf('C-SECRET');
  expect(
    (await post(`${pair.producerUrl}/orders/batch`, [good, conflicts[1] as typeof alone])).body.accepted,
  ).toBe(2);
  await allStored(pair.consumerUrl, [good.orderId ?? '']);
  using queues = await findQueues(pair.endpoint);
  await eventually(async () =>
    expect(await messagesIn(queues.client, queues.urls.deadLetterQueueUrl)).toBe(2),
  );
  const letters = await new DeadLetterQueue(queues.client, queues.urls).peek(10);
  for (const { message } of letters) {
    expect(message.body).not.toContain('C-OTHER');
    expect(JSON.parse(message.body).type).toBe('order.placed.v3');
  }

  const tool = { AWS_ENDPOINT_URL: pair.endpoint };
  const dlq = (args: string[], env = {}) => run(['scripts/dlq.ts', ...args], { ...tool, ...env });
  const id = alone.orderId ?? '';
  const summary = await dlq(['summary']);
  expect(summary.out).toContain('2  CONFLICT');
  expect(summary.out).toContain('this release reads 0 of 2, and cannot tell of 2 that are encrypted.');
  const list = await dlq(['list']);
  for (const { orderId } of conflicts)
    expect(list.out).toContain(`order ${orderId}; now encrypted: no key was given`);
  expect((await dlq(['show', 'dev', id])).out).not.toContain('C-OTHER');
  const { out: shown } = await dlq(['show', 'dev', id], keys.env);
  expect(shown).toContain('"customerId": "C-OTHER"');
  expect(shown).toContain('this release reads it');
  using another = aKeyFile(keyLine('another'));
  expect((await dlq(['show', 'dev', id], another.env)).out).toContain(
    'a key that this process does not have',
  );
  expect((await dlq(['summary'], keys.env)).out).toContain('this release reads 2 of 2.');

  // Every accepted order is accounted for, without the key.
  const reconciled = await run(['scripts/reconcile.ts', 'dev', journal], { ...tool, DATABASE_URL });
  expect(reconciled).toMatchObject({ status: 0 });

  // Without the key they are moved as they are, come back, and are conflicts still.
  expect((await dlq(['redrive', 'dev', '--conflicts'])).out).toContain('2 moved');
  await eventually(async () => {
    const again = await new DeadLetterQueue(queues.client, queues.urls).peek(10);
    expect(again.map(({ deadLetter }) => deadLetter?.reason)).toEqual(['CONFLICT', 'CONFLICT']);
  });
});

test('redrive, of encrypted letters, needs no key and asks KMS for none, unless it must read or record them', async () => {
  using kms = await FakeKms.start();
  await using emulator = await disposable(startEmulator({ port: 0 }));
  await using queues = await openQueues({ AWS_ENDPOINT_URL: emulator.endpoint });
  const { client, urls } = queues;
  const cipher = await aCipher(kms.env);
  onTestFinished(() => cipher.close());
  const orderId = randomUUID();
  const { body } = await encryptMessages([{ body: 'no order', orderId, traceparent: undefined }], cipher);
  const deadLetter = () =>
    client.send(new SendMessageCommand({ QueueUrl: urls.deadLetterQueueUrl, MessageBody: body }));
  // Without a developer's store.
  const folder = mkdtempSync(path.join(tmpdir(), 'redrive-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const script = path.join(ROOT, 'scripts', 'dlq.ts');
  const redrive = (args: string[], env: Record<string, string>) =>
    run([script, 'redrive', 'dev', ...args], { ...(queues.env as Record<string, string>), ...env }, folder);
  const asked = kms.calls.length;

  await deadLetter();
  expect((await redrive([], kms.env)).out).toContain('1 moved');
  expect(kms.calls.length).toBe(asked);
  await deadLetter();
  const gone = { MESSAGE_ENCRYPTION: 'local', MESSAGE_ENCRYPTION_KEY_FILE: '/gone/keys' };
  expect(await redrive([], gone)).toMatchObject({ status: 0, out: expect.stringContaining('1 moved') });
  const { Messages = [] } = await client.send(
    new ReceiveMessageCommand({ QueueUrl: urls.queueUrl, MaxNumberOfMessages: 10 }),
  );
  expect(Messages.map(({ Body }) => Body)).toEqual([body, body]);

  // What it moves is recorded in a store that is named, with the key where there is one.
  const DATABASE_URL = `sqlite:${path.join(folder, 'orders.db')}`;
  await deadLetter();
  expect(await redrive([], { ...gone, DATABASE_URL })).toMatchObject({
    status: 0,
    out: expect.stringContaining('1 moved'),
    error: expect.stringContaining('encrypted messages are moved without being read: MESSAGE_ENCRYPTION_KEY'),
  });
  expect(kms.calls.length).toBe(asked);

  await deadLetter();
  expect((await redrive(['--readable'], kms.env)).out).toContain('0 moved');
  expect(kms.calls.slice(asked).map(({ operation }) => operation)).toEqual(['Decrypt']);
  expect(await messagesIn(client, urls.deadLetterQueueUrl)).toBe(1);
});

const LOADED = `
import { createRequire } from 'node:module';
import { startPair, post } from './test/support/pair.ts';
const pair = await startPair(JSON.parse(process.env.PAIR));
await post(pair.producerUrl + '/orders', JSON.parse(process.env.ORDER));
await pair[Symbol.asyncDispose]();
const { cache } = createRequire(import.meta.url);
console.log('loaded', Object.keys(cache).some((file) => file.includes('@aws-crypto/client-node')));
process.exit();
`;

test.each([
  ['off', false],
  ['on', true],
])('the encryption library, with encryption %s, is loaded: %s', async (mode, loaded) => {
  using keys = aKeyFile();
  await using emulator = await disposable(startEmulator({ port: 0 }));
  const env = { AWS_ENDPOINT_URL: emulator.endpoint, LOG_LEVEL: 'error', ...(mode === 'on' ? keys.env : {}) };
  const { out, error } = await run(['--input-type=module-typescript', '-e', LOADED], {
    PAIR: JSON.stringify(env),
    ORDER: JSON.stringify(anOrderRequest()),
  });
  expect(error).toBe('');
  expect(out).toContain(`loaded ${loaded}`);
});

async function disposable<T extends { stop: () => Promise<unknown> }>(starting: Promise<T>) {
  const started = await starting;
  return Object.assign(started, {
    [Symbol.asyncDispose]: async () => {
      await started.stop();
    },
  });
}
