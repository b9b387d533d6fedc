import { readFileSync } from 'node:fs';
import path from 'node:path';
import { loadConsumerConfig } from '@orders/consumer/config.ts';
import { LATE_AFTER_MS } from '@orders/consumer/consume/settle/report-outcome.ts';
import { LATENCY_BUCKETS } from '@orders/shared/runtime/metrics.ts';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { MEMORY_LIMIT_BYTES, QUEUES, SLOS } from './thresholds.ts';

const ROOT = path.join(import.meta.dirname, '..');

it.each(['producer', 'consumer'])('the memory limit is that of the container of order-%s', (service) => {
  const file = path.join(ROOT, `k8s/base/${service}/deployment.yaml`);
  const { spec } = parse(readFileSync(file, 'utf8'));
  expect(spec.template.spec.containers[0].resources.limits.memory).toBe(
    `${MEMORY_LIMIT_BYTES / 1024 ** 2}Mi`,
  );
});

it('the objectives are what the services measure', () => {
  expect(LATE_AFTER_MS / 1_000).toBe(SLOS.stored.withinSeconds);
  expect(LATENCY_BUCKETS).toContain(SLOS.answered.withinSeconds);
});

it("the queues' names are those of the services' defaults", () => {
  const { ORDER_QUEUE_NAME, ORDER_DLQ_NAME } = loadConsumerConfig({ DATABASE_URL: 'sqlite:orders.db' });
  expect(QUEUES).toEqual({ orders: ORDER_QUEUE_NAME, deadLetters: ORDER_DLQ_NAME });
});
