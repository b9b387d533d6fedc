import { createConsumerMetrics } from '@orders/consumer/metrics.ts';
import { createProducerMetrics } from '@orders/producer/metrics.ts';
import { describe, expect, test } from 'vitest';
import { figuresOf, growth, NO_FIGURES } from './pod-figures.ts';

/** From the services' own registries, so that a renamed metric is found here. */
describe('figuresOf', () => {
  const producer = () => {
    const metrics = createProducerMetrics('1', () => 0);
    const answer = (route: string, status: number, method = 'POST') =>
      metrics.httpRequestDuration.observe({ method, route, status }, 0.5);
    return {
      ...metrics,
      answer,
      figures: async () => figuresOf('order-producer', await metrics.registry.metrics()),
    };
  };

  test('producer, counts orders and what failed through no fault of a client, and nothing else', async () => {
    const { ordersAccepted, ordersRefused, answer, figures } = producer();
    answer('/orders', 202);
    ordersAccepted.inc();
    answer('/orders', 503);
    ordersRefused.inc({ reason: 'queue_unavailable' });
    answer('/orders/batch', 207);
    ordersAccepted.inc(2);
    ordersRefused.inc({ reason: 'invalid' });
    answer('/orders', 400);
    ordersRefused.inc({ reason: 'invalid' });
    answer('/readyz', 503, 'GET');
    expect(await figures()).toEqual({ handled: 6, failed: 1, deadLettered: 0, seconds: 2, measured: 4 });
  });

  test('producer, that refuses the orders of batches, which are answered with 207, has failed them', async () => {
    const { ordersRefused, answer, figures } = producer();
    for (let batch = 0; batch < 3; batch++) {
      answer('/orders/batch', 207);
      ordersRefused.inc({ reason: 'queue_unavailable' }, 10);
    }
    expect(await figures()).toMatchObject({ handled: 30, failed: 30 });
  });

  test('producer, whose batches bring nothing and no reason either, has failed each', async () => {
    const { ordersAccepted, answer, figures } = producer();
    for (let batch = 0; batch < 3; batch++) answer('/orders/batch', 207);
    answer('/orders', 202);
    ordersAccepted.inc();
    answer('/orders', 500);
    expect(await figures()).toMatchObject({ handled: 5, failed: 4 });
  });

  test('consumer, counts what failed, what was dead-lettered, and not what a stop released', async () => {
    const metrics = createConsumerMetrics('1');
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
