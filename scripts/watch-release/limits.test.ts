import { createConsumerMetrics, registerGauges } from '@orders/consumer/metrics.ts';
import { createProducerMetrics } from '@orders/producer/metrics.ts';
import { expect, it } from 'vitest';
import { LIMITS } from './limits.ts';

const consumer = createConsumerMetrics('test').registry;
registerGauges(consumer, {
  leases: { size: 0 },
  workLimit: { value: 0 },
  consumption: { pause: undefined },
  store: { pool: () => undefined },
});
const registries = [createProducerMetrics('test', () => 0).registry, consumer];

it.each(LIMITS)(
  'limit "$name" asks for metrics that a service has, in its namespace, with a bound',
  async (limit) => {
    const selectors = [...limit.query.matchAll(/(\w+)\{([^}]*)\}/g)];
    expect(selectors).not.toHaveLength(0);
    for (const [, metric = '', labels = ''] of selectors) {
      const name = metric.replace(/_(bucket|count)$/, '');
      expect(
        registries.some((registry) => registry.getSingleMetric(name)),
        `${name} exists`,
      ).toBe(true);
      expect(labels).toContain('namespace="$namespace"');
    }
    expect(limit.min ?? limit.max).toBeTypeOf('number');
  },
);
