import { loadConsumerConfig } from '@orders/consumer/config.ts';
import type { ReadMessages } from '@orders/consumer/consume/read-messages.ts';
import { createOrderConsumer, createReceiveClient } from '@orders/consumer/create-order-consumer.ts';
import { PROCESSED } from '@orders/consumer/domain/outcome.ts';
import { createConsumerMetrics } from '@orders/consumer/metrics.ts';
import { createLogger, libraryLogger } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { ready } from '../probe.ts';
import { countingStore, handle, job } from './consume-job.ts';
import { steppedStore } from './stepped-store.ts';

/**
 * This project's consumer, put together as its `app.ts` does, without HTTP. Its environment says the rest; with the
 * argument `no-op`, it does with messages what its peers do, nothing; with `stepped-store`, its store changes.
 */
const processed = [{ body: '', traceId: '', outcome: PROCESSED }];
const noop: ReadMessages = async (leases) => {
  await handle(leases.map(({ message }) => ({ Body: message.body })));
  return leases.map((lease) => ({ lease, orders: processed }));
};
const config = loadConsumerConfig(process.env);
const logger = createLogger({ ...config, service: 'order-consumer', version: 'bench' });
const metrics = createConsumerMetrics('bench');
const sdkLogger = libraryLogger(logger, 'aws-sdk', config);
const { consumer } = createOrderConsumer({
  config,
  client: createSqsClient({ config, metrics, logger: sdkLogger }),
  receiveClient: createReceiveClient(config, { metrics, logger: sdkLogger }),
  queueUrl: job.queueUrl,
  deadLetterQueueUrl: `${job.queueUrl}-dlq`,
  maxReceiveCount: 20,
  store: process.argv[3] === 'stepped-store' ? steppedStore : countingStore,
  version: 'bench',
  metrics,
  logger,
  onFatal: (error) => {
    throw error;
  },
  ...(process.argv[3] === 'no-op' ? { read: noop } : {}),
});
consumer.start();
ready();
