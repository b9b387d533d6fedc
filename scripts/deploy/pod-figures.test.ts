import { createConsumerMetrics } from '@orders/consumer/metrics.ts';
import { createProducerMetrics } from '@orders/producer/metrics.ts';
import { describe, expect, test } from 'vitest';
import { NO_FIGURES } from './judge.ts';
import { figuresOf, growth, parseSamples } from './pod-figures.ts';

describe('parseSamples', () => {
  test('sample, with labels that hold quotes, is read', () => {
    expect(parseSamples('# HELP a b\na_total{x="1",y="say \\"hi\\""} 3\nb 1.5e3\n')).toEqual([
      { name: 'a_total', labels: { x: '1', y: 'say \\"hi\\"' }, value: 3 },
      { name: 'b', labels: {}, value: 1_500 },
    ]);
  });
});

/** From the services' own registries, so that a renamed metric is found here. */
describe('figuresOf', () => {
  test('producer, counts orders and their 5xx, and nothing else', async () => {
    const { registry, httpRequestDuration } = createProducerMetrics('1', () => 0);
    const observe = (route: string, status: number, method = 'POST') =>
      httpRequestDuration.observe({ method, route, status }, 0.5);
    observe('/orders', 202);
    observe('/orders', 503);
    observe('/orders/batch', 207);
    observe('/orders', 400);
    observe('/readyz', 503, 'GET');
    expect(figuresOf('order-producer', await registry.metrics())).toEqual({
      handled: 4,
      failed: 1,
      deadLettered: 0,
      seconds: 2,
      measured: 4,
    });
  });

  test('consumer, counts what failed, what was dead-lettered, and not what a stop released', async () => {
    const metrics = createConsumerMetrics('1', {
      leases: () => 0,
      workLimit: () => 0,
      pool: () => undefined,
    });
    metrics.outcomes.inc({ outcome: 'processed', cause: '' }, 5);
    metrics.outcomes.inc({ outcome: 'duplicate', cause: '' });
    metrics.outcomes.inc({ outcome: 'retry', cause: '' });
    metrics.outcomes.inc({ outcome: 'rejected', cause: '' });
    metrics.outcomes.inc({ outcome: 'released', cause: 'store-unavailable' });
    metrics.outcomes.inc({ outcome: 'released', cause: 'stopping' });
    metrics.deadLettered.inc({ reason: 'CONFLICT' });
    metrics.processingDuration.observe(0.2);
    expect(figuresOf('order-consumer', await metrics.registry.metrics())).toEqual({
      handled: 9,
      failed: 3,
      deadLettered: 1,
      seconds: 0.2,
      measured: 1,
    });
  });
});

describe('growth', () => {
  const pod = (handled: number) => ({ ...NO_FIGURES, handled });
  test('pods, one old, one new, one whose counters began anew, one gone: what was added', () => {
    const before = new Map([
      ['old', pod(100)],
      ['restarted', pod(50)],
      ['gone', pod(7)],
    ]);
    const now = new Map([
      ['old', pod(110)],
      ['restarted', pod(3)],
      ['new', pod(20)],
    ]);
    expect(growth(before, now).handled).toBe(10 + 3 + 20);
  });
});
