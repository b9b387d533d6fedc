import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { MetricObjectWithValues, MetricValue, Registry } from 'prom-client';
import { z } from 'zod';
import type { Access } from './access.ts';
import type { ComponentHealth, Health } from './health.ts';
import { ProblemError, problemAnswers } from './problem.ts';

export type ActuatorOptions = PrometheusOptions & {
  health: Health;
  info: { name: string; version: string; environment: string };
  /** Where Prometheus's pages are, if not here. */
  managementPort: number | undefined;
};
export type PrometheusOptions = { registry: Registry };

const PROMETHEUS_PATHS = ['/metrics', '/actuator/prometheus'];

/** Names that operators of Spring services know, and Node's metrics for the same. */
const ALIASES: Record<string, string> = {
  'process.memory.used': 'process_resident_memory_bytes',
  'process.cpu.time': 'process_cpu_seconds_total',
  'process.start.time': 'process_start_time_seconds',
  'process.files.open': 'process_open_fds',
  'nodejs.heap.used': 'nodejs_heap_size_used_bytes',
  'nodejs.heap.committed': 'nodejs_heap_size_total_bytes',
  'http.server.requests': 'http_server_request_duration_seconds',
};

const healthSchema = z.looseObject({ status: z.enum(['UP', 'DOWN']) }).meta({ id: 'Health' });
const health = { response: { 200: healthSchema, 503: healthSchema } };
const metric = {
  response: { 200: z.looseObject({ name: z.string() }), ...problemAnswers('unknown-metric') },
};

/** How the API's page shows a route. */
const operation = (access: Access, summary: string, answers: object = {}) => ({
  config: { access },
  schema: { tags: ['operations'], summary, ...answers },
});

const dotted = (name: string) => name.replace(/_total$/, '').replaceAll('_', '.');

/**
 * Kubernetes' own endpoints (`/livez`, `/readyz`, `/metrics`) and the same information in the shape of Spring Boot's
 * Actuator (https://docs.spring.io/spring-boot/api/rest/actuator/), which operators' tools and habits expect.
 */
export async function actuator(
  app: FastifyInstance,
  { health: checks, registry, info, managementPort }: ActuatorOptions,
): Promise<void> {
  // What runs and how it does: in production for those who operate it.
  const inside = info.environment === 'production' ? 'operations' : 'public';
  const healthRoute = (
    path: string,
    summary: string,
    check: (request: FastifyRequest) => ComponentHealth | Promise<ComponentHealth>,
  ) =>
    app.get(path, operation('public', summary, health), async (request, reply) => {
      const state = await check(request);
      return reply.code(state.status === 'UP' ? 200 : 503).send(state);
    });

  for (const path of ['/livez', '/actuator/health/liveness'])
    healthRoute(path, 'DOWN asks the platform to restart the process', () => checks.liveness());
  for (const path of ['/readyz', '/actuator/health/readiness'])
    healthRoute(path, 'DOWN asks the platform to send no traffic', () => checks.readiness());
  healthRoute('/actuator/health', 'Health of all components', async (request) => {
    const { status, components } = await checks.full();
    const showsAll = inside === 'public' || (await app.identify(request))?.scopes.has(inside);
    return showsAll ? { status, components } : { status };
  });
  if (managementPort === undefined) await app.register(prometheus, { registry });
  else
    for (const path of PROMETHEUS_PATHS)
      app.get(path, { config: { access: 'public' }, schema: { hide: true } }, async () => {
        throw new ProblemError('on-management-port', `this is on port ${managementPort}, MANAGEMENT_PORT`);
      });
  app.get('/actuator', operation(inside, 'Links to these endpoints'), async () => ({
    _links: Object.fromEntries(
      ['health', 'info', 'metrics', ...(managementPort === undefined ? ['prometheus'] : [])].map((name) => [
        name,
        { href: `/actuator/${name}`, templated: false },
      ]),
    ),
  }));
  app.get('/actuator/info', operation(inside, 'Build, Node version and environment'), async () => ({
    build: { name: info.name, version: info.version },
    node: { version: process.version },
    environment: info.environment,
  }));

  app.get('/actuator/metrics', operation(inside, 'Names of all metrics'), async () => {
    const names = registry.getMetricsAsArray().map(({ name }) => dotted(name));
    return { names: [...new Set([...Object.keys(ALIASES), ...names])].sort() };
  });
  app.get<{ Params: { name: string }; Querystring: { tag?: string | string[] } }>(
    '/actuator/metrics/:name',
    operation(inside, 'One metric, filtered by tag=name:value', metric),
    async ({ params, query }) => {
      const wanted = ALIASES[params.name] ?? params.name;
      const found = (await registry.getMetricsAsJSON()).find(
        ({ name }) => name === wanted || dotted(name) === wanted,
      );
      if (!found) throw new ProblemError('unknown-metric', `no metric called ${params.name}`);
      return actuatorMetric(
        params.name,
        found as MetricObjectWithValues<MetricValue<string>>,
        [query.tag ?? []].flat(),
      );
    },
  );
}

/** Metrics for Prometheus. */
export async function prometheus(app: FastifyInstance, { registry }: PrometheusOptions): Promise<void> {
  for (const path of PROMETHEUS_PATHS)
    app.get(path, operation('public', 'Metrics for Prometheus'), async (_request, reply) =>
      reply.header('content-type', registry.contentType).send(await registry.metrics()),
    );
}

type Sample = MetricValue<string> & { metricName?: string };

/** One metric as Actuator shows it, summed over the label values that pass the `tag=name:value` filters. */
function actuatorMetric(name: string, metric: MetricObjectWithValues<MetricValue<string>>, tags: string[]) {
  const filters = tags.map(
    (tag) => [tag.slice(0, tag.indexOf(':')), tag.slice(tag.indexOf(':') + 1)] as const,
  );
  const samples = (metric.values as Sample[]).filter(({ labels }) =>
    filters.every(([label, value]) => String(labels[label]) === value),
  );
  const sum = (suffix: string) =>
    samples
      .filter(({ metricName }) => (metricName ?? metric.name) === metric.name + suffix)
      .reduce((total, { value }) => total + value, 0);
  const type = String(metric.type);
  const measurements =
    type === 'histogram' || type === 'summary'
      ? [
          { statistic: 'COUNT', value: sum('_count') },
          { statistic: metric.name.includes('_seconds') ? 'TOTAL_TIME' : 'TOTAL', value: sum('_sum') },
        ]
      : [{ statistic: type === 'counter' ? 'COUNT' : 'VALUE', value: sum('') }];
  return { name, description: metric.help, measurements, availableTags: availableTags(samples) };
}

function availableTags(samples: Sample[]): { tag: string; values: string[] }[] {
  const tags = new Map<string, Set<string>>();
  for (const { labels } of samples) {
    for (const [tag, value] of Object.entries(labels)) {
      if (tag === 'le' || tag === 'quantile') continue;
      tags.set(tag, (tags.get(tag) ?? new Set()).add(String(value)));
    }
  }
  return [...tags].map(([tag, values]) => ({ tag, values: [...values].sort() }));
}
