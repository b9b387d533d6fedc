import { loadConsumerConfig } from '@orders/consumer/config.ts';
import { createReceiveClient } from '@orders/consumer/consume/receive/receive-client.ts';
import { createOrderConsumer } from '@orders/consumer/create-order-consumer.ts';
import type { ProcessMessages } from '@orders/consumer/domain/process-messages.ts';
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
const processed = { outcome: { kind: 'processed' }, traceId: '' } as const;
const noop: ProcessMessages = async (messages) => {
  await handle(messages.map(({ body }) => ({ Body: body })));
  return messages.map(() => processed);
};
const config = loadConsumerConfig(process.env);
const logger = createLogger({ ...config, service: 'order-consumer', version: 'bench' });
const metrics = createConsumerMetrics('bench', {
  leases: () => 0,
  workLimit: () => 0,
  pool: () => undefined,
});
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
  ...(process.argv[3] === 'no-op' ? { process: noop } : {}),
});
consumer.start();
ready();
