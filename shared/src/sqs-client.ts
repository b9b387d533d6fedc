import { SQSClient } from '@aws-sdk/client-sqs';
import { type CommonConfig, sqsEndpoint } from './config.ts';
import type { Logger } from './logger.ts';
import type { CommonMetrics } from './metrics.ts';

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
  >;
  logger: Logger;
  metrics?: Pick<CommonMetrics, 'sqsRequestDuration'>;
};

/**
 * A client whose requests end: the SDK by itself sets no time-out at all, and `requestTimeout` alone only warns.
 * The endpoint is always set for an emulator, since the host in the queue URLs of one need not resolve.
 */
export function createSqsClient({ config, logger, metrics }: SqsClientOptions): SQSClient {
  const endpoint = sqsEndpoint(config);
  const client = new SQSClient({
    region: config.AWS_REGION,
    maxAttempts: config.SQS_MAX_ATTEMPTS,
    requestHandler: {
      connectionTimeout: config.SQS_CONNECT_TIMEOUT_MS,
      requestTimeout: config.SQS_REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      httpAgent: { maxSockets: config.SQS_MAX_SOCKETS },
      httpsAgent: { maxSockets: config.SQS_MAX_SOCKETS },
    },
    logger: sdkLogger(logger),
    ...(endpoint ? { endpoint } : {}),
    // An emulator in development takes any credentials, so nobody has to set some. Elsewhere the default chain rules.
    ...(endpoint && config.APP_ENV === 'dev' ? { credentials: emulatorCredentials } : {}),
  });
  if (metrics) observeRequests(client, metrics.sqsRequestDuration);
  return client;
}

const emulatorCredentials = { accessKeyId: 'emulator', secretAccessKey: 'emulator' };

/** The SDK logs whole inputs, message bodies among them: only what says what happened is let through. */
function sdkLogger(logger: Logger) {
  const line =
    (level: 'debug' | 'warn') =>
    (entry: unknown): void => {
      if (typeof entry === 'string') return logger[level]({ detail: entry }, 'AWS SDK');
      const { commandName, metadata, error } = entry as Record<string, unknown>;
      logger[level]({ commandName, metadata, err: error }, 'AWS SDK request');
    };
  return { trace: line('debug'), debug: line('debug'), info: line('debug'), warn: line('warn'), error: line('warn') };
}

function observeRequests(client: SQSClient, duration: CommonMetrics['sqsRequestDuration']): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const operation = (context.commandName ?? 'unknown').replace(/Command$/, '');
      const end = duration.startTimer({ operation });
      try {
        const output = await next(args);
        end({ result: 'success' });
        return output;
      } catch (error) {
        end({ result: 'error' });
        throw error;
      }
    },
    // Behind the retry middleware, which stands in the same step: each attempt is seen.
    { step: 'finalizeRequest', priority: 'low', name: 'observeRequests' },
  );
}
