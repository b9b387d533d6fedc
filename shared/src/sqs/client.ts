import { SQSClient, type SQSClientConfig } from '@aws-sdk/client-sqs';
import { type CommonConfig, emulatorCredentials, sqsEndpoint } from '../runtime/config.ts';
import type { Logger } from '../runtime/logger.ts';
import type { CommonMetrics } from '../runtime/metrics.ts';
import { within } from '../runtime/time-limit.ts';
import { MIN_TLS_VERSION } from '../runtime/tls.ts';
import { createTunedSqsClient } from './tuned/tuned-client.ts';
import { abortError, type HttpLimits } from './tuned/undici-handler.ts';

export type SqsClientOptions = {
  config: Pick<
    CommonConfig,
    | 'APP_ENV'
    | 'AWS_REGION'
    | 'AWS_ENDPOINT_URL'
    | 'AWS_ENDPOINT_URL_SQS'
    | 'SQS_CONNECT_TIMEOUT_MS'
    | 'SQS_REQUEST_TIMEOUT_MS'
    | 'SQS_MAX_ATTEMPTS'
    | 'SQS_MAX_SOCKETS'
  > &
    Partial<Pick<CommonConfig, 'SQS_CLIENT'>>;
  logger: Logger;
  metrics?: Pick<CommonMetrics, 'sqsRequestDuration'>;
};

/** STS, a container's agent or a process may never answer. Credentials that come later serve the next request. */
const CREDENTIALS_TIMEOUT_MS = 5_000;

/**
 * A client whose calls always end: the SDK itself sets no time-out, and `requestTimeout` alone only warns. The wait for
 * credentials is limited too, and an `abortSignal` ends a call at once, whatever it waits for. For an emulator the
 * endpoint is always set, because the host in an emulator's queue URLs need not resolve.
 */
export function createSqsClient({ config, logger, metrics }: SqsClientOptions): SQSClient {
  const endpoint = sqsEndpoint(config);
  const settings = {
    region: config.AWS_REGION,
    maxAttempts: config.SQS_MAX_ATTEMPTS,
    logger: sdkLogger(logger),
    ...(endpoint ? { endpoint } : {}),
    // Elsewhere the default chain applies.
    ...(endpoint && config.APP_ENV === 'dev' ? { credentials: emulatorCredentials } : {}),
  };
  const limits = {
    connectTimeoutMs: config.SQS_CONNECT_TIMEOUT_MS,
    requestTimeoutMs: config.SQS_REQUEST_TIMEOUT_MS,
    maxSockets: config.SQS_MAX_SOCKETS,
  };
  const client =
    config.SQS_CLIENT === 'plain'
      ? createPlainSqsClient(settings, limits)
      : createTunedSqsClient({ settings, limits, logger });
  limitCredentials(client, Math.min(CREDENTIALS_TIMEOUT_MS, limits.requestTimeoutMs));
  endWithSignal(client);
  if (metrics) observeRequests(client, metrics.sqsRequestDuration);
  return client;
}

function createPlainSqsClient(
  settings: SQSClientConfig,
  { connectTimeoutMs, requestTimeoutMs, maxSockets }: HttpLimits,
): SQSClient {
  return new SQSClient({
    ...settings,
    requestHandler: {
      connectionTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true,
      httpAgent: { maxSockets },
      httpsAgent: { maxSockets, minVersion: MIN_TLS_VERSION },
    },
  });
}

/**
 * The SDK logs whole inputs, including message bodies: only the command, its outcome and warnings are logged here.
 * Failures are DEBUG too: the caller gets the error and knows what it means.
 */
function sdkLogger(logger: Logger) {
  const request = (entry: unknown): void => {
    const { commandName, metadata: answer, error } = entry as Record<string, unknown>;
    // Without the stack: a service that cannot start says why in one line, without the SDK's internals.
    const failure = error instanceof Error ? { name: error.name, reason: error.message } : undefined;
    logger.debug({ commandName, answer, failure }, 'AWS SDK request');
  };
  const warn = (detail: unknown): void => logger.warn({ detail: String(detail) }, 'AWS SDK warning');
  const quiet = () => {};
  return { trace: quiet, debug: quiet, info: request, warn, error: request };
}

function limitCredentials({ config }: SQSClient, timeoutMs: number): void {
  const { credentials } = config;
  config.credentials = async (properties) =>
    within(timeoutMs, credentials(properties), `no credentials within ${timeoutMs} ms`);
}

/** The SDK checks the signal only once it has credentials, and then sends nothing more. */
function endWithSignal(client: SQSClient): void {
  const send = client.send.bind(client) as (command: unknown, options?: Options) => Promise<unknown>;
  const sendUntil = (command: unknown, options: Options = {}) => {
    const { abortSignal: signal } = options;
    if (!signal) return send(command, options);
    return new Promise((resolve, reject) => {
      const abort = () => reject(abortError(signal));
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort, { once: true });
      const done = () => signal.removeEventListener('abort', abort);
      send(command, options).finally(done).then(resolve, reject);
    });
  };
  client.send = sendUntil as unknown as SQSClient['send'];
}

type Options = { abortSignal?: AbortSignal };

/** Measures each attempt, by HTTP status; the plain client's until the headers have arrived. */
function observeRequests({ config }: SQSClient, duration: CommonMetrics['sqsRequestDuration']): void {
  const { requestHandler } = config;
  const handle = requestHandler.handle.bind(requestHandler);
  requestHandler.handle = async (request, options) => {
    const operation = request.headers['x-amz-target']?.split('.')[1] ?? 'unknown';
    const end = duration.startTimer({ operation });
    try {
      const answer = await handle(request, options);
      end({ result: answer.response.statusCode < 300 ? 'success' : 'error' });
      return answer;
    } catch (error) {
      end({ result: 'error' });
      throw error;
    }
  };
}
