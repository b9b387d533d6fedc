import type { SQSClient } from '@aws-sdk/client-sqs';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import type { ConsumerConfig } from '../../config.ts';
import { RECEIVE_MARGIN_MS } from './poller.ts';

type Options = Parameters<typeof createSqsClient>[0];

/**
 * The client of the long polls: they would hold the connections that deletes and heartbeats need. It does not retry by
 * itself, since a poll whose answer was lost holds messages, and the poller has a back-off.
 */
export function createReceiveClient(config: ConsumerConfig, options: Omit<Options, 'config'>): SQSClient {
  return createSqsClient({
    ...options,
    config: {
      ...config,
      SQS_REQUEST_TIMEOUT_MS: config.SQS_WAIT_TIME_SECONDS * 1_000 + RECEIVE_MARGIN_MS,
      SQS_MAX_SOCKETS: config.POLLERS,
      SQS_MAX_ATTEMPTS: 1,
    },
  });
}
