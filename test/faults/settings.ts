export const VISIBILITY_SECONDS = 5;
export const MAX_FAILURES = 5;
export const GRACE_MS = 12_000;

/** The product's own default of `MAX_IN_WORK`. */
export const MAX_IN_WORK = 10;

/** The product's settings, scaled to a visibility time of 5 s instead of 60. */
export const SETTINGS = {
  APP_ENV: 'dev',
  LOG_LEVEL: 'info',
  LIBRARY_LOG_LEVEL: 'warn',
  SHUTDOWN_GRACE_MS: String(GRACE_MS),
  SQS_CONNECT_TIMEOUT_MS: '1000',
  SQS_REQUEST_TIMEOUT_MS: '3000',
  // Fewer than the growth of open files that counts as a leak.
  SQS_MAX_SOCKETS: '20',
  BREAKER_MIN_OPEN_MS: '100',
  BREAKER_MAX_OPEN_MS: '1000',
  PUBLISH_TIMEOUT_MS: '5000',
  SQS_WAIT_TIME_SECONDS: '1',
  VISIBILITY_TIMEOUT_SECONDS: String(VISIBILITY_SECONDS),
  HEARTBEAT_SECONDS: '1',
  HANDLING_TIMEOUT_SECONDS: '2',
  LEASE_MARGIN_SECONDS: '1',
  MAX_FAILURES: String(MAX_FAILURES),
  POLL_BACKOFF_MIN_MS: '100',
  POLL_BACKOFF_MAX_MS: '1000',
  RETRY_BACKOFF_MIN_SECONDS: '1',
  RETRY_BACKOFF_MAX_SECONDS: '1',
  OUTAGE_HOLD_SECONDS: '2',
  OUTAGE_RELEASE_MIN_SECONDS: '2',
  OUTAGE_RELEASE_MAX_SECONDS: '4',
  NEWER_VERSION_REJECT_SECONDS: '0',
  QUEUE_SAMPLE_SECONDS: '1',
  DATABASE_POOL_SIZE: '5',
  DATABASE_CONNECT_TIMEOUT_MS: '1000',
  DATABASE_STATEMENT_TIMEOUT_MS: '1500',
} as const;

/** What a process needs to run at all; nothing of the user's own settings. */
export function baseEnv(): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR, NODE_COMPILE_CACHE } = process.env;
  return {
    PATH,
    ...(HOME ? { HOME } : {}),
    ...(TMPDIR ? { TMPDIR } : {}),
    ...(NODE_COMPILE_CACHE ? { NODE_COMPILE_CACHE } : {}),
  };
}
