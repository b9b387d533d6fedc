import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import { followOrders } from '../dev/order-follower.ts';
import { PipelineSupervisor } from '../dev/pipeline.ts';
import { createProgress } from '../dev/progress.ts';
import {
  defineCommand,
  flag,
  httpUrl,
  runCommand,
  UsageError,
  type ValuesOf,
  wholeNumber,
} from '../scripts/command.ts';
import { openKubectlProxy } from '../scripts/kubectl-proxy.ts';
import { createTool } from '../scripts/sqs-tool.ts';
import { type CapacityReport, keepCapacity } from './capacity.ts';
import { type LoadResult, postOrders } from './load.ts';
import { writeReport } from './report.ts';
import { growth, readAll, type ServiceFigures, watchPeakMemory } from './service-metrics.ts';

export const command = defineCommand({
  name: 'scripts/performance-test.sh',
  summary:
    "Posts orders over many connections and waits until every accepted one is stored. Starts the emulator and both services, uses running ones (--target), or measures a deployment (--namespace). For a deployment, look-ups and the metrics of all pods go through the API server, and dead letters are read from the environment's own queue.",
  positionals: {},
  options: {
    messages: { takes: 'N', description: 'number of orders', schema: wholeNumber(1).default(10_000) },
    concurrent: { takes: 'N', description: 'number of connections', schema: wholeNumber(1).default(50) },
    target: {
      takes: 'URL',
      description: 'the order-producer to measure, or its load balancer',
      schema: httpUrl.optional(),
    },
    consumer: {
      takes: 'URL',
      description: 'the order-consumer that belongs to --target; http://localhost:8081 by default',
      schema: httpUrl.optional(),
    },
    namespace: {
      takes: 'dev|staging',
      description: "measures the deployment in this namespace of kubectl's current cluster; needs --target",
      // Orders that are nobody's have no place in production.
      schema: z.enum(['dev', 'staging']).optional(),
    },
    json: flag('prints the report as JSON'),
    report: flag('writes the figures to docs/performance.md'),
  },
  changes: 'with --target, the orders stay in the store of that environment; --report writes to docs.',
  needs:
    'with --target, AWS_ENDPOINT_URL if that is an emulator; with --namespace, kubectl, and the variables and rights of scripts/dlq.sh peek.',
  exitStatuses: {
    0: 'within all limits',
    1: 'below 1,000 orders per second, above a mean of 100 ms or 512 MB, or something was lost or stored twice',
    130: 'interrupted, and cleaned up',
  },
});

/** What is promised: at least so many orders a second, answers within so long on average, and so much memory a service. */
const LIMITS = { ordersPerSecond: 1_000, meanMs: 100, megabytes: 512 };
const PATIENCE_MS = 60_000;

type Target = {
  producerUrl: string;
  consumerUrl: string;
  deadLetterQueue: DeadLetterQueue;
  /** Where the figures of each service are read, by the name of what answers; of the URLs above by default. */
  instances?: () => Promise<[producer: Instances, consumer: Instances]>;
};
type Instances = ReadonlyMap<string, string>;

if (import.meta.main) await runCommand(command, main);

async function main(options: ValuesOf<typeof command>): Promise<number> {
  const { namespace, target: producerUrl, consumer } = options;
  if (namespace && !producerUrl) throw new UsageError('--namespace needs the --target that is measured');
  if (consumer && (namespace || !producerUrl)) throw new UsageError('--consumer goes with --target alone');
  if (namespace && options.report)
    throw new UsageError('--report is for a pod of each service on this machine');
  if (namespace && producerUrl) {
    await using proxy = await openKubectlProxy(namespace);
    return await measure(
      {
        producerUrl,
        consumerUrl: proxy.service('order-consumer'),
        deadLetterQueue: await openDeadLetterQueue(namespace),
        instances: () => Promise.all([proxy.metrics('order-producer'), proxy.metrics('order-consumer')]),
      },
      options,
    );
  }
  if (producerUrl) {
    const deadLetterQueue = await openDeadLetterQueue('dev');
    const consumerUrl = consumer ?? 'http://localhost:8081';
    return measure({ producerUrl, consumerUrl, deadLetterQueue }, options);
  }
  // Made by the pipeline, so that there is nothing to leave behind before a signal is listened for.
  const dataDir = path.join(tmpdir(), `performance-test-${randomUUID()}`);
  const pipeline = new PipelineSupervisor({ dataDir, ports: 'free', quiet: true });
  // What is measured is for nobody else: it need not end in good order.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, async () => {
      await pipeline.kill();
      rmSync(dataDir, { recursive: true, force: true });
      process.exit(130);
    });
  try {
    await pipeline.start();
    const { emulator, producer, consumer: consumerUrl } = pipeline.urls;
    const deadLetterQueue = await openDeadLetterQueue('dev', emulator);
    return await measure({ producerUrl: producer, consumerUrl, deadLetterQueue }, options);
  } finally {
    await pipeline.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** @param endpoint of a pair of our own, whatever the environment says of others */
async function openDeadLetterQueue(
  environment: 'dev' | 'staging',
  endpoint?: string,
): Promise<DeadLetterQueue> {
  const own = endpoint === undefined ? {} : { AWS_ENDPOINT_URL: endpoint, AWS_ENDPOINT_URL_SQS: '' };
  const { client, config } = createTool(environment, { ...process.env, ...own });
  return new DeadLetterQueue(client, await resolveQueues(client, config, { createMissing: false }));
}

async function measure(target: Target, options: ValuesOf<typeof command>): Promise<number> {
  const instances =
    target.instances ??
    (async () => [new Map([['', target.producerUrl]]), new Map([['', target.consumerUrl]])] as const);
  const started = await instances();
  const before = await Promise.all(started.map(readAll));
  let load: LoadResult | undefined;
  let followed: Awaited<ReturnType<typeof followOrders>> | undefined;
  const urls = started.flatMap((service) => [...service.values()]);
  const peaks = await watchPeakMemory(urls, async () => {
    const posting = createProgress('accepted', options.messages);
    load = await postOrders({
      messages: options.messages,
      concurrent: options.concurrent,
      producerUrl: target.producerUrl,
      onProgress: posting.update,
    });
    posting.stop();
    const storing = createProgress('stored  ', load.accepted.length);
    const ids = load.accepted.map(({ orderId }) => orderId);
    followed = await followOrders(ids, { ...target, patienceMs: PATIENCE_MS, onProgress: storing.update });
    storing.stop();
  });
  // With those that an autoscaler has added meanwhile.
  const after = await Promise.all((await instances()).map(readAll));
  if (!load || !followed) throw new Error('nothing was measured');
  const { startedAt, accepted, latenciesMs, refusals } = load;
  const { stored, deadLettered, missing } = followed;

  const lastStoredAt = [...stored.values()].reduce((last, at) => Math.max(last, at.getTime()), startedAt + 1);
  const seconds = (lastStoredAt - startedAt) / 1_000;
  const toStoredMs = accepted.flatMap(({ orderId, acceptedAt }) => {
    const at = stored.get(orderId);
    return at ? [Math.max(0, at.getTime() - acceptedAt)] : [];
  });
  const delta = (pick: (figures: ServiceFigures) => number, index: 0 | 1) =>
    growth(before[index], after[index], pick);
  const service = (index: 0 | 1) => ({
    peakMegabytes: Math.round(
      Math.max(0, ...[...started[index].values()].map((url) => peaks.get(url) ?? 0)) / 1e6,
    ),
    cpuSeconds: round(delta(({ cpuSeconds }) => cpuSeconds, index)),
    sqsRequestsPer1000: Math.round(
      (delta(({ sqsRequests }) => sqsRequests, index) / Math.max(1, stored.size)) * 1_000,
    ),
  });
  const report = {
    messages: options.messages,
    concurrent: options.concurrent,
    accepted: accepted.length,
    refused: Object.fromEntries(refusals),
    stored: stored.size,
    deadLettered: deadLettered.size,
    lost: missing.length,
    duplicated: delta(({ ordersStored }) => ordersStored, 1) - stored.size,
    seconds: round(seconds),
    ordersPerSecond: Math.round(stored.size / seconds),
    responseMs: summary(latenciesMs),
    acceptedToStoredMs: summary(toStoredMs),
    producer: service(0),
    consumer: service(1),
  };
  const failures = judge(report);
  if (options.json) console.log(JSON.stringify({ ...report, failures }));
  else print(report, failures);
  if (options.report) {
    keepCapacity(report);
    writeReport();
  }
  return failures.length > 0 ? 1 : 0;
}

type Summary = { mean: number; p50: number; p95: number; p99: number };
type Report = CapacityReport & {
  accepted: number;
  refused: Record<string, number>;
  deadLettered: number;
  lost: number;
  duplicated: number;
  responseMs: Summary;
  acceptedToStoredMs: Summary;
};

function judge(report: Report): string[] {
  const peak = Math.max(report.producer.peakMegabytes, report.consumer.peakMegabytes);
  const failed = (holds: boolean, text: string) => (holds ? [] : [text]);
  return [
    ...failed(
      report.ordersPerSecond >= LIMITS.ordersPerSecond,
      `${report.ordersPerSecond} orders/s are below ${LIMITS.ordersPerSecond}`,
    ),
    ...failed(
      report.responseMs.mean <= LIMITS.meanMs,
      `mean answer of ${report.responseMs.mean} ms is above ${LIMITS.meanMs}`,
    ),
    ...failed(peak <= LIMITS.megabytes, `${peak} MB are above ${LIMITS.megabytes}`),
    ...failed(
      report.accepted === report.messages,
      `${report.messages - report.accepted} orders were not accepted`,
    ),
    ...failed(report.lost === 0, `${report.lost} accepted orders are neither stored nor dead-lettered`),
    ...failed(report.deadLettered === 0, `${report.deadLettered} good orders are in the dead-letter queue`),
    ...failed(report.duplicated === 0, `${report.duplicated} orders were stored more than once`),
  ];
}

function print(report: Report, failures: string[]): void {
  const times = ({ mean, p50, p95, p99 }: Summary) => `mean ${mean} ms, p50 ${p50}, p95 ${p95}, p99 ${p99}`;
  const service = ({ peakMegabytes, cpuSeconds, sqsRequestsPer1000 }: Report['producer']) =>
    `${peakMegabytes} MB at most, ${cpuSeconds} s CPU, ${sqsRequestsPer1000} SQS requests per 1,000 orders`;
  console.log(
    `orders              ${report.accepted} accepted of ${report.messages}, ${report.stored} stored in ${report.seconds} s`,
  );
  console.log(
    `rate                ${report.ordersPerSecond} orders/s, from the first request to the last commit`,
  );
  console.log(`HTTP answer         ${times(report.responseMs)}`);
  console.log(`accepted to stored  ${times(report.acceptedToStoredMs)}`);
  console.log(`order-producer      ${service(report.producer)}`);
  console.log(`order-consumer      ${service(report.consumer)}`);
  console.log(`lost ${report.lost}, duplicated ${report.duplicated}, dead-lettered ${report.deadLettered}`);
  for (const failure of failures) console.log(`FAILED ${failure}`);
  if (failures.length === 0) console.log('PASSED');
}

function summary(values: number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const quantile = (share: number) =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
  const mean = round(sorted.reduce((sum, value) => sum + value, 0) / Math.max(1, sorted.length));
  return { mean, p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
