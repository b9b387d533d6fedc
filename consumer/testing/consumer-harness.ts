import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { type ConsumerConfig, loadConsumerConfig } from '../src/config.ts';
import { createOrderConsumer, type OrderConsumerDependencies } from '../src/create-order-consumer.ts';
import type { OrderRepository } from '../src/domain/order-repository.ts';
import { createConsumerMetrics } from '../src/metrics.ts';
import { DEAD_LETTER_ATTRIBUTE } from '../src/queue/dead-letter.ts';
import { FakeSqs } from './fake-sqs.ts';
import { FakeRepository } from './orders.ts';

export type Harness = ReturnType<typeof createHarness>;

/** A harness that runs until the test is over. */
export function startHarness(
  overrides: Parameters<typeof createHarness>[0] = {},
  prepare: (harness: Harness) => void = () => {},
  dependencies: Parameters<typeof createHarness>[1] = {},
): Harness {
  const harness = createHarness(overrides, dependencies);
  prepare(harness);
  harness.consumer.start();
  onTestFinished(async () => {
    await harness.consumer.stop({ timeoutMs: 6_000 });
  });
  return harness;
}

/** What the DLQ was told of the message that came there first, or later. */
export const deadLetterOf = ({ sqs }: Harness, index = 0) =>
  JSON.parse(sqs.deadLetters[index]?.MessageAttributes?.[DEAD_LETTER_ATTRIBUTE]?.StringValue ?? '{}');

/** The real consumer, between a fake SQS and a fake store. */
export function createHarness(
  overrides: Partial<ConsumerConfig> = {},
  dependencies: Partial<OrderConsumerDependencies> = {},
) {
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
  const metrics = createConsumerMetrics('test');
  const fatal: unknown[] = [];
  const parts = createOrderConsumer({
    config,
    client: sqs.client,
    receiveClient: sqs.client,
    queueUrl: 'queue',
    deadLetterQueueUrl: 'dlq',
    maxReceiveCount: 20,
    store: repository as unknown as OrderRepository,
    version: '1.2.3',
    metrics,
    logger,
    onFatal: (error) => fatal.push(error),
    ...dependencies,
  });
  return { ...parts, config, sqs, repository, metrics, lines, fatal };
}
