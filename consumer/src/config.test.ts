import type { Environment } from '@orders/shared/runtime/config.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { expect, test } from 'vitest';
import { databaseUrl, loadConsumerConfig } from './config.ts';

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

const STAGING = { APP_ENV: 'staging', AUTH: 'api-key', API_KEYS_FILE: '/keys' };
const VERIFIED = 'postgres://orders:hunter2@database/orders?sslmode=verify-full';
const CA = { DATABASE_CA_FILE: '/ca.pem' };

const REFUSED: [Environment, RegExp][] = [
  [{}, /DATABASE_URL: must be postgres:.*verify-full[\s\S]*DATABASE_CA_FILE: is needed/],
  [{ DATABASE_URL: 'sqlite:orders.db?sslmode=verify-full', ...CA }, /DATABASE_URL: must be postgres:/],
  [{ DATABASE_URL: VERIFIED }, /DATABASE_CA_FILE: is needed outside dev/],
  ...['', '?sslmode=disable', '?sslmode=require', '?sslmode=no-verify', '#?sslmode=verify-full'].map(
    (end): [Environment, RegExp] => [
      { DATABASE_URL: `postgres://orders:hunter2@database/orders${end}`, ...CA },
      /DATABASE_URL: must/,
    ],
  ),
  [{ DATABASE_URL: `${VERIFIED}&sslmode=disable`, ...CA }, /DATABASE_URL: must/],
  [
    { DATABASE_URL: VERIFIED, ...CA, APP_ENV: 'production', ALLOW_PLAINTEXT: 'database' },
    /ALLOW_PLAINTEXT: /,
  ],
];
test.each(REFUSED)(
  'consumer config, outside dev with %j, is refused, and nothing of the URL is repeated',
  (env, problem) => {
    const load = () => loadConsumerConfig({ ...STAGING, ...env });
    expect(load).toThrow(problem);
    expect(load).not.toThrow(/hunter2|@database/);
  },
);

test.each([
  [
    { DATABASE_URL: 'postgres://orders:hunter2@database/orders', DATABASE_PASSWORD_FILE: '/p' },
    /DATABASE_PASSWORD_FILE: must not be set beside a password/,
  ],
  [
    { DATABASE_URL: 'postgres://database/orders', DATABASE_USER_FILE: '/u' },
    /DATABASE_USER_FILE: needs DATABASE_PASSWORD_FILE/,
  ],
])('consumer config, with %j, is refused', (env, problem) => {
  expect(() => loadConsumerConfig(env)).toThrow(problem);
});

test.each([
  { DATABASE_URL: VERIFIED, ...CA },
  { DATABASE_URL: VERIFIED, ...CA, APP_ENV: 'production' },
  { ALLOW_PLAINTEXT: 'database' },
  { ALLOW_PLAINTEXT: 'sqs, database', DATABASE_URL: 'postgres://database/orders' },
])('consumer config, outside dev with %j, is accepted', (env) => {
  expect(loadConsumerConfig({ ...STAGING, ...env })).toMatchObject({ AUTH: ['api-key'] });
});

test.each([
  [{ DATABASE_URL: VERIFIED, ...CA }, `${VERIFIED}&sslrootcert=%2Fca.pem`],
  [{ DATABASE_URL: VERIFIED }, VERIFIED],
  [{ DATABASE_URL: 'sqlite:orders.db', ...CA }, 'sqlite:orders.db'],
  [
    { DATABASE_URL: 'postgres://database/orders', DATABASE_USER_FILE: '/u', DATABASE_PASSWORD_FILE: '/p' },
    'postgres://database/orders?userfile=%2Fu&passwordfile=%2Fp',
  ],
])('databaseUrl, of %j, is %s', (env, url) => {
  expect(databaseUrl(loadConsumerConfig(env))).toBe(url);
});
