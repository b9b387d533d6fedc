import { randomUUID } from 'node:crypto';
import type { SQSClient } from '@aws-sdk/client-sqs';
import type { Environment } from '@orders/shared/runtime/config.ts';
import { deleteQueue, ensureQueues, queueDepth, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { createTool } from '../../scripts/sqs-tool.ts';
import { sqsClient } from './backends.ts';

/** The queues of a pair of services, and a client for them. */
export type Queues = { client: SQSClient; urls: { queueUrl: string; deadLetterQueueUrl: string } };

export type OwnQueues = Queues &
  AsyncDisposable & {
    names: { queue: string; deadLetterQueue: string };
    /** What tells the services of them. */
    env: Environment;
  };

/** Queues of its own, deleted afterwards, so that tests can share one SQS. */
export async function openQueues(backend: Environment): Promise<OwnQueues> {
  const client = sqsClient(backend);
  const id = randomUUID();
  const names = { queue: `orders-test-${id}`, deadLetterQueue: `orders-test-${id}-dlq` };
  const { queue, deadLetterQueue } = await ensureQueues(client, 'dev', names);
  return {
    client,
    names,
    env: { ...backend, ORDER_QUEUE_NAME: names.queue, ORDER_DLQ_NAME: names.deadLetterQueue },
    urls: { queueUrl: queue.url, deadLetterQueueUrl: deadLetterQueue.url },
    [Symbol.asyncDispose]: async () => {
      for (const url of [queue.url, deadLetterQueue.url]) await deleteQueue(client, url).catch(() => {});
      client.destroy();
    },
  };
}

export type FoundQueues = Queues & Disposable;

/** Those that services with this endpoint, and no other settings, have made. */
export async function findQueues(endpoint: string): Promise<FoundQueues> {
  const { client, config } = createTool('dev', { AWS_ENDPOINT_URL: endpoint });
  const urls = await resolveQueues(client, config);
  return { client, urls, [Symbol.dispose]: () => client.destroy() };
}

export async function depthOf(
  client: SQSClient,
  url: string,
): Promise<{ visible: number; inFlight: number }> {
  const { visible, inFlight } = await queueDepth(client, url);
  return { visible, inFlight };
}
