import { QueueDoesNotExist, type SQSClient } from '@aws-sdk/client-sqs';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { captureLog } from '../../../shared/testing/log-lines.ts';
import { createConsumerMetrics } from '../metrics.ts';
import { startQueueSampler } from './queue-sampler.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it('queue sampler, when a queue was deleted, logs one error until the queue exists again', async () => {
  const missing = new QueueDoesNotExist({ message: 'none', $metadata: {} });
  let answer: () => Promise<unknown> = () => Promise.reject(missing);
  const { logger, lines } = captureLog();
  const stop = startQueueSampler({
    client: { send: () => answer() } as unknown as SQSClient,
    queues: { 'order-queue': 'url' },
    intervalSeconds: 1,
    metrics: createConsumerMetrics('test'),
    logger,
  });
  const told = async () => {
    await vi.advanceTimersByTimeAsync(3_000);
    return lines.splice(0).map(({ level, message, queue }) => [level, message, queue]);
  };
  const error = ['ERROR', 'queue does not exist any more', 'order-queue'];
  expect(await told()).toEqual([error]);
  expect(await told()).toEqual([]);
  answer = async () => ({ Attributes: {} });
  expect(await told()).toEqual([]);
  answer = () => Promise.reject(missing);
  expect(await told()).toEqual([error]);
  stop();
});
