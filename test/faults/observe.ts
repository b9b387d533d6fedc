import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { DeleteMessageBatchCommand, ReceiveMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { DEAD_LETTER_ATTRIBUTE, deadLetterSchema } from '@orders/consumer/queue/dead-letter.ts';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { decryptMessages } from '@orders/shared/order/encrypted-message.ts';
import { decodeOrderMessage } from '@orders/shared/order/message.ts';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import { commonFields, loadConfig } from '@orders/shared/runtime/config.ts';
import { createLogger } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { queueDepth } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import type { CountedFailure, DeadLettered, FoundOrder, Journaled, LookedUp } from './invariants.ts';
import type { ServiceProcess } from './service-process.ts';
import { found } from './store.ts';

const POLL_MS = 100;
const FAILED = '"message failed, will be tried again"';
/** How long what another reader holds is waited for: longer than the visibility time of 5 s. */
const DRAIN_TRIES = 100;
const LOOK_UP_TRIES = 20;

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

type Received = {
  body: string;
  attributes: Record<string, string>;
  /** Of an encrypted message: the bodies in it. */
  decrypted?: string[] | undefined;
};

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
    for (const { Body = '', MessageAttributes = {} } of Messages) {
      const texts = Object.entries(MessageAttributes).map(([name, value]) => [name, value.StringValue ?? '']);
      all.push({ body: Body, attributes: Object.fromEntries(texts) });
    }
    const Entries = Messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
    if (Entries.length > 0) {
      await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries }));
      continue;
    }
    if ((await queueDepth(sqs, queueUrl)).inFlight === 0) return all;
    waited++;
    await sleep(POLL_MS);
  }
  return all;
}

/** The same messages, with what is in those that are encrypted; what cannot be decrypted stays as it is. */
export const decryptedBy =
  (cipher: MessageCipher | undefined) =>
  async (messages: Received[]): Promise<Received[]> =>
    cipher
      ? Promise.all(
          messages.map(async (message) => ({
            ...message,
            decrypted: await decryptMessages(message.body, cipher).catch(() => undefined),
          })),
        )
      : messages;

/** The orders in messages that can be read. */
export function foundIn(messages: Received[]): FoundOrder[] {
  return messages.flatMap(({ body, decrypted = [body] }) => decrypted.flatMap(foundInBody));
}

function foundInBody(body: string): FoundOrder[] {
  return unpackMessages(body).flatMap((part) => {
    try {
      const { order, clientId } = decodeOrderMessage(part, {}, { packed: part !== body });
      return [{ ...found(order), clientId }];
    } catch {
      return [];
    }
  });
}

/** The messages of the DLQ, with why they are there. */
export function deadLettersIn(messages: Received[]): DeadLettered[] {
  return messages.map(({ body, attributes, decrypted }) => {
    const letter = deadLetterSchema.safeParse(JSON.parse(attributes[DEAD_LETTER_ATTRIBUTE] ?? 'null')).data;
    const { reason, failures, attempts, messageId } = letter ?? {};
    return {
      body,
      reason,
      failures,
      attempts,
      messageId,
      found: foundIn([{ body, attributes, decrypted }])[0],
    };
  });
}

/** The orders in the archives of a folder, and what cannot be read of them. */
export function archivesIn(folder: string): { archived: FoundOrder[]; unreadableArchives: string[] } {
  const archived: FoundOrder[] = [];
  const unreadableArchives: string[] = [];
  const files = existsSync(folder) ? readdirSync(folder, { recursive: true, withFileTypes: true }) : [];
  for (const file of files) {
    // What a run was killed in the middle of, before the archive had its name.
    if (!file.isFile() || !file.name.endsWith('.gz')) continue;
    try {
      const lines = gunzipSync(readFileSync(path.join(file.parentPath, file.name)))
        .toString()
        .split('\n');
      for (const line of lines.filter(Boolean)) {
        const { order, clientId } = JSON.parse(line) as { order: Record<string, unknown>; clientId?: string };
        archived.push({ ...found(order), clientId });
      }
    } catch (error) {
      unreadableArchives.push(`${file.name}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return { archived, unreadableArchives };
}

/** What a consumer's log says of messages that failed and will be tried again. */
export function failuresIn(log: string): CountedFailure[] {
  // A process that is killed may leave half a line.
  const lines = log.split('\n').filter((line) => line.includes(FAILED) && line.endsWith('}'));
  return lines.map((line) => JSON.parse(line) as CountedFailure);
}

/** Whether a consumer's log says that the store did not take a fate. */
export const missesFates = (log: string): boolean =>
  log.includes('"what became of rejected orders is not recorded"');

/** The whole lines of the acceptance journal. */
export function journaledIn(journal: string): Journaled[] {
  return [...journal.matchAll(/^\{"journal":"accepted".*\}$/gm)].map(([line]) => {
    const { orderId, messageId, clientId } = JSON.parse(line) as Journaled;
    return { orderId, messageId, clientId };
  });
}

/** How many orders the producer's log says that it answered without their line. */
export function unjournaledIn(log: string): number {
  return [...log.matchAll(/^.*"acceptance journal is back".*\}$/gm)]
    .map(([line]) => (JSON.parse(line) as { missed: number }).missed)
    .reduce((sum, missed) => sum + missed, 0);
}

type Page = {
  orders: (Record<string, unknown> & { storedAt?: string })[];
  /** Where a customer's next page begins. */
  next?: string;
  /** Of a list of ids, those that are still to be asked for: a page holds a megabyte or so. */
  remaining?: string[];
};

/** What GET answers for these ids, and for each order of that customer. */
export async function lookUp(
  consumer: ServiceProcess,
  orderIds: readonly string[],
  { customerId, headers = {} }: { customerId?: string | undefined; headers?: Record<string, string> } = {},
): Promise<LookedUp[]> {
  const get = (url: string) => getPage(url, headers);
  const all: LookedUp[] = [];
  const keep = ({ orders }: Page) => all.push(...orders.map(toLookedUp));
  for (let start = 0; start < orderIds.length; start += 100) {
    for (let wanted = orderIds.slice(start, start + 100); wanted.length > 0; ) {
      const page = await get(`${consumer.url}/orders?orderIds=${wanted.join(',')}`);
      if (page) keep(page);
      wanted = page?.remaining ?? [];
    }
  }
  if (customerId === undefined) return all;
  for (let next: string | undefined = ''; next !== undefined; ) {
    const after: string = next === '' ? '' : `&after=${next}`;
    const page = await get(`${consumer.url}/orders?customerId=${customerId}&limit=500${after}`);
    if (page) keep(page);
    next = page?.next;
  }
  return all;
}

function toLookedUp({ state: _state, storedAt = '', traceId: _traceId, ...order }: Page['orders'][number]) {
  return { ...found(order), storedAt };
}

/** Undefined when it does not answer, also not when asked again. */
async function getPage(url: string, headers: Record<string, string>): Promise<Page | undefined> {
  for (let tries = 0; tries < LOOK_UP_TRIES; tries++) {
    const response = await fetch(url, { headers }).catch(() => undefined);
    if (response?.ok) return (await response.json().catch(() => undefined)) as Page | undefined;
    await response?.body?.cancel();
    await sleep(POLL_MS);
  }
  return undefined;
}
