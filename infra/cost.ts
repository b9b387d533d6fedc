import { measured, measuredCapacity } from '../bench/measured.ts';
import { ENVIRONMENTS, type Environment, type EnvironmentName } from './environments.ts';
import { PRICED_REGION, PRICES, PRICES_READ_ON, type Price } from './prices.ts';

export const HOURS_PER_MONTH = 730;
const SECONDS_PER_MONTH = HOURS_PER_MONTH * 3_600;

/** What the stacks make that has a price of its own. infra/test/cost.test.ts counts it in the templates. */
export type Counts = {
  endpoints: number;
  keys: number;
  secrets: number;
  /** Metrics of all alarms: one computed from three counts as three. */
  alarmMetrics: number;
  compositeAlarms: number;
  dashboards: number;
  nodeDiskGib: number;
};
const SHARED: Omit<Counts, 'keys'> = {
  endpoints: 11,
  secrets: 4,
  alarmMetrics: 36,
  compositeAlarms: 11,
  dashboards: 1,
  nodeDiskGib: 50,
};
export const COUNTS: Readonly<Record<EnvironmentName, Counts>> = {
  staging: { ...SHARED, keys: 5 },
  production: { ...SHARED, keys: 7 },
};

export type CostLine = {
  what: string;
  /** Of the price's unit: an hour, a month, a gigabyte. */
  quantity: number;
  price: Price;
  dollars: number;
};

const line = (what: string, quantity: number, price: Price): CostLine => ({
  what,
  quantity,
  price,
  dollars: quantity * price.dollars,
});
export const total = (lines: readonly CostLine[]): number =>
  lines.reduce((sum, { dollars }) => sum + dollars, 0);

/**
 * The price of an instance type, of EC2 or (`db.…`) of RDS.
 * @throws {Error} infra/prices.ts does not have it
 */
function instancePrice(type: string): Price {
  const price = (PRICES as Readonly<Record<string, Price>>)[type];
  if (!price) throw new Error(`infra/prices.ts has no price of ${type}`);
  return price;
}

/** A month without an order, with `nodes` nodes. */
export function monthlyLines(
  name: EnvironmentName,
  nodes = ENVIRONMENTS[name].kubernetes.minNodes,
): CostLine[] {
  const { kubernetes, database, zones } = ENVIRONMENTS[name];
  const counts = COUNTS[name];
  const copies = database.multiAz ? 2 : 1;
  const inZones = database.multiAz ? 'two zones' : 'one zone';
  const hours = (number: number) => number * HOURS_PER_MONTH;
  return [
    line('EKS cluster', hours(1), PRICES.eksCluster),
    line(`${nodes} nodes, ${kubernetes.nodeType}`, hours(nodes), instancePrice(kubernetes.nodeType)),
    line('their disks', nodes * counts.nodeDiskGib, PRICES.disk),
    line(
      `PostgreSQL, ${database.instanceType}, ${inZones}`,
      hours(copies),
      instancePrice(`db.${database.instanceType}`),
    ),
    line(`its storage, ${inZones}`, copies * database.storageGib, PRICES.databaseStorage),
    line(
      `${counts.endpoints} endpoints in ${zones.length} zones`,
      hours(counts.endpoints * zones.length),
      PRICES.endpoint,
    ),
    line('load balancer', hours(1), PRICES.loadBalancer),
    line('KMS keys', counts.keys, PRICES.key),
    line('secrets', counts.secrets, PRICES.secret),
    line('metrics of alarms', counts.alarmMetrics, PRICES.alarmMetric),
    line('composite alarms', counts.compositeAlarms, PRICES.compositeAlarm),
    line('dashboard', counts.dashboards, PRICES.dashboard),
  ];
}

/** `single`: one order per request. `packed`: `PUBLISH_PACKING=on` and full batches of POST /orders/batch. */
export type Sending = 'single' | 'packed';

/** Requests to SQS per order, of both services, as measured. */
export function sqsRequestsPerOrder(sending: Sending): { producer: number; consumer: number } {
  if (sending === 'packed')
    return {
      producer: measured('publish', 'Publish packed', 'order-producer, packed', 'billedPer1000') / 1_000,
      consumer:
        measured(
          'consume',
          'Consume packed, 100 orders a message',
          'order-consumer, packed',
          'billedPer1000',
        ) / 1_000,
    };
  const { producer, consumer } = measuredCapacity().report;
  return {
    producer: producer.sqsRequestsPer1000 / 1_000,
    consumer: consumer.sqsRequestsPer1000 / 1_000,
  };
}

/** A line of the acceptance journal, as the producer writes it: docs/adr/0010-acceptance-journal.md */
const JOURNAL_BYTES = 230;
/** Estimated, not measured: an order of 500 bytes with envelope and headers, on one way. */
const WIRE_BYTES = 1_500;
/** Estimated, not measured: a stored order with its part of the indexes. */
const ROW_BYTES = 1_000;
const MILLION = 1e6;
const GIGABYTE = 1e9;

/** A million orders, kept for a month in the store, and in the logs as long as the environment says. */
export function linesPerMillionOrders(environment: Environment, sending: Sending): CostLine[] {
  const { producer, consumer } = sqsRequestsPerOrder(sending);
  const requests = (producer + consumer) * MILLION;
  const journal = (JOURNAL_BYTES * MILLION) / GIGABYTE;
  const wire = (WIRE_BYTES * MILLION) / GIGABYTE;
  const copies = environment.database.multiAz ? 2 : 1;
  return [
    line('SQS', requests / MILLION, PRICES.sqsRequests),
    ...(environment.audit.sqsCalls
      ? [line('CloudTrail: each call of SQS', requests / 100_000, PRICES.dataEvents)]
      : []),
    line('acceptance journal, written', journal, PRICES.logs),
    line(
      `the same, kept for ${environment.applicationLogDays} days`,
      (journal * environment.applicationLogDays) / 30,
      PRICES.logStorage,
    ),
    line('load balancer, its units', wire, PRICES.loadBalancerUnits),
    line('endpoint of SQS, in and out', 2 * wire, PRICES.endpointData),
    line('stored orders, for each month', (copies * ROW_BYTES * MILLION) / GIGABYTE, PRICES.databaseStorage),
  ];
}

/** What a rate of orders that never pauses costs in a month, the environment itself included. */
export function monthlyDollars(
  name: EnvironmentName,
  ordersPerSecond: number,
  sending: Sending,
  nodes?: number,
): number {
  const millions = (ordersPerSecond * SECONDS_PER_MONTH) / MILLION;
  return (
    total(monthlyLines(name, nodes)) + millions * total(linesPerMillionOrders(ENVIRONMENTS[name], sending))
  );
}

const NAMES = Object.keys(ENVIRONMENTS) as EnvironmentName[];
const CHECKS: Readonly<Record<Price['check'], string>> = {
  aws: "AWS's page",
  quoted: "quoted from AWS's price list",
  derived: 'computed',
  elsewhere: '**not verified**: price of us-east-1',
};

const money = (dollars: number) =>
  dollars.toLocaleString('en-US', {
    maximumFractionDigits: dollars >= 100 ? 0 : dollars >= 0.1 ? 2 : 3,
  });
const row = (...cells: (string | number)[]) => `| ${cells.join(' | ')} |`;

/** One column per environment, and the sum. All have lines for the same things, or none of it. */
function table(columns: Readonly<Record<string, readonly CostLine[]>>): string {
  const whats = new Set(Object.values(columns).flatMap((lines) => lines.map(({ what }) => what)));
  const cell = (lines: readonly CostLine[], what: string) => {
    const found = lines.find((each) => each.what === what);
    return found ? money(found.dollars) : '';
  };
  return [
    row('US$', ...Object.keys(columns)),
    row('---', ...Object.keys(columns).map(() => '---:')),
    ...[...whats].map((what) => row(what, ...Object.values(columns).map((lines) => cell(lines, what)))),
    row('**total**', ...Object.values(columns).map((lines) => `**${money(total(lines))}**`)),
  ].join('\n');
}

/** docs/cost.md */
export function costPage(): string {
  const rates = [10, 100, 1_000];
  const audited = sqsRequestsPerOrder('single');
  const events = (rate: number, { producer, consumer }: typeof audited) =>
    ((producer + consumer) * rate * SECONDS_PER_MONTH * PRICES.dataEvents.dollars) / 100_000;
  return `# Cost

Generated by \`npm run docs\` from [environments.ts](../infra/environments.ts), [prices.ts](../infra/prices.ts) and the
benchmarks; \`npm run check\` fails if this page is outdated. \`npm run capacity\` computes it for a rate of orders
([capacity](capacity.md)).

US dollars, ${PRICED_REGION}, on demand, without tax, free tier and discounts. A month has ${HOURS_PER_MONTH} hours.

## A month without orders

With the smallest number of nodes.

${NAMES.map((name) => `### ${name}\n\n${table({ 'per month': monthlyLines(name) })}`).join('\n\n')}

The most nodes that each may have: ${NAMES.map(
    (name) =>
      `${name} ${ENVIRONMENTS[name].kubernetes.maxNodes}, then ${money(total(monthlyLines(name, ENVIRONMENTS[name].kubernetes.maxNodes)))} US$ a month`,
  ).join('; ')}.

## A million orders

Orders of 500 bytes. *Single*: one order per request. *Packed*: \`PUBLISH_PACKING=on\` and batches of 500, 100 orders per
message. Requests to SQS are those measured ([performance](performance.md)): ${round(1_000 * (audited.producer + audited.consumer))} per 1,000 single orders,
${round(1_000 * (sqsRequestsPerOrder('packed').producer + sqsRequestsPerOrder('packed').consumer))} packed. Bytes on the wire and of a stored row are estimates.

${NAMES.map(
  (name) =>
    `### ${name}, per million\n\n${table({
      single: linesPerMillionOrders(ENVIRONMENTS[name], 'single'),
      packed: linesPerMillionOrders(ENVIRONMENTS[name], 'packed'),
    })}`,
).join('\n\n')}

## A month with orders

At a rate that never pauses, with the smallest number of nodes.

${[
  row('orders/s', ...NAMES.flatMap((name) => [`${name}, single`, `${name}, packed`])),
  row('---:', ...NAMES.flatMap(() => ['---:', '---:'])),
  ...rates.map((rate) =>
    row(
      rate.toLocaleString('en-US'),
      ...NAMES.flatMap((name) => [
        money(monthlyDollars(name, rate, 'single')),
        money(monthlyDollars(name, rate, 'packed')),
      ]),
    ),
  ),
].join('\n')}

## CloudTrail: each call of SQS

\`audit.sqsCalls\` in [environments.ts](../infra/environments.ts) is the switch. At 1,000 orders/s it costs ${money(events(1_000, audited))} US$ a month,
packed ${money(events(1_000, sqsRequestsPerOrder('packed')))}. An idle poller calls three times a minute, which is ${money((3 * 60 * HOURS_PER_MONTH * PRICES.dataEvents.dollars) / 100_000)} US$ a month.

## Not counted

- Metrics of Container Insights, flow logs, logs of the control plane and other log lines, and what the agent adds to each
  line: they depend on the traffic. After a week, see the bill, usage types \`MetricMonitorUsage\` and \`DataProcessing-Bytes\`.
- Records of CloudTrail in S3, images in ECR, backups beyond the size of the database.
- Data between zones, 0.01 US$ per GB on each side.
- Requests to KMS: SQS uses a data key again for as long as \`KmsDataKeyReusePeriodSeconds\` says.
- Calls of Secrets Manager, messages of SNS, and functions: cents.

## Prices

Read on ${PRICES_READ_ON}. *Quoted*: not read in AWS's list itself, but in a public table that names it. Prices that are **not
verified** for the region are those of us-east-1. Before you rely on a figure, look at the source.

${[
  row('what', 'US$', 'per', 'read where', 'source'),
  row('---', '---:', '---', '---', '---'),
  ...Object.values(PRICES).map(({ what, dollars, per, check, source }: Price) =>
    row(what, dollars, per, CHECKS[check], sourceLink(source)),
  ),
].join('\n')}
`;
}

const round = (number: number) => Number(number.toPrecision(3));
const sourceLink = (source: string) =>
  `[${/aws\/(\w+)\/current/.exec(source)?.[1] ?? new URL(source).pathname}](${source})`;
