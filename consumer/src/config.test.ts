import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { expect, test } from 'vitest';
import { loadConsumerConfig } from './config.ts';

test('consumer config, with nothing set, has the defaults that were asked for', () => {
  expect(loadConsumerConfig({})).toMatchObject({
    CONSUMER_PORT: 8081,
    MAX_MESSAGES_PER_POLL: 10,
    MAX_IN_WORK: 10,
    SQS_WAIT_TIME_SECONDS: 20,
    POLL_BACKOFF_MIN_MS: 1_000,
    POLL_BACKOFF_MAX_MS: 10_000,
    MAX_FAILURES: 5,
    VISIBILITY_TIMEOUT_SECONDS: 60,
    AWS_REGION: 'ap-northeast-2',
  });
});

test('consumer config, with several problems, names all of them at once', () => {
  const load = () =>
    loadConsumerConfig({ CONSUMER_PORT: 'eighty', DATABASE_URL: 'mysql://x', LOG_LEVEL: 'loud' });
  expect(load).toThrow(StartupError);
  expect(load).toThrow(/CONSUMER_PORT[\s\S]*DATABASE_URL|DATABASE_URL[\s\S]*CONSUMER_PORT/);
  expect(load).toThrow(/LOG_LEVEL/);
});

test.each([
  { MAX_IN_WORK: '100', DATABASE_POOL_SIZE: '5', DATABASE_URL: 'postgres://database/orders' },
  { MAX_IN_WORK: '500', DATABASE_POOL_SIZE: '5', DATABASE_URL: 'sqlite:orders.db' },
])('consumer config, with as many messages in work as the store takes at once, is accepted: %o', (env) => {
  expect(loadConsumerConfig(env).MAX_IN_WORK).toBe(Number(env.MAX_IN_WORK));
});

test.each([
  [{ VISIBILITY_TIMEOUT_SECONDS: '50' }, /VISIBILITY_TIMEOUT_SECONDS: must exceed/],
  [{ HEARTBEAT_SECONDS: '31' }, /HEARTBEAT_SECONDS/],
  // A thousand requests a second for nothing.
  [{ HEARTBEAT_SECONDS: '0.001' }, /HEARTBEAT_SECONDS/],
  [{ POLL_BACKOFF_MIN_MS: '20000' }, /POLL_BACKOFF_MIN_MS/],
  [{ OUTAGE_RELEASE_MIN_SECONDS: '90' }, /OUTAGE_RELEASE_MIN_SECONDS/],
  [{ SHUTDOWN_GRACE_MS: '27000' }, /SHUTDOWN_GRACE_MS/],
  [
    { RETRY_BACKOFF_MIN_SECONDS: '400' },
    /RETRY_BACKOFF_MIN_SECONDS: must not exceed RETRY_BACKOFF_MAX_SECONDS/,
  ],
  [{ BREAKER_MIN_OPEN_MS: '20000' }, /BREAKER_MIN_OPEN_MS/],
  [
    { MAX_IN_WORK: '101', DATABASE_POOL_SIZE: '5', DATABASE_URL: 'postgres://database/orders' },
    /MAX_IN_WORK: must be at most 20 × DATABASE_POOL_SIZE/,
  ],
  [{ ORDER_DLQ_NAME: 'order-queue' }, /ORDER_DLQ_NAME: must differ/],
  [{ APP_ENV: 'prod', HEARTBEAT_SECONDS: '0' }, /HEARTBEAT_SECONDS/],
])('consumer config, when %o breaks a rule across fields, says which', (env, message) => {
  expect(() => loadConsumerConfig(env)).toThrow(message);
});
