import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import type { Problem } from '@orders/shared/http/problem.ts';
import type { OrderRequest } from '@orders/shared/order/order.ts';
import { messagesIn, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import { defineCommand, fromCaller, runCommand, type ValuesOf, wholeNumber } from '../scripts/command.ts';
import { createTool } from '../scripts/sqs-tool.ts';
import { apiKeyHeader } from './api-key.ts';
import { findStored, followOrders } from './order-follower.ts';
import { type Pipeline, startPipeline } from './pipeline.ts';
import { loadPorts } from './pipeline-ports.ts';
import { createProgress } from './progress.ts';
import { uuidOfName } from './sample-orders/name-uuid.ts';
import { readOrders } from './sample-orders/open-orders.ts';

export const command = defineCommand({
  name: 'npm run demo --',
  summary:
    'Publishes the orders of a file, waits until all are processed and prints what became of them. Uses the services of npm start if they run; otherwise starts them and stops them again.',
  positionals: {},
  options: {
    file: {
      takes: 'FILE',
      description:
        'orders in our own format, one per line (NDJSON), or purchases of the CDNOW data set; defaults to a sample of the latter',
      schema: z.string().optional(),
    },
    limit: { takes: 'N', description: 'only the first N', schema: wholeNumber(1).optional() },
  },
  changes: 'places the orders, which stay in the store.',
  exitStatuses: {
    0: 'every accepted order is in the store, or in the dead-letter queue with the reason',
    1: 'orders are missing, or none was accepted',
  },
});

const SAMPLE_FILE = path.join(import.meta.dirname, 'sample-orders', 'cdnow-sample.txt');
const BATCH_ORDERS = 100;
/** Below what the producer takes in one request: one order that is too large is refused alone. */
const BATCH_BYTES = 1_000_000;
const PROBE_TIMEOUT_MS = 2_000;
const POST_TIMEOUT_MS = 15_000;
const MAX_REASON = 300;
const BATCHES_AT_ONCE = 2;
const PATIENCE_MS = 120_000;
const DRAIN_MS = 30_000;
const PUBLISH_ATTEMPTS = 30;

if (import.meta.main) await runCommand(command, main);

async function main({ file, limit }: ValuesOf<typeof command>): Promise<number> {
  // npm runs scripts in the package's folder; the file was named from where the user stands.
  const source = file === undefined ? SAMPLE_FILE : fromCaller(file);
  const running = await runningServices();
  const pipeline = running ? undefined : await startPipeline({ quiet: true });
  try {
    return await demo(source, limit, running ?? (pipeline as Pipeline));
  } finally {
    await pipeline?.stop();
  }
}

type Services = Pick<Pipeline, 'endpoint' | 'producerUrl' | 'consumerUrl'>;

async function runningServices(): Promise<Services | undefined> {
  const ports = loadPorts(process.env);
  const [endpoint, producerUrl, consumerUrl] = [ports.emulator, ports.producer, ports.consumer].map(
    (port) => `http://127.0.0.1:${port}`,
  ) as [string, string, string];
  const answers = await Promise.all(
    [producerUrl, consumerUrl].map((url) =>
      fetch(`${url}/readyz`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) }).then(
        ({ ok }) => ok,
        () => false,
      ),
    ),
  );
  return answers.every(Boolean) ? { endpoint, producerUrl, consumerUrl } : undefined;
}

async function demo(file: string, limit: number | undefined, services: Services): Promise<number> {
  const { endpoint, producerUrl, consumerUrl } = services;
  const startedAt = performance.now();
  const orders: OrderRequest[] = [];
  const unreadable: string[] = [];
  for await (const line of readOrders(file, limit === undefined ? {} : { limit })) {
    if ('error' in line) unreadable.push(line.error.message);
    else orders.push(withId(line.order as OrderRequest, line.line));
  }
  for (const problem of unreadable.slice(0, 10)) console.error(problem);

  const before = new Set(
    (
      await findStored(
        consumerUrl,
        orders.flatMap(({ orderId }) => (typeof orderId === 'string' ? orderId : [])),
      )
    ).keys(),
  );
  // That of the services, whatever the environment says: they do not read it from there either.
  const { client, config } = createTool('dev', {
    ...process.env,
    AWS_ENDPOINT_URL: endpoint,
    AWS_ENDPOINT_URL_SQS: '',
  });
  const urls = await resolveQueues(client, config, { createMissing: false });
  const strangers = await messagesIn(client, urls.queueUrl);
  const publishing = createProgress('accepted', orders.length);
  const published = await publishAll(producerUrl, orders, publishing.update);
  publishing.stop();
  for (const [reason, count] of published.refused) console.error(`${count} refused: ${reason}`);

  const deadLetterQueue = new DeadLetterQueue(client, urls);
  const storing = createProgress('worked off', published.accepted.length);
  const followed = await followOrders(published.accepted, {
    consumerUrl,
    deadLetterQueue,
    patienceMs: PATIENCE_MS,
    onProgress: storing.update,
  });
  storing.stop();
  // What was stored by an earlier run is found at once, while its messages of this run are still on their way.
  const patience = AbortSignal.timeout(DRAIN_MS);
  while (!patience.aborted && (await messagesIn(client, urls.queueUrl)) > strangers) await sleep(200);

  const seconds = (performance.now() - startedAt) / 1_000;
  const duplicates = published.accepted.filter((id) => before.has(id) && followed.stored.has(id)).length;
  const stored = followed.stored.size - new Set(published.accepted.filter((id) => before.has(id))).size;
  const reasons = Map.groupBy(followed.deadLettered.values(), (reason) => reason);
  for (const [reason, found] of reasons)
    console.log(`${found.length} dead-lettered: ${reason} (scripts/dlq.sh peek)`);
  if (followed.missing.length > 0)
    console.log(`${followed.missing.length} accepted orders are MISSING, such as ${followed.missing[0]}`);
  console.log(
    `read=${orders.length + unreadable.length} accepted=${published.accepted.length} stored=${stored} duplicates=${duplicates} ` +
      `deadLettered=${followed.deadLettered.size} seconds=${seconds.toFixed(1)} rate=${Math.round(published.accepted.length / seconds)}`,
  );
  return followed.missing.length > 0 || published.accepted.length === 0 ? 1 : 0;
}

/** An order without an id gets one of its content and its place in the file, so that a second run changes nothing. */
function withId(order: OrderRequest, line: number): OrderRequest {
  return { ...order, orderId: order.orderId ?? uuidOfName(JSON.stringify(['demo', line, order])) };
}

type Published = { accepted: string[]; refused: Map<string, number> };
type BatchAnswer = {
  results: { status: number; orderId?: string; problem?: Pick<Problem, 'title' | 'detail' | 'errors'> }[];
};

/** Publishes in batches. What was answered with 429 or 503, or not at all, is sent again: its orderId makes that safe. */
async function publishAll(
  producerUrl: string,
  orders: OrderRequest[],
  onProgress: (done: number) => void,
): Promise<Published> {
  const published: Published = { accepted: [], refused: new Map() };
  const batches = inBatches(orders);
  let done = 0;
  const worker = async () => {
    for (let batch = batches.shift(); batch; batch = batches.shift()) {
      const startedAt = performance.now();
      for (let attempt = 1; batch.length > 0; attempt++) {
        const results = await postBatch(producerUrl, batch);
        const again: OrderRequest[] = [];
        for (const [index, { status, orderId, problem }] of results.entries()) {
          if (status === 202 && orderId) published.accepted.push(orderId);
          else if (
            attempt < PUBLISH_ATTEMPTS &&
            performance.now() - startedAt < PATIENCE_MS &&
            (status === 429 || status === 503)
          )
            again.push(batch[index] as OrderRequest);
          else {
            const fields = problem?.errors?.map(({ pointer, detail }) => `${pointer} ${detail}`).join(', ');
            const reason = [problem?.title ?? 'no answer', problem?.detail, fields]
              .filter(Boolean)
              .join(': ')
              .slice(0, MAX_REASON);
            published.refused.set(reason, (published.refused.get(reason) ?? 0) + 1);
          }
        }
        done += batch.length - again.length;
        batch = again;
        onProgress(done);
        if (batch.length > 0 && attempt === 1)
          console.error(`the producer did not take ${batch.length} orders, or not yet: trying again`);
        if (batch.length > 0) await sleep(1_000);
      }
    }
  };
  await Promise.all(Array.from({ length: BATCHES_AT_ONCE }, worker));
  return published;
}

/** In their order, each small enough in number and size. */
function inBatches(orders: readonly OrderRequest[]): OrderRequest[][] {
  const batches: OrderRequest[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const order of orders) {
    const size = Buffer.byteLength(JSON.stringify(order));
    if (bytes + size > BATCH_BYTES || batches.at(-1)?.length === BATCH_ORDERS) {
      batches.push([]);
      bytes = 0;
    }
    batches.at(-1)?.push(order);
    bytes += size;
  }
  return batches;
}

async function postBatch(producerUrl: string, orders: OrderRequest[]): Promise<BatchAnswer['results']> {
  const all = (status: number, title: string) => orders.map(() => ({ status, problem: { title } }));
  try {
    const response = await fetch(`${producerUrl}/orders/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...apiKeyHeader() },
      body: JSON.stringify({ orders }),
      signal: AbortSignal.timeout(POST_TIMEOUT_MS),
    });
    if (response.status === 207) return ((await response.json()) as BatchAnswer).results;
    const { title, detail } = (await response.json()) as { title: string; detail?: string };
    return all(response.status, detail ?? title);
  } catch {
    return all(503, 'the producer did not answer');
  }
}
