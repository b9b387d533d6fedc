import { createConsumerMetrics, registerGauges } from '@orders/consumer/metrics.ts';
import { createProducerMetrics } from '@orders/producer/metrics.ts';
import { DASHBOARDS } from './panels.ts';
import { ALERT_RULES, RECORDING_RULES } from './rules.ts';
import { table } from './runbook-index.ts';

export type Metric = {
  name: string;
  help: string;
  type: string;
  labels: readonly string[];
  services: string[];
};

/** What the services do not export themselves: cAdvisor, kube-state-metrics. */
export const PLATFORM_METRICS: Readonly<Record<string, string>> = {
  container_network_receive_bytes_total: 'cAdvisor: bytes that a pod received',
  container_network_transmit_bytes_total: 'cAdvisor: bytes that a pod sent',
  container_fs_usage_bytes: 'cAdvisor: bytes on disk that a container uses',
  kube_pod_container_status_restarts_total: 'kube-state-metrics: restarts of a container',
  kube_deployment_spec_replicas: 'kube-state-metrics: replicas that a Deployment should have',
  kube_deployment_status_replicas_available:
    'kube-state-metrics: replicas of a Deployment that are available',
};

/** All that both services export, by name. */
export function serviceMetrics(): Map<string, Metric> {
  const producer = createProducerMetrics('', () => 0).registry;
  const consumer = createConsumerMetrics('').registry;
  registerGauges(consumer, {
    leases: { size: 0 },
    workLimit: { value: 0 },
    consumption: { pause: undefined },
    store: { pool: () => undefined },
  });
  const metrics = new Map<string, Metric>();
  for (const [service, registry] of Object.entries({ producer, consumer })) {
    for (const metric of registry.getMetricsAsArray()) {
      // prom-client's type leaves the names of labels out.
      const { name, help, type, labelNames = [] } = metric as typeof metric & { labelNames?: string[] };
      const known = metrics.get(name);
      if (known) known.services.push(service);
      else metrics.set(name, { name, help, type: String(type), labels: labelNames, services: [service] });
    }
  }
  return metrics;
}

/** Names in PromQL that stand for series: not functions, labels, keywords or what is in quotes. */
export function seriesIn(expr: string): string[] {
  const bare = expr
    .replaceAll(/"[^"]*"/g, '')
    .replaceAll(/\{[^}]*\}/g, '')
    .replaceAll(/\[[^\]]*\]/g, '')
    .replaceAll(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  return [...bare.matchAll(/\b[a-z_][a-z0-9_:]*\b(?!\s*\()/g)]
    .map(([name]) => name)
    .filter((name) => /[_:]/.test(name));
}

/** The metric that a series belongs to: without the ending that a histogram adds. */
export const metricOf = (series: string, known: ReadonlyMap<string, unknown>): string => {
  const base = series.replace(/_(bucket|sum|count)$/, '');
  return known.has(series) || !known.has(base) ? series : base;
};

/** The series that an expression needs, with recorded ones followed to what they are made from. */
export function sourcesOf(expr: string): string[] {
  return seriesIn(expr).flatMap((name) => {
    const rule = RECORDING_RULES.find(({ record }) => record === name);
    return rule ? sourcesOf(rule.expr) : [name];
  });
}

type Uses = { panels: Set<string>; alerts: Set<string> };

/** By metric: which panels and alerts look at it. */
export function usesOfMetrics(known: ReadonlyMap<string, unknown>): Map<string, Uses> {
  const uses = new Map<string, Uses>();
  const note = (expr: string, kind: keyof Uses, by: string) => {
    for (const series of sourcesOf(expr)) {
      const metric = metricOf(series, known);
      const entry = uses.get(metric) ?? { panels: new Set(), alerts: new Set() };
      entry[kind].add(by);
      uses.set(metric, entry);
    }
  };
  for (const { title: dashboard, rows } of DASHBOARDS)
    for (const { title, queries } of rows.flatMap(({ panels }) => panels))
      for (const { expr } of queries) note(expr, 'panels', `${dashboard}: ${title}`);
  for (const { alert, expr } of ALERT_RULES) note(expr, 'alerts', alert);
  return uses;
}

/** Those of the runtime are many, and differ between systems: only the ones that somebody looks at are listed. */
const isOfRuntime = (name: string) => /^(nodejs|process)_/.test(name);

const unitOf = ({ name, type, labels }: Pick<Metric, 'name' | 'type' | 'labels'>): string => {
  if (name.endsWith('_amount_total')) return 'minor units';
  if (name.includes('_seconds')) return 'seconds';
  if (name.includes('_bytes')) return 'bytes';
  return type === 'gauge' && labels.includes('breaker') ? 'state' : 'count';
};

/** docs/metrics.md, from the definitions. */
export function metricsPage(): string {
  const metrics = serviceMetrics();
  const uses = usesOfMetrics(metrics);
  const rows = [...metrics.values()]
    .filter(({ name }) => !isOfRuntime(name) || uses.has(name))
    .sort((a, b) => a.name.localeCompare(b.name, 'en'))
    .map((metric) => {
      const { panels = [], alerts = [] } = uses.get(metric.name) ?? {};
      return [
        `\`${metric.name}\``,
        metric.services.join(', '),
        metric.type,
        unitOf(metric),
        metric.labels.map((label) => `\`${label}\``).join(' ') || '–',
        metric.help,
        [...panels].join('; ') || '–',
        [...alerts].map((alert) => `[${alert}](runbooks/${alert}.md)`).join(', ') || '–',
      ];
    });
  const platform = Object.entries(PLATFORM_METRICS).map(([name, help]) => [
    `\`${name}\``,
    help,
    [...(uses.get(name)?.panels ?? [])].join('; '),
  ]);
  return `# Metrics

Generated from the services' definitions, the dashboards and the rules by \`npm run docs\`; \`npm run check\` fails if this page is
outdated.

Both services export them at \`/metrics\` and \`/actuator/prometheus\`, with the label \`service\`. Label values come from closed
sets, never from requests. Counters and histograms start again at 0 with the process: use \`rate\` or \`increase\`. The queues are
sampled by every consumer: use \`max\`, not \`sum\`.

## Of the services

Of the metrics of the Node process, only those that somebody looks at are listed.

${table(['name', 'service', 'type', 'unit', 'labels', 'meaning', 'panels', 'alerts'], rows)}

## Of the platform

${table(['name', 'meaning', 'panels'], platform)}

## Recorded

${table(
  ['name', 'expression'],
  RECORDING_RULES.map(({ record, expr }) => [`\`${record}\``, `\`${expr.replaceAll('|', '\\|')}\``]),
)}
`;
}
