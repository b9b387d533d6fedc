import { createCircuitBreaker } from '@orders/shared/circuit-breaker.ts';
import { pino } from 'pino';
import { guardOrderRepository } from '../src/adapters/guarded-order-repository.ts';
import { type ConsumerConfig, loadConsumerConfig } from '../src/config.ts';
import { StoreUnavailableError } from '../src/domain/errors.ts';
import type { OrderRepository } from '../src/domain/order-repository.ts';
import { createConsumerMetrics } from '../src/metrics.ts';
import { Acknowledger } from '../src/sqs/acknowledger.ts';
import { FailureCounter } from '../src/sqs/failure-counter.ts';
import { LeaseKeeper } from '../src/sqs/lease.ts';
import { OrderConsumer } from '../src/sqs/order-consumer.ts';
import { Places } from '../src/sqs/places.ts';
import { Settler } from '../src/sqs/settler.ts';
import { StoreGate } from '../src/sqs/store-gate.ts';
import { Watchdog } from '../src/sqs/watchdog.ts';
import { FakeSqs } from './fake-sqs.ts';
import { FakeRepository } from './orders.ts';

/** The real consumer, put together as `app.ts` does, between a fake SQS and a fake store. */
export function createHarness(overrides: Partial<ConsumerConfig> = {}) {
  const config = {
    ...loadConsumerConfig({}),
    SQS_WAIT_TIME_SECONDS: 0.05,
    BREAKER_MIN_OPEN_MS: 20,
    BREAKER_MAX_OPEN_MS: 40,
    ...overrides,
  };
  const sqs = new FakeSqs();
  const repository = new FakeRepository();
  const lines: Record<string, unknown>[] = [];
  const logger = pino(
    { level: 'debug', messageKey: 'message' },
    { write: (line: string) => lines.push(JSON.parse(line)) },
  );
  const metrics = createConsumerMetrics('test', { leases: () => leases.size, pool: () => undefined });
  const breaker = createCircuitBreaker({
    name: 'store',
    failures: 1,
    openMs: { min: config.BREAKER_MIN_OPEN_MS, max: config.BREAKER_MAX_OPEN_MS },
    isFailure: (error) => error instanceof StoreUnavailableError,
    logger,
    metrics,
  });
  const acknowledger = new Acknowledger(sqs.client, 'queue');
  const leases = new LeaseKeeper({
    acknowledger,
    visibilitySeconds: config.VISIBILITY_TIMEOUT_SECONDS,
    heartbeatSeconds: config.HEARTBEAT_SECONDS,
    logger,
  });
  const failures = new FailureCounter();
  const settler = new Settler({
    client: sqs.client,
    deadLetterQueueUrl: 'dlq',
    acknowledger,
    failures,
    config,
    version: '1.2.3',
    metrics,
    logger,
  });
  const fatal: unknown[] = [];
  const watchdog = new Watchdog();
  const consumer = new OrderConsumer({
    client: sqs.client,
    queueUrl: 'queue',
    config,
    repository: guardOrderRepository(repository as unknown as OrderRepository, breaker, metrics),
    places: new Places(config.MAX_IN_WORK),
    gate: new StoreGate(breaker, () => repository.ping()),
    watchdog,
    leases,
    acknowledger,
    settler,
    metrics,
    logger,
    onFatal: (error) => fatal.push(error),
  });
  return {
    config,
    sqs,
    repository,
    consumer,
    settler,
    leases,
    failures,
    metrics,
    watchdog,
    lines,
    fatal,
    breaker,
  };
}
