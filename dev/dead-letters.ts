import type { SQSClient } from '@aws-sdk/client-sqs';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash, type Order } from '@orders/shared/order/order.ts';
import { MessageSender } from '@orders/shared/sqs/message-sender.ts';
import { resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { defineCommand, runCommand, type ValuesOf, wholeNumber } from '../scripts/command.ts';
import { createTool } from '../scripts/sqs-tool.ts';

export const command = defineCommand({
  name: 'npm run dead-letters --',
  summary:
    'Sends messages with five kinds of faults to the order queue of npm start, so that scripts/dlq.sh has something to show.',
  positionals: {},
  options: {
    count: { takes: 'N', description: 'how many', schema: wholeNumber(1, 100_000).default(50) },
  },
  changes: 'the order queue of npm start; its order-consumer moves the messages to the dead-letter queue.',
  exitStatuses: { 0: 'sent', 1: 'not sent, with the reason' },
});

/** Of a good message; each makes another fault of it. */
const FAULTS: readonly ((body: string) => string)[] = [
  (body) => body.slice(0, -1),
  (body) => body.replace('"order.placed.v1"', '"order.placed"'),
  (body) => body.replace(/"quantity":\d+/, '"quantity":-1'),
  (body) => body.replace(/"customerId":"[^"]*"/, '"customerId":""'),
  (body) => body.replace(/v1:[0-9a-f]{8}/, 'v1:00000000'),
];

if (import.meta.main) await runCommand(command, main);

async function main({ count }: ValuesOf<typeof command>): Promise<number> {
  const { client, config } = createTool('dev', process.env);
  const { queueUrl } = await resolveQueues(client, config, { createMissing: false });
  await sendFaulty(client, queueUrl, count);
  console.log(`${count} messages sent; next: scripts/dlq.sh summary`);
  return 0;
}

/** Sends so many messages, of each kind of fault alike. */
export async function sendFaulty(client: SQSClient, queueUrl: string, count: number): Promise<void> {
  const sender = new MessageSender(client, queueUrl);
  await Promise.all(
    Array.from({ length: count }, async (_, n) =>
      sender.send({ MessageBody: await faultyMessage(n), MessageAttributes: {} }),
    ),
  );
}

async function faultyMessage(n: number): Promise<string> {
  const order: Order = {
    ...anOrderRequest(),
    orderId: crypto.randomUUID(),
    createdAt: new Date().toISOString(),
  };
  const { body } = await encodeOrderMessage(
    { order, contentHash: contentHash(order), traceparent: undefined },
    { version: 1, encoding: 'identity', compressAboveBytes: Number.POSITIVE_INFINITY },
  );
  return FAULTS[n % FAULTS.length]?.(body) ?? body;
}
