import { readFileSync } from 'node:fs';
import path from 'node:path';
import { consumerConfigSchema } from '@orders/consumer/config.ts';
import { parse } from 'yaml';
import { measured, measuredCapacity } from '../../bench/measured.ts';
import { monthlyDollars, type Sending, sqsRequestsPerOrder } from '../../infra/cost.ts';
import { ENVIRONMENTS, type EnvironmentName } from '../../infra/environments.ts';

/**
 * What SQS hands out of a standard queue before messages are deleted or released:
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
 */
export const IN_FLIGHT_QUOTA = 120_000;
/** Of an order in a packed message: `MAX_PACKED_ORDERS` at most. */
const ORDERS_PER_PACKED_MESSAGE = 100;
/** Memory of RDS's instances, and of which share PostgreSQL makes connections: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html */
const INSTANCES: Readonly<Record<string, { cores: number; gib: number }>> = {
  'm7g.large': { cores: 2, gib: 8 },
  'm7g.xlarge': { cores: 4, gib: 16 },
};
const BYTES_PER_CONNECTION = 9_531_392;
/** The formula counts the memory without what RDS and the system take: estimated, not measured. */
const DATABASE_MEMORY_SHARE = 0.9;
const MOST_CONNECTIONS = 5_000;
/** Of each node, for the agents and add-ons on it: estimated, not measured. */
const NODE_OVERHEAD_CORES = 0.5;
/** Estimated, not measured: a stored order with its part of the indexes. */
const ROW_BYTES = 1_000;
/**
 * Of KMS, symmetric, in regions that have no higher one: https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html
 */
export const KMS_QUOTA_PER_SECOND = 10_000;

/** What the manifests say and the benchmarks measured of one service. */
type Service = {
  minPods: number;
  maxPods: number;
  perPod: number;
  coresPerOrder: number;
  cpuRequest: number;
};
export type Basis = {
  producer: Service;
  consumer: Service & { connections: number; inWork: number; longestDelaySeconds: number };
};

const ROOT = path.join(import.meta.dirname, '..', '..');
const yaml = (file: string) => parse(readFileSync(path.join(ROOT, file), 'utf8'));

/** `250m` is 0.25. */
const cores = (text: string) => (text.endsWith('m') ? Number.parseInt(text, 10) / 1_000 : Number(text));

function cpuRequest(service: string): number {
  const [container] = yaml(`k8s/base/${service}/deployment.yaml`).spec.template.spec.containers;
  return cores(String(container.resources.requests.cpu));
}

/** The value that an overlay's patch sets, or that of the component. */
function minimum(environment: EnvironmentName, kind: string, field: string, otherwise: number): number {
  const { patches } = yaml(`k8s/overlays/${environment}/kustomization.yaml`) as {
    patches: { target: { kind: string }; patch: string }[];
  };
  const changes = patches
    .filter(({ target }) => target.kind === kind)
    .flatMap(({ patch }) => parse(patch) as { path: string; value: number }[]);
  return changes.find(({ path }) => path === `/spec/${field}`)?.value ?? otherwise;
}

/** Reads manifests and benchmarks: nothing of the calculation is written twice. */
export function basisOf(environment: EnvironmentName, sending: Sending): Basis {
  const hpa = yaml('k8s/components/hpa/horizontal-pod-autoscaler.yaml').spec;
  const keda = yaml('k8s/components/keda/scaled-object.yaml').spec;
  const utilization = hpa.metrics[0].containerResource.target.averageUtilization / 100;
  const { report } = measuredCapacity();
  const producerCores =
    sending === 'packed'
      ? measured('publish', 'Publish packed', 'order-producer, packed', 'cpuPer10000') / 10_000
      : report.producer.cpuSeconds / report.stored;
  const request = { producer: cpuRequest('producer'), consumer: cpuRequest('consumer') };
  const settings = Object.fromEntries(
    readFileSync(path.join(ROOT, 'k8s/base/consumer/order-consumer.env'), 'utf8')
      .split('\n')
      .filter((line) => /^\w+=/.test(line))
      .map((line) => line.split('=') as [string, string]),
  );
  const defaults = consumerConfigSchema.shape;
  const setting = (name: 'DATABASE_POOL_SIZE' | 'MAX_IN_WORK' | 'RETRY_BACKOFF_MAX_SECONDS') =>
    Number(settings[name] ?? defaults[name].parse(undefined));
  return {
    producer: {
      minPods: minimum(environment, 'HorizontalPodAutoscaler', 'minReplicas', hpa.minReplicas),
      maxPods: hpa.maxReplicas,
      // What it does where the autoscaler wants it to be.
      perPod: (request.producer * utilization) / producerCores,
      coresPerOrder: producerCores,
      cpuRequest: request.producer,
    },
    consumer: {
      minPods: minimum(environment, 'ScaledObject', 'minReplicaCount', keda.minReplicaCount),
      maxPods: keda.maxReplicaCount,
      perPod:
        sending === 'packed'
          ? measured('store', 'Consume into the embedded store', 'order-consumer', 'perSecond')
          : measured('consume', 'Consume, one poller, 15 ms away', 'order-consumer', 'perSecond'),
      coresPerOrder:
        sending === 'packed'
          ? measured('store', 'Consume into the embedded store', 'order-consumer', 'cpuPer10000') / 10_000
          : measured('consume', 'Consume, one poller, 15 ms away', 'order-consumer', 'cpuPer10000') / 10_000,
      cpuRequest: request.consumer,
      connections: setting('DATABASE_POOL_SIZE'),
      inWork: setting('MAX_IN_WORK'),
      longestDelaySeconds: setting('RETRY_BACKOFF_MAX_SECONDS'),
    },
  };
}

export type Plan = {
  environment: EnvironmentName;
  ordersPerSecond: number;
  sending: Sending;
  producerPods: number;
  consumerPods: number;
  nodes: number;
  /** Of a core, in each order-producer that is left when a zone is lost. One core is all that an event loop can use. */
  producerCoreWithoutZone: number;
  /** Of order-consumer to PostgreSQL; twice as many while a release is deployed. */
  connections: number;
  maxConnections: number;
  /** Messages in work, if none must wait for a retry. */
  inFlight: number;
  /** The share of messages that may wait for the longest retry delay before SQS hands out no more. */
  failingShareAtQuota: number;
  messagesPerSecond: number;
  sqsRequestsPerSecond: number;
  /** If SQS asked KMS for each request: with `KmsDataKeyReusePeriodSeconds` it asks far less often. */
  kmsRequestsPerSecondAtMost: number;
  /** Orders stored per day, in GiB. */
  storedGibPerDay: number;
  /** Until the database has grown to its limit, if nothing is archived. */
  daysUntilFull: number;
  dollarsPerMonth: number;
  /** What the environment does not allow as it is. Empty: it fits. */
  exceeded: string[];
};

const podsOf = ({ minPods, perPod }: Service, ordersPerSecond: number) =>
  Math.max(minPods, Math.ceil(ordersPerSecond / perPod));

/**
 * The formulas of docs/capacity.md. PostgreSQL at this rate is in none of them: it was not measured.
 * @param ordersPerSecond that never pauses; peaks shorter than the autoscalers' reaction wait in the queue
 */
export function planCapacity(
  ordersPerSecond: number,
  {
    environment = 'production',
    sending = 'single',
    basis = basisOf(environment, sending),
  }: { environment?: EnvironmentName; sending?: Sending; basis?: Basis } = {},
): Plan {
  const { kubernetes, database, zones } = ENVIRONMENTS[environment];
  const { producer, consumer } = basis;
  const producerPods = podsOf(producer, ordersPerSecond);
  const consumerPods = podsOf(consumer, ordersPerSecond);
  const busyCores = (service: Service, pods: number) =>
    Math.max(pods * service.cpuRequest, ordersPerSecond * service.coresPerOrder);
  const nodeCores = instance(kubernetes.nodeType).cores - NODE_OVERHEAD_CORES;
  const nodes = Math.max(
    kubernetes.minNodes,
    Math.ceil((busyCores(producer, producerPods) + busyCores(consumer, consumerPods)) / nodeCores),
  );
  const left = Math.max(1, producerPods - Math.ceil(producerPods / zones.length));
  const producerCoreWithoutZone = (ordersPerSecond * producer.coresPerOrder) / left;
  const connections = consumerPods * consumer.connections;
  const maxConnections = connectionsOf(database.instanceType);
  const messagesPerSecond = ordersPerSecond / (sending === 'packed' ? ORDERS_PER_PACKED_MESSAGE : 1);
  const requests = sqsRequestsPerOrder(sending);
  const storedGibPerDay = (ordersPerSecond * ROW_BYTES * 86_400) / 2 ** 30;
  const inFlight = consumerPods * consumer.inWork;
  const exceeded = [
    over('producer pods', producerPods, producer.maxPods, 'maxReplicas, k8s/components/hpa'),
    over('consumer pods', consumerPods, consumer.maxPods, 'maxReplicaCount, k8s/components/keda'),
    over('nodes', nodes, kubernetes.maxNodes, 'maxNodes, infra/environments.ts'),
    over(
      'percent of a core with a zone lost',
      Math.ceil(100 * producerCoreWithoutZone),
      100,
      'one event loop',
    ),
    over(
      'connections during a release',
      2 * connections,
      maxConnections,
      `max_connections of ${database.instanceType}`,
    ),
    over('messages in flight', inFlight, IN_FLIGHT_QUOTA, 'quota of SQS'),
  ].filter((line) => line !== undefined);
  return {
    environment,
    ordersPerSecond,
    sending,
    producerPods,
    consumerPods,
    nodes,
    producerCoreWithoutZone,
    connections,
    maxConnections,
    inFlight,
    failingShareAtQuota: Math.min(
      1,
      Math.max(0, IN_FLIGHT_QUOTA - inFlight) / (messagesPerSecond * consumer.longestDelaySeconds),
    ),
    messagesPerSecond,
    sqsRequestsPerSecond: ordersPerSecond * (requests.producer + requests.consumer),
    kmsRequestsPerSecondAtMost: ordersPerSecond * (requests.producer + requests.consumer / 2),
    storedGibPerDay,
    daysUntilFull: database.maxStorageGib / storedGibPerDay,
    dollarsPerMonth: monthlyDollars(environment, ordersPerSecond, sending, nodes),
    exceeded,
  };
}

const over = (what: string, needed: number, limit: number, where: string) =>
  needed > limit ? `${what}: ${needed} needed, ${limit} allowed (${where})` : undefined;

function instance(type: string): { cores: number; gib: number } {
  const found = INSTANCES[type];
  if (!found) throw new Error(`scripts/capacity/plan.ts does not know the size of ${type}`);
  return found;
}

const connectionsOf = (type: string) =>
  Math.min(
    MOST_CONNECTIONS,
    Math.floor((instance(type).gib * 2 ** 30 * DATABASE_MEMORY_SHARE) / BYTES_PER_CONNECTION),
  );

/** The plan as people read it. */
export function describePlan(plan: Plan): string {
  const number = (value: number) =>
    value.toLocaleString('en-US', { maximumSignificantDigits: value < 100 ? 2 : 4 });
  const lines: [string, string][] = [
    ['orders per second', `${number(plan.ordersPerSecond)}, ${plan.sending}, ${plan.environment}`],
    ['order-producer', `${plan.producerPods} pods`],
    ['order-consumer', `${plan.consumerPods} pods`],
    ['nodes', `${plan.nodes} of ${ENVIRONMENTS[plan.environment].kubernetes.nodeType}`],
    [
      'with a zone lost',
      `${number(100 * plan.producerCoreWithoutZone)} % of a core in each order-producer left`,
    ],
    [
      'connections to PostgreSQL',
      `${plan.connections}, during a release ${2 * plan.connections}, of about ${plan.maxConnections}`,
    ],
    ['messages in flight', `${number(plan.inFlight)} of ${number(IN_FLIGHT_QUOTA)}`],
    [
      'quota reached at',
      plan.failingShareAtQuota >= 1
        ? 'never, even if all messages wait for a retry'
        : `${number(100 * plan.failingShareAtQuota)} % of messages waiting for the longest retry delay`,
    ],
    [
      'requests to SQS',
      `${number(plan.sqsRequestsPerSecond)} per second; standard queues have no quota of them`,
    ],
    [
      'requests to KMS',
      `at most ${number(plan.kmsRequestsPerSecondAtMost)} per second of ${number(KMS_QUOTA_PER_SECOND)}`,
    ],
    [
      'stored',
      `${number(plan.storedGibPerDay)} GiB per day; full after ${number(plan.daysUntilFull)} days without scripts/retention.sh`,
    ],
    ['cost', `${number(plan.dollarsPerMonth)} US$ per month`],
  ];
  const width = Math.max(...lines.map(([what]) => what.length)) + 2;
  return [
    ...lines.map(([what, value]) => what.padEnd(width) + value),
    '',
    ...(plan.exceeded.length > 0
      ? ['does not fit:', ...plan.exceeded.map((line) => `  ${line}`)]
      : ['fits. PostgreSQL at this rate was not measured: docs/capacity.md']),
  ].join('\n');
}
