import { loadConsumerConfig } from '@orders/consumer/config.ts';
import { createOrderConsumer } from '@orders/consumer/create-order-consumer.ts';
import { createConsumerMetrics } from '@orders/consumer/metrics.ts';
import { RECEIVE_MARGIN_MS } from '@orders/consumer/sqs/poller.ts';
import { createLogger, libraryLogger } from '@orders/shared/logger.ts';
import { createSqsClient } from '@orders/shared/sqs-client.ts';
import { ready } from '../probe.ts';
import { countingStore, job } from './consume-job.ts';

/** This project's consumer, put together as its `app.ts` does, without HTTP. Its environment says the rest. */
const config = loadConsumerConfig(process.env);
const logger = createLogger({ ...config, service: 'order-consumer', version: 'bench' });
const metrics = createConsumerMetrics('bench', { leases: () => 0, pool: () => undefined });
const sdkLogger = libraryLogger(logger, 'aws-sdk', config);
const { consumer } = createOrderConsumer({
  config,
  client: createSqsClient({ config, metrics, logger: sdkLogger }),
  receiveClient: createSqsClient({
    config: {
      ...config,
      SQS_REQUEST_TIMEOUT_MS: config.SQS_WAIT_TIME_SECONDS * 1_000 + RECEIVE_MARGIN_MS,
      SQS_MAX_SOCKETS: config.POLLERS,
      SQS_MAX_ATTEMPTS: 1,
    },
    metrics,
    logger: sdkLogger,
  }),
  queueUrl: job.queueUrl,
  deadLetterQueueUrl: `${job.queueUrl}-dlq`,
  store: countingStore,
  version: 'bench',
  metrics,
  logger,
  onFatal: (error) => {
    throw error;
  },
});
consumer.start();
ready();
