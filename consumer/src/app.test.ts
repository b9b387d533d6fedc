import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { expect, onTestFinished, test } from 'vitest';
import { startConsumer } from './app.ts';
import { loadConsumerConfig } from './config.ts';

test('startConsumer, with an SQS that fails once its queues are found, says what cannot be worked with', async () => {
  const sqs = http.createServer((request, response) => {
    if (request.headers['x-amz-target'] !== 'AmazonSQS.GetQueueUrl') return request.socket.destroy();
    response.setHeader('content-type', 'application/x-amz-json-1.0');
    response.end(JSON.stringify({ QueueUrl: 'http://127.0.0.1/000000000000/order-queue' }));
  });
  await new Promise<void>((resolve) => sqs.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void sqs.close());
  const config = loadConsumerConfig({
    APP_ENV: 'dev',
    AWS_ENDPOINT_URL: `http://127.0.0.1:${(sqs.address() as AddressInfo).port}`,
    DATABASE_URL: 'sqlite::memory:',
    SQS_MAX_ATTEMPTS: '1',
    CONSUMER_PORT: '0',
  });
  const started = startConsumer(config, captureLog().logger, 'test', () => {});
  await expect(started).rejects.toThrow(StartupError);
  await expect(started).rejects.toThrow(/cannot work with http:.*ECONNRESET/);
});
