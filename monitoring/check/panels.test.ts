import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { SendMessageCommand } from '@aws-sdk/client-sqs';
import { findQueueUrl } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sqsClient } from '../../test/support/backends.ts';
import { eventually } from '../../test/support/eventually.ts';
import { type Pair, post, startPair } from '../../test/support/pair.ts';
import { PLATFORM_METRICS } from '../metrics-page.ts';
import { DASHBOARDS } from '../panels.ts';
import { prometheusConfig } from '../prometheus.ts';
import { RECORDING_RULES } from '../rules.ts';
import { ask, type MonitoringServer, startPrometheus } from './servers.ts';
import { findTool, ROOT } from './tools.ts';

const prometheus = findTool('prometheus');

/** Cannot be had without the engine behind it. */
const ONLY_WITH: Readonly<Record<string, string>> = {
  'Connections to the database': 'PostgreSQL: the embedded store has no pool',
};

describe.skipIf(!prometheus.program)(`panels on a real Prometheus (${prometheus.reason})`, () => {
  let pair: Pair;
  let platform: Server;
  let prometheusServer: MonitoringServer;
  let traffic: NodeJS.Timeout;

  beforeAll(async () => {
    pair = await startPair({ QUEUE_SAMPLE_SECONDS: '1' });
    platform = createServer((_request, response) => response.end(platformSeries()));
    await new Promise<void>((resolve) => platform.listen(0, '127.0.0.1', resolve));
    const address = (of: string) => new URL(of).host;
    const config = prometheusConfig({
      targets: [
        { address: address(pair.producerUrl), service: 'order-producer' },
        { address: address(pair.consumerUrl), service: 'order-consumer' },
        { address: `127.0.0.1:${(platform.address() as AddressInfo).port}`, service: 'platform' },
      ],
      rules: path.join(ROOT, 'monitoring/prometheus/rules.yml'),
      alertmanager: '127.0.0.1:1',
      scrapeInterval: '1s',
      evaluationInterval: '1s',
    });
    prometheusServer = await startPrometheus(config);
    const client = sqsClient({ AWS_ENDPOINT_URL: pair.endpoint });
    const queueUrl = await findQueueUrl(client, 'order-queue');
    // Something of everything: an order, one that is refused, one that is rejected.
    traffic = setInterval(() => {
      void post(`${pair.producerUrl}/orders`, anOrderRequest()).catch(() => {});
      void post(`${pair.producerUrl}/orders`, { nonsense: true }).catch(() => {});
      void client
        .send(new SendMessageCommand({ QueueUrl: queueUrl, MessageBody: 'no order' }))
        .catch(() => {});
    }, 300);
  });
  afterAll(async () => {
    clearInterval(traffic);
    await prometheusServer?.[Symbol.asyncDispose]();
    platform?.close();
    await pair?.[Symbol.asyncDispose]();
  });

  const queries = DASHBOARDS.flatMap(({ title: dashboard, rows }) =>
    rows
      .flatMap(({ panels }) => panels)
      .flatMap(({ title, queries }) =>
        queries.map(({ expr, legend }) => ({ dashboard, title, legend, expr })),
      ),
  );

  it.each(queries.filter(({ title }) => !(title in ONLY_WITH)))(
    '$dashboard: $title, $legend',
    async ({ expr }) => {
      const query = expr.replaceAll('$namespace', '.*').replaceAll('$__rate_interval', '1m');
      await eventually(async () => expect(await ask(prometheusServer.url, query)).not.toEqual([]), 60_000);
    },
  );

  it.each(Object.entries(ONLY_WITH))(
    '%s, which needs %s, is a query that Prometheus understands',
    async (title) => {
      for (const { expr } of queries.filter((query) => query.title === title))
        expect(await ask(prometheusServer.url, expr.replaceAll('$namespace', '.*'))).toEqual([]);
    },
  );

  // Ratios over a day need no day: Prometheus takes what it has.
  it.each(RECORDING_RULES)('recorded: $record', { timeout: 150_000 }, async ({ record }) => {
    await eventually(async () => expect(await ask(prometheusServer.url, record)).not.toEqual([]), 120_000);
  });
});

/** What cAdvisor and kube-state-metrics would export in a cluster, in their form. */
function platformSeries(): string {
  const labels =
    'namespace="dev",pod="order-producer-1",container="order-producer",deployment="order-producer"';
  return Object.keys(PLATFORM_METRICS)
    .map((name) => `${name}{${labels}} 1\n`)
    .join('');
}
