import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GetQueueUrlCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { decodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { type ProducerApp, startProducer } from './app.ts';
import { loadProducerConfig } from './config.ts';

describe('startProducer', () => {
  let emulator: { endpoint: string; stop: () => Promise<void> };
  const apps: ProducerApp[] = [];
  beforeEach(async () => {
    emulator = await startEmulator({ port: 0 });
  });
  afterEach(async () => {
    await Promise.all(apps.splice(0).map(({ stop }) => stop()));
    await emulator.stop();
  });

  const start = async (env: Record<string, string> = {}) => {
    const config = loadProducerConfig({
      AWS_ENDPOINT_URL: emulator.endpoint,
      PRODUCER_PORT: '0',
      SQS_MAX_ATTEMPTS: '1',
      ...env,
    });
    const { logger, lines } = captureLog();
    const app = await startProducer(config, logger, '1.2.3');
    apps.push(app);
    return { ...app, lines };
  };
  const post = (url: string) =>
    fetch(`${url}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(anOrderRequest()),
    });

  it('producer, given an order, answers 202 and the order is in the queue', async () => {
    const { url } = await start();
    const answer = await post(url);
    expect(answer.status).toBe(202);
    const { orderId } = (await answer.json()) as { orderId: string };
    expect(answer.headers.get('location')).toBe(`http://localhost:8081/orders/${orderId}`);
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
    const client = new SQSClient({ region: 'ap-northeast-2', endpoint: emulator.endpoint, credentials });
    try {
      const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName: 'order-queue' }));
      const { Messages } = await client.send(new ReceiveMessageCommand({ QueueUrl }));
      const { order } = decodeOrderMessage(Messages?.[0]?.Body ?? '');
      expect(order).toEqual({ ...anOrderRequest(), orderId });
    } finally {
      client.destroy();
    }
  });

  it('producer, that runs, is ready and shows its metrics', async () => {
    const { url, lines } = await start();
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    await post(url);
    const text = await (await fetch(`${url}/actuator/prometheus`)).text();
    expect(text).toMatch(/^orders_accepted_total\{.*\} 1$/m);
    expect(text).toMatch(/^sqs_request_duration_seconds_count\{.*operation="SendMessageBatch".*\} 1$/m);
    expect(text).toMatch(/^orders_buffered\{.*\} 0$/m);
    expect(lines.find(({ message }) => message === 'ready')).toMatchObject({
      level: 'INFO',
      queue: 'order-queue',
      url,
    });
  });

  it('producer, when the queue is away, answers 503 and is not ready but alive', async () => {
    const { url } = await start({ BREAKER_FAILURES: '1' });
    await emulator.stop();
    const answer = await post(url);
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).toBe('5');
    expect((await fetch(`${url}/readyz`)).status).toBe(503);
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    emulator = await startEmulator({ port: 0 });
  });

  it('producer, with a journal in a file, has the line there when the answer comes', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'producer-journal-'));
    const file = path.join(folder, 'accepted.ndjson');
    const { url } = await start({ ACCEPTANCE_JOURNAL: file });
    for (let count = 1; count <= 3; count++) {
      const { orderId, traceId } = (await (await post(url)).json()) as Record<string, string>;
      const lines = (await readFile(file, 'utf8')).trim().split('\n');
      expect(lines).toHaveLength(count);
      expect(JSON.parse(lines.at(-1) ?? '')).toEqual({
        journal: 'accepted',
        orderId,
        content: contentHash(anOrderRequest()).slice(0, 'v1:'.length + 16),
        acceptedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
        messageId: expect.any(String),
        traceId,
      });
    }
    await rm(folder, { recursive: true });
  });

  it.skipIf(!existsSync('/dev/full'))(
    'producer, with a journal that cannot be written, still answers 202 and counts the order',
    async () => {
      const { url, lines } = await start({ ACCEPTANCE_JOURNAL: '/dev/full' });
      expect((await post(url)).status).toBe(202);
      const text = await (await fetch(`${url}/metrics`)).text();
      expect(text).toMatch(/^orders_unjournaled_total\{.*\} 1$/m);
      expect(lines.find(({ level }) => level === 'ERROR')).toMatchObject({ err: { code: 'ENOSPC' } });
    },
  );

  it('producer, whose credentials hang, answers 503 in time and stops', async () => {
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
    const client = new SQSClient({ region: 'ap-northeast-2', endpoint: emulator.endpoint, credentials });
    await ensureQueues(client, 'staging', { queue: 'order-queue', deadLetterQueue: 'order-dlq' });
    client.destroy();
    const folder = await mkdtemp(path.join(tmpdir(), 'producer-credentials-'));
    await writeFile(path.join(folder, 'token'), 'web-identity');
    let silent = false;
    const sts = createServer((_request, response) => {
      if (silent) return;
      response.setHeader('content-type', 'text/xml');
      response.end(`<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
        <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>
        <SecretAccessKey>role</SecretAccessKey><SessionToken>session</SessionToken>
        <Expiration>${new Date(Date.now() - 1_000).toISOString()}</Expiration></Credentials>
        </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`);
    }).listen(0, '127.0.0.1');
    await once(sts, 'listening');
    onTestFinished(async () => {
      sts.close();
      sts.closeAllConnections();
      await rm(folder, { recursive: true });
      vi.unstubAllEnvs();
    });
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE'])
      vi.stubEnv(name, undefined);
    await writeFile(path.join(folder, 'keys'), `shop orders:write ${'0'.repeat(64)}`);
    vi.stubEnv('AWS_REGION', 'ap-northeast-2');
    vi.stubEnv('AWS_WEB_IDENTITY_TOKEN_FILE', path.join(folder, 'token'));
    vi.stubEnv('AWS_ROLE_ARN', 'arn:aws:iam::000000000000:role/producer');
    vi.stubEnv('AWS_ENDPOINT_URL_STS', `http://127.0.0.1:${(sts.address() as AddressInfo).port}`);
    const { url, stop } = await start({
      APP_ENV: 'staging',
      ALLOW_PLAINTEXT: 'sqs',
      AUTH: 'none,api-key',
      API_KEYS_FILE: path.join(folder, 'keys'),
      PUBLISH_TIMEOUT_MS: '1500',
      SQS_REQUEST_TIMEOUT_MS: '60000',
    });
    apps.pop();
    expect((await post(url)).status).toBe(202);
    silent = true;
    const answers = [post(url), post(url)];
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([503, 503]);
    await stop();
  });

  it('producer, that stops, answers nobody any more', async () => {
    const { url, stop } = await start();
    apps.splice(0);
    await stop();
    await expect(fetch(`${url}/livez`)).rejects.toThrow();
  });

  it('producer, on a port that is taken, cannot start and names the variable', async () => {
    const { url } = await start();
    const failure = start({ PRODUCER_PORT: new URL(url).port });
    await expect(failure).rejects.toThrow(StartupError);
    await expect(failure).rejects.toThrow('set PRODUCER_PORT or HOST');
  });
});
