import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { measured, measuredCapacity } from '../../bench/measured.ts';
import { aQuarterOf } from '../../scripts/deploy/consumer-gradual.ts';

/** The formulas of k8s/README.md, over the benchmarks as they were run last: what is written must not drift from them. */
/** Of a figure that is quoted: it is rounded. */
const ROUNDING = 0.01;
/** Of a setting, which is chosen from a figure: benchmarks vary. */
const TOLERANCE = 0.25;
const KEDA_SECONDS = 7;
const ORDERS_A_MESSAGE = 100;
const MEBIBYTE = 2 ** 20;

const README = 'k8s/README.md';
const ADR = 'docs/adr/0012-kubernetes-secrets-and-replicas.md';
const HPA = 'k8s/components/hpa/horizontal-pod-autoscaler.yaml';
const KEDA = 'k8s/components/keda/scaled-object.yaml';
const CONSUMER_ENV = 'k8s/base/consumer/order-consumer.env';
const deploymentOf = (service: string) => `k8s/base/${service}/deployment.yaml`;

/** A comment or paragraph of several lines is one. */
const text = (file: string) => readFileSync(file, 'utf8').replaceAll(/\n *(# )?(?=\S)/g, ' ');
const yaml = (file: string) => parse(readFileSync(file, 'utf8'));

const capacity = measuredCapacity().report;

const [utilization] = yaml(HPA).spec.metrics.map(
  (metric: { containerResource: { target: { averageUtilization: number } } }) =>
    metric.containerResource.target.averageUtilization / 100,
);
const resourcesOf = (service: string): { requests: Record<string, string>; limits: Record<string, string> } =>
  yaml(deploymentOf(service)).spec.template.spec.containers[0].resources;
const cores = Number.parseInt(resourcesOf('producer').requests['cpu'] ?? '', 10) / 1_000;
const ordersAPod = (cpuSecondsAnOrder: number) => (cores * utilization) / cpuSecondsAnOrder;

const ONE_POLLER = ['consume', 'Consume, one poller, 15 ms away', 'order-consumer'] as const;
const STORED = ['store', 'Consume into the embedded store', 'order-consumer'] as const;
const PUBLISH_PACKED = ['publish', 'Publish packed', 'order-producer, packed'] as const;
const CONSUME_PACKED = ['consume', 'Consume packed, 100 orders a message', 'order-consumer, packed'] as const;
const usual = (service: 'producer' | 'consumer') =>
  measured('memory', `Memory of order-${service} under load`, 'all that saves memory', 'peakMegabytes');

const figures = {
  hpa: ordersAPod(capacity.producer.cpuSeconds / capacity.stored),
  hpaPacked: ordersAPod(measured(...PUBLISH_PACKED, 'cpuPer10000') / 10_000),
  onePoller: measured(...ONE_POLLER, 'perSecond'),
  onePollerCores: (measured(...ONE_POLLER, 'perSecond') * measured(...ONE_POLLER, 'cpuPer10000')) / 10_000,
  queueLength: measured(...ONE_POLLER, 'perSecond') * KEDA_SECONDS,
  stored: measured(...STORED, 'perSecond'),
  queueLengthPacked: (measured(...STORED, 'perSecond') / ORDERS_A_MESSAGE) * KEDA_SECONDS,
  producer: usual('producer'),
  consumer: usual('consumer'),
  producerCapacity: capacity.producer.peakMegabytes,
  consumerCapacity: capacity.consumer.peakMegabytes,
  producerPacked: measured(...PUBLISH_PACKED, 'peakMegabytes'),
  consumerPacked: measured(...CONSUME_PACKED, 'peakMegabytes'),
  consumePacked: measured(...CONSUME_PACKED, 'perSecond'),
};

/** Where a figure is written. */
const WRITTEN: [file: string, where: RegExp, figure: keyof typeof figures][] = [
  [HPA, /capacity test \(docs\/performance\.md\) ([\d,]+) orders\/s/, 'hpa'],
  [README, /= ([\d,]+); ten pods/, 'hpa'],
  [ADR, /([\d,]+) orders\/s per pod/, 'hpa'],
  [README, /([\d,]+) orders\/s per pod \|/, 'hpaPacked'],
  [KEDA, /at the ([\d,]+) a second that one poller/, 'onePoller'],
  [README, /([\d,]+) \(\*one poller, 15 ms away\*\)/, 'onePoller'],
  [ADR, /at the ([\d,]+) orders\/s of one poller/, 'onePoller'],
  [README, /= ([\d.]+) core/, 'onePollerCores'],
  [README, /([\d,]+) orders\/s \(\*consume into the embedded store\*\)/, 'stored'],
  [README, /producer (\d+) \(\*memory\*\)/, 'producer'],
  [README, /\*memory\*\) and (\d+) MB \(capacity\)/, 'producerCapacity'],
  [README, /consumer (\d+) and \d+ MB/, 'consumer'],
  [README, /consumer \d+ and (\d+) MB/, 'consumerCapacity'],
  [README, /(\d+) MB \(producer\)/, 'producerPacked'],
  [README, /(\d+) MB \(consumer\)/, 'consumerPacked'],
  [README, /\*Consume packed\*, ([\d,]+) orders\/s/, 'consumePacked'],
  [deploymentOf('producer'), /(\d+) MB resident in the capacity test/, 'producerCapacity'],
  [deploymentOf('producer'), /capacity test, (\d+) MB/, 'producer'],
  [deploymentOf('producer'), /With PUBLISH_PACKING (\d+) MB/, 'producerPacked'],
  [deploymentOf('consumer'), /(\d+) MB resident in the capacity test/, 'consumerCapacity'],
  [deploymentOf('consumer'), /capacity test, (\d+) MB/, 'consumer'],
  [deploymentOf('consumer'), /packed messages of 100 orders (\d+) MB/, 'consumerPacked'],
];

/** Where a setting is written that is chosen from a figure. */
const SETTINGS: typeof WRITTEN = [
  [KEDA, /queueLength: "(\d+)"/, 'queueLength'],
  [README, /`queueLength: (\d+)`/, 'queueLength'],
  [ADR, /`queueLength` \| (\d+) /, 'queueLength'],
  [KEDA, /then "(\d+)"/, 'queueLengthPacked'],
  [README, /set (\d+) with `PUBLISH_PACKING=on`/, 'queueLengthPacked'],
  [ADR, /(\d+) with packed messages/, 'queueLengthPacked'],
];

const expectNear = ([file, where, figure]: (typeof WRITTEN)[number], tolerance: number) => {
  const [, written = ''] = where.exec(text(file)) ?? [];
  const ratio = Number(written.replaceAll(',', '')) / figures[figure];
  expect(Math.abs(ratio - 1), `${written} is written, ${figures[figure]} measured`).toBeLessThan(tolerance);
};
it.each(WRITTEN)('%s, %s quotes the figure %s', (...quote) => expectNear(quote, ROUNDING));
it.each(SETTINGS)('%s, %s fits the figure %s', (...setting) => expectNear(setting, TOLERANCE));

describe.each(['producer', 'consumer'] as const)('memory of order-%s', (service) => {
  const { requests, limits } = resourcesOf(service);
  const megabytes = (quantity = '') => {
    expect(quantity).toMatch(/^\d+Mi$/);
    return (Number.parseInt(quantity, 10) * MEBIBYTE) / 1e6;
  };
  const peak = Math.max(figures[service], figures[`${service}Capacity`]);

  it('request holds the peak of a usual load, and not much more', () => {
    expect(megabytes(requests['memory'])).toBeGreaterThan(peak);
    expect(megabytes(requests['memory'])).toBeLessThan(peak * (1 + TOLERANCE));
  });

  it('limit holds the peak, packed or not', () => {
    expect(peak).toBeLessThan(0.7 * megabytes(limits['memory']));
    expect(figures[`${service}Packed`]).toBeLessThan(megabytes(limits['memory']));
  });
});

it('connections of a rollback, in which all pods exist twice, fit into the 97 that PostgreSQL has', () => {
  const [, poolSize] = /^DATABASE_POOL_SIZE=(\d+)$/m.exec(readFileSync(CONSUMER_ENV, 'utf8')) ?? [];
  const pods = yaml(KEDA).spec.maxReplicaCount;
  expect(Number(poolSize) * (2 * pods + aQuarterOf(pods))).toBeLessThanOrEqual(97);
});

it('a pod of the producer stays under half of the core that an event loop can use', () => {
  expect(cores * utilization).toBeLessThanOrEqual(0.5);
});
