import { createProducerMetrics } from '@orders/producer/metrics.ts';
import { expect, test } from 'vitest';
import { parseMetrics } from './prometheus-text.ts';

test('metrics, as a service writes them, are read with what is special in labels', async () => {
  const { registry, httpRequestDuration } = createProducerMetrics('1', () => 7);
  httpRequestDuration.observe({ method: 'GET', route: '/orders/{id} 1', status: 200 }, 0.5);
  httpRequestDuration.observe({ method: 'GET', route: 'say "hi"\\\n', status: 200 }, 2);
  const { sum, value } = parseMetrics(await registry.metrics());
  const seconds = 'http_server_request_duration_seconds_sum';
  expect(value(seconds)).toBe(2.5);
  expect(value(seconds, ({ route }) => route === '/orders/{id} 1')).toBe(0.5);
  expect(value(seconds, ({ route }) => route === 'say "hi"\\\n')).toBe(2);
  expect(value(seconds, ({ route }) => route === 'another')).toBe(0);
  expect(sum('missing')).toBe(0);
  expect(() => value('missing')).toThrow('no sample of missing');
});

test.each([
  ['a_total{b="c"} 3 1700000000000', 3],
  ['a_total 1.5e-9', 1.5e-9],
  ['a_total -Inf', Number.NEGATIVE_INFINITY],
])('sample "%s" is %d', (line, value) =>
  expect(parseMetrics(`# HELP a b\n${line}\n`).sum('a_total')).toBe(value),
);
