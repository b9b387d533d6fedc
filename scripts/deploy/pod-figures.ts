import { type Labels, type Metrics, parseMetrics } from '../prometheus-text.ts';
import { hasCode } from './errors.ts';
import type { Kubectl, PodObject } from './kubectl.ts';
import { metricsPort, podLabels, type ServiceName, type Track } from './manifests.ts';
import type { PodHttp } from './pod-http.ts';

export const NO_FIGURES = {
  /** Requests or messages. */
  handled: 0,
  /** Of these, the ones that failed through no fault of the client: 5xx; retry, rejected, released in an outage. */
  failed: 0,
  deadLettered: 0,
  /** Handling time of all measured pieces of work (requests, batches), and their number. */
  seconds: 0,
  measured: 0,
  /** Containers that died and were started again. */
  restarts: 0,
};

/** What pods have done. */
export type Figures = typeof NO_FIGURES;
/** The same, since so long. */
export type Observed = Figures & { overSeconds: number };

/** What a pod has done since it started. */
export function figuresOf(service: ServiceName, metrics: string): Omit<Figures, 'restarts'> {
  const { sum } = parseMetrics(metrics);
  if (service === 'order-producer') return { ...ordersOf(sum), deadLettered: 0 };
  return {
    handled: sum('orders_processed_total', ({ cause }) => cause !== 'stopping'),
    failed: sum(
      'orders_processed_total',
      ({ outcome, cause }) =>
        outcome === 'retry' || outcome === 'rejected' || (outcome === 'released' && cause !== 'stopping'),
    ),
    deadLettered: sum('orders_dead_lettered_total'),
    seconds: sum('order_processing_duration_seconds_sum'),
    measured: sum('order_processing_duration_seconds_count'),
  };
}

/** Refusals for which no client is to blame. */
const OUR_REFUSALS = ['queue_unavailable', 'buffer_full'];

/**
 * Counts orders and not requests: a batch is answered with 207 whatever became of its orders. Orders of a batch that met
 * an unknown error are in no counter; a batch from which nothing came, neither accepted nor refused, shows them.
 */
function ordersOf(sum: Metrics['sum']) {
  const requests = (where: (labels: Labels) => boolean) =>
    sum('http_server_request_duration_seconds_count', (labels) => isOrders(labels) && where(labels));
  const accepted = sum('orders_accepted_total');
  const refused = sum('orders_refused_total');
  const refusedByUs = sum('orders_refused_total', ({ reason }) => OUR_REFUSALS.includes(reason ?? ''));
  const acceptedAlone = requests(({ route, status }) => route === '/orders' && status === '202');
  const batches = requests(({ status }) => status === '207');
  const silent = Math.max(0, batches - (accepted - acceptedAlone) - refused);
  const failed =
    Math.max(
      refusedByUs,
      requests(({ status }) => status?.startsWith('5') ?? false),
    ) + silent;
  return {
    handled: accepted + refused - refusedByUs + failed,
    failed,
    seconds: sum('http_server_request_duration_seconds_sum', isOrders),
    measured: requests(() => true),
  };
}

const isOrders = ({ route, method }: Labels) => method === 'POST' && (route?.startsWith('/orders') ?? false);

export type FiguresByPod = Map<string, Figures>;

/** @param silent pods that count as ready and do not answer */
export type Reading = { figures: FiguresByPod; silent: string[] };

/** Figures of each pod that runs. One that is about to start or to end need not answer. */
export async function readFigures(
  { kubectl, http }: { kubectl: Kubectl; http: PodHttp },
  service: ServiceName,
  track: Track,
  image?: string,
): Promise<Reading> {
  const pods = await kubectl.list<PodObject>('pods', podLabels(service, track));
  const running = pods.filter(
    ({ metadata, spec, status }) =>
      !metadata.deletionTimestamp &&
      status.phase === 'Running' &&
      (image === undefined || spec.containers.some((container) => container.image === image)),
  );
  const silent: string[] = [];
  const entries = await Promise.all(
    running.map(async ({ metadata: { name }, spec, status }) => {
      const target = `pods/${name}:${metricsPort({ spec }, service)}`;
      const answer = await http.request(target, '/metrics').catch((error) => {
        if (hasCode(error, 'NO_ANSWER')) return undefined;
        throw error;
      });
      const restarts = (status.containerStatuses ?? []).reduce((sum, each) => sum + each.restartCount, 0);
      if (answer?.status === 200) return [name, { ...figuresOf(service, answer.body), restarts }] as const;
      if (isReady(status)) silent.push(name);
      return [name, { ...NO_FIGURES, restarts }] as const;
    }),
  );
  return { figures: new Map(entries), silent };
}

const isReady = ({ conditions = [] }: PodObject['status']) =>
  conditions.some(({ type, status }) => type === 'Ready' && status === 'True');

/** The sum over pods of what was added since `before`. A pod that is new, or whose counters began anew, counts from 0. */
export function growth(before: FiguresByPod, now: FiguresByPod): Figures {
  const total = { ...NO_FIGURES };
  const keys = Object.keys(total) as (keyof Figures)[];
  for (const [pod, figures] of now) {
    const base = before.get(pod);
    for (const key of keys) {
      const since = base && base[key] <= figures[key] ? base[key] : 0;
      total[key] += figures[key] - since;
    }
  }
  return total;
}
