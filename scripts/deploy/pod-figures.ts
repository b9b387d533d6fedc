import type { ClusterHttp } from './cluster-http.ts';
import { type Figures, NO_FIGURES } from './judge.ts';
import type { Kubectl, PodObject } from './kubectl.ts';
import { PORTS, podLabels, type ServiceName, type Track } from './manifests.ts';

type Sample = { name: string; labels: Record<string, string>; value: number };

const LINE = /^([a-z_]+)(?:\{([^}]*)\})? (\S+)$/gm;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Samples of the Prometheus text format, as prom-client writes it. */
export function parseSamples(text: string): Sample[] {
  return [...text.matchAll(LINE)].map(([, name = '', labels = '', value]) => ({
    name,
    labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, label, text]) => [label, text])),
    value: Number(value),
  }));
}

/** What a pod has done since it started. */
export function figuresOf(service: ServiceName, metrics: string): Omit<Figures, 'restarts'> {
  const samples = parseSamples(metrics);
  const sum = (name: string, where: (labels: Record<string, string>) => boolean = () => true) =>
    samples.reduce((total, sample) => {
      return sample.name === name && where(sample.labels) ? total + sample.value : total;
    }, 0);
  if (service === 'order-producer') {
    const ofOrders = ({ route, method }: Record<string, string>) =>
      method === 'POST' && (route?.startsWith('/orders') ?? false);
    const requests = sum('http_server_request_duration_seconds_count', ofOrders);
    return {
      handled: requests,
      failed: sum(
        'http_server_request_duration_seconds_count',
        (labels) => ofOrders(labels) && (labels['status']?.startsWith('5') ?? false),
      ),
      deadLettered: 0,
      seconds: sum('http_server_request_duration_seconds_sum', ofOrders),
      measured: requests,
    };
  }
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

export type FiguresByPod = Map<string, Figures>;

/** Figures of each pod that answers; one that starts or ends need not. */
export async function readFigures(
  { kubectl, http }: { kubectl: Kubectl; http: ClusterHttp },
  service: ServiceName,
  track: Track,
  image?: string,
): Promise<FiguresByPod> {
  const pods = await kubectl.list<PodObject>('pods', podLabels(service, track));
  const running = pods.filter(
    ({ metadata, spec, status }) =>
      !metadata.deletionTimestamp &&
      status.phase === 'Running' &&
      (image === undefined || spec.containers.some((container) => container.image === image)),
  );
  const entries = await Promise.all(
    running.map(async ({ metadata, status }) => {
      const answer = await http
        .request(`pods/${metadata.name}:${PORTS[service]}`, '/metrics')
        .catch(() => undefined);
      const restarts = (status.containerStatuses ?? []).reduce(
        (sum, { restartCount }) => sum + restartCount,
        0,
      );
      if (answer?.status !== 200) return [metadata.name, { ...NO_FIGURES, restarts }] as const;
      return [metadata.name, { ...figuresOf(service, answer.body), restarts }] as const;
    }),
  );
  return new Map(entries);
}

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
