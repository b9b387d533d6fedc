import { setTimeout as sleep } from 'node:timers/promises';
import { DeleteMessageCommand, ReceiveMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { DEAD_LETTER_ATTRIBUTE, deadLetterSchema } from '@orders/consumer/sqs/dead-letter.ts';
import { commonFields, loadConfig } from '@orders/shared/config.ts';
import { createLogger } from '@orders/shared/logger.ts';
import { readableOrders } from '@orders/shared/packed-message.ts';
import { queueDepth } from '@orders/shared/queue-admin.ts';
import { createSqsClient } from '@orders/shared/sqs-client.ts';
import { z } from 'zod';
import type { CountedFailure, DeadLettered, FoundOrder } from './invariants.ts';
import type { ServiceProcess } from './service-process.ts';
import { found } from './store.ts';

const POLL_MS = 100;
const FAILED = '"message failed, will be tried again"';
/** How long what another reader holds is waited for: longer than the visibility time of 5 s. */
const DRAIN_TRIES = 100;

/** A client that is not behind the proxy. */
export function connect(endpoint: string): SQSClient {
  const config = loadConfig(z.object(commonFields), { AWS_ENDPOINT_URL: endpoint, LOG_LEVEL: 'fatal' });
  return createSqsClient({ config, logger: createLogger({ ...config, service: 'campaign', version: '' }) });
}

/** What is still to be done, in words. */
export async function unsettled(
  sqs: SQSClient,
  queueUrl: string,
  consumers: readonly ServiceProcess[],
): Promise<string[]> {
  const open: string[] = [];
  for (const [state, count] of Object.entries(await queueDepth(sqs, queueUrl)))
    if (count > 0) open.push(`order queue: ${count} ${state}`);
  for (const consumer of consumers) {
    const leases = await consumer.metric('sqs_leases_in_flight');
    if (leases !== 0) open.push(`${consumer.name} has ${leases ?? 'an unknown number of'} leases in flight`);
  }
  return open;
}

type Received = { body: string; attributes: Record<string, string> };

/** Takes everything out of a queue that nobody uses any more; waits for what another reader still holds. */
export async function drain(sqs: SQSClient, queueUrl: string): Promise<Received[]> {
  const all: Received[] = [];
  for (let waited = 0; waited < DRAIN_TRIES; ) {
    const { Messages = [] } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: queueUrl,
        MaxNumberOfMessages: 10,
        WaitTimeSeconds: 0,
        MessageAttributeNames: ['All'],
      }),
    );
    for (const { Body = '', ReceiptHandle, MessageAttributes = {} } of Messages) {
      const texts = Object.entries(MessageAttributes).map(([name, value]) => [name, value.StringValue ?? '']);
      all.push({ body: Body, attributes: Object.fromEntries(texts) });
      await sqs.send(new DeleteMessageCommand({ QueueUrl: queueUrl, ReceiptHandle }));
    }
    if (Messages.length > 0) continue;
    if ((await queueDepth(sqs, queueUrl)).inFlight === 0) return all;
    waited++;
    await sleep(POLL_MS);
  }
  return all;
}

/** The orders in messages that can be read. */
export function foundIn(messages: Received[]): FoundOrder[] {
  return messages.flatMap(({ body }) => readableOrders(body)).map((order) => found(order));
}

/** The messages of the DLQ, with why they are there. */
export function deadLettersIn(messages: Received[]): DeadLettered[] {
  return messages.map(({ body, attributes }) => {
    const letter = deadLetterSchema.safeParse(JSON.parse(attributes[DEAD_LETTER_ATTRIBUTE] ?? 'null')).data;
    const { reason, failures, attempts } = letter ?? {};
    return { body, reason, failures, attempts, found: foundIn([{ body, attributes }])[0] };
  });
}

/** What a consumer's log says of messages that failed and will be tried again. */
export function failuresIn(log: string): CountedFailure[] {
  // A process that is killed may leave half a line.
  const lines = log.split('\n').filter((line) => line.includes(FAILED) && line.endsWith('}'));
  return lines.map((line) => JSON.parse(line) as CountedFailure);
}

/** The order of each line of the acceptance journal, in the order of the lines. */
export function journaledIn(journal: string): string[] {
  return [...journal.matchAll(/^\{"journal":"accepted","orderId":"([^"]+)".*\}$/gm)].map(
    ([, id]) => id as string,
  );
}

/** How many orders the producer's log says that it answered without their line. */
export function unjournaledIn(log: string): number {
  return [...log.matchAll(/^.*"acceptance journal is back".*\}$/gm)]
    .map(([line]) => (JSON.parse(line) as { missed: number }).missed)
    .reduce((sum, missed) => sum + missed, 0);
}

/** What GET answers for these ids. */
export async function lookUp(consumer: ServiceProcess, orderIds: readonly string[]): Promise<FoundOrder[]> {
  const all: FoundOrder[] = [];
  for (let start = 0; start < orderIds.length; start += 100) {
    const ids = orderIds.slice(start, start + 100).join(',');
    const response = await fetch(`${consumer.url}/orders?orderIds=${ids}`).catch(() => undefined);
    if (!response?.ok) continue;
    const { orders } = (await response.json()) as { orders: Record<string, unknown>[] };
    for (const { state: _state, storedAt: _storedAt, traceId: _traceId, ...order } of orders)
      all.push(found(order));
  }
  return all;
}
