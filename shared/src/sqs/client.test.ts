import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { GetQueueUrlCommand, SendMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { captureLog } from '../../testing/log-lines.ts';
import { createMetrics } from '../runtime/metrics.ts';
import { createSqsClient, type SqsClientOptions } from './client.ts';

describe('createSqsClient', () => {
  let server: Server | undefined;
  let client: SQSClient | undefined;
  afterEach(async () => {
    client?.destroy();
    server?.closeAllConnections();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
    vi.unstubAllEnvs();
  });

  /** A client of an SQS that answers as told. */
  async function open(answer: RequestListener, config: Partial<SqsClientOptions['config']> = {}) {
    server = createServer(answer).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { logger, lines } = captureLog();
    const metrics = createMetrics('test', '1');
    client = createSqsClient({
      config: {
        APP_ENV: 'dev',
        AWS_REGION: 'ap-northeast-2',
        AWS_ENDPOINT_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        AWS_ENDPOINT_URL_SQS: undefined,
        SQS_CONNECT_TIMEOUT_MS: 1_000,
        SQS_REQUEST_TIMEOUT_MS: 1_000,
        SQS_MAX_ATTEMPTS: 3,
        SQS_MAX_SOCKETS: 5,
        ...config,
      },
      logger,
      metrics,
    });
    const requests = async () =>
      (await metrics.sqsRequestDuration.get()).values
        .filter(({ metricName }) => metricName?.endsWith('_count'))
        .map(({ labels, value }) => `${labels.operation} ${labels.result} ${value}`);
    return { client, lines, requests };
  }
  const getUrl = new GetQueueUrlCommand({ QueueName: 'orders' });
  const urlAnswer: RequestListener = (_request, response) => {
    response.setHeader('content-type', 'application/x-amz-json-1.0').end('{"QueueUrl":"http://q/orders"}');
  };

  it('client, in development against an emulator, needs no credentials', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    const { client } = await open(urlAnswer);
    expect((await client.send(getUrl)).QueueUrl).toBe('http://q/orders');
  });

  it('client, outside development, signs with the credentials of the default chain', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIATEST');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
    vi.stubEnv('AWS_SESSION_TOKEN', undefined);
    const signed: (string | undefined)[] = [];
    const { client } = await open(
      (request, response) => {
        signed.push(request.headers.authorization);
        urlAnswer(request, response);
      },
      { APP_ENV: 'staging' },
    );
    await client.send(getUrl);
    expect(signed[0]).toContain('Credential=AKIATEST/');
  });

  it('client, when SQS fails at first, tries again, and each attempt is measured', async () => {
    let failures = 1;
    const { client, requests } = await open((request, response) => {
      if (failures-- > 0) response.writeHead(500).end();
      else urlAnswer(request, response);
    });
    await client.send(getUrl);
    expect(await requests()).toEqual(['GetQueueUrl error 1', 'GetQueueUrl success 1']);
  });

  it('client, when SQS never answers, gives up', async () => {
    const { client, requests } = await open(() => {}, { SQS_REQUEST_TIMEOUT_MS: 100, SQS_MAX_ATTEMPTS: 1 });
    await expect(client.send(getUrl)).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(await requests()).toEqual(['GetQueueUrl error 1']);
  });

  it('client, of what it sends and of what fails, logs no body', async () => {
    const { client, lines } = await open((_request, response) => {
      response.writeHead(400, { 'content-type': 'application/x-amz-json-1.0' });
      response.end('{"__type":"com.amazonaws.sqs#InvalidMessageContents","message":"refused"}');
    });
    const command = new SendMessageCommand({ QueueUrl: 'http://q/orders', MessageBody: 'Kim Minji' });
    await expect(client.send(command)).rejects.toThrow('refused');
    expect(lines).toMatchObject([
      { level: 'DEBUG', message: 'AWS SDK request', commandName: 'SendMessageCommand' },
    ]);
    expect(JSON.stringify(lines)).not.toContain('Kim');
  });
});
