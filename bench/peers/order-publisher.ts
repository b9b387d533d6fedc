import { SqsOrderPublisher } from '@orders/producer/adapters/sqs-order-publisher.ts';
import { loadProducerConfig } from '@orders/producer/config.ts';
import { createProducerMetrics } from '@orders/producer/metrics.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { createCircuitBreaker } from '@orders/shared/runtime/circuit-breaker.ts';
import { createLogger, libraryLogger } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { orderIds, orderOf } from '../orders.ts';
import { job, publishForever } from './publish-job.ts';

/**
 * This project's publisher, put together as order-producer's `app.ts` does, with callers that each publish
 * one order or, packed, as many as a bulk request has.
 */
const config = loadProducerConfig(process.env);
const logger = createLogger({ ...config, service: 'order-producer', version: 'bench' });
const metrics = createProducerMetrics('bench', () => 0);
const publisher = new SqsOrderPublisher({
  client: createSqsClient({ config, metrics, logger: libraryLogger(logger, 'aws-sdk', config) }),
  queueUrl: job.queueUrl,
  breaker: createCircuitBreaker({
    name: 'sqs',
    failures: config.BREAKER_FAILURES,
    openMs: { min: config.BREAKER_MIN_OPEN_MS, max: config.BREAKER_MAX_OPEN_MS },
    logger,
    metrics,
  }),
  metrics,
  encode: {
    version: config.MESSAGE_VERSION,
    encoding: config.MESSAGE_ENCODING,
    compressAboveBytes: config.COMPRESS_ABOVE_BYTES,
  },
  fairQueues: false,
  packing: config.PUBLISH_PACKING === 'on',
  lingerMs: config.PUBLISH_LINGER_MS,
  maxInFlight: config.PUBLISH_MAX_IN_FLIGHT,
  bufferOrders: config.PUBLISH_BUFFER_ORDERS,
  timeoutMs: config.PUBLISH_TIMEOUT_MS,
});

const nextId = orderIds();
const hash = contentHash(orderOf(nextId()));
const publishOne = (bulk: boolean) =>
  publisher.publish({ order: orderOf(nextId()), contentHash: hash, traceparent: undefined }, { bulk });
if (config.PUBLISH_PACKING === 'on') {
  const orders = 500; // as many as POST /orders/batch takes
  publishForever({ lanes: job.batchesInFlight, orders }, () =>
    Promise.all(Array.from({ length: orders }, () => publishOne(true))),
  );
} else {
  publishForever({ lanes: job.batchesInFlight * 10, orders: 1 }, () => publishOne(false));
}
