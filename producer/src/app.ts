import { setTimeout as sleep } from 'node:timers/promises';
import { createAuthenticator } from '@orders/shared/auth/authenticator.ts';
import { openMessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { Health } from '@orders/shared/http/health.ts';
import { logLevelRoutes } from '@orders/shared/http/log-level-routes.ts';
import { createHttpServer, type HttpServerOptions, openPorts } from '@orders/shared/http/server.ts';
import { MAX_ORDER_BYTES } from '@orders/shared/order/message.ts';
import { createCircuitBreaker } from '@orders/shared/runtime/circuit-breaker.ts';
import { authMethods, hasApiDocs, managementPort, sqsEndpoint } from '@orders/shared/runtime/config.ts';
import { type Logger, libraryLogger, warnOfPlaintext } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { auditFairQueues } from './adapters/fair-queues.ts';
import { openAcceptanceJournal } from './adapters/ndjson-acceptance-journal.ts';
import { SqsOrderPublisher } from './adapters/sqs-order-publisher.ts';
import { type ProducerConfig, statusBaseUrl } from './config.ts';
import { createPlaceOrder } from './domain/place-order.ts';
import { orderRoutes } from './http/order-routes.ts';
import { createProducerMetrics } from './metrics.ts';

export type ProducerApp = { url: string; managementUrl: string | undefined; stop: () => Promise<void> };

/** Assembles order-producer and starts it. Resolves when it accepts orders. */
export async function startProducer(
  config: ProducerConfig,
  logger: Logger,
  version: string,
): Promise<ProducerApp> {
  warnOfPlaintext(config, logger);
  const metrics = createProducerMetrics(version, () => publisher.size);
  const journal = openAcceptanceJournal(config.ACCEPTANCE_JOURNAL, { metrics, logger });
  const client = createSqsClient({ config, metrics, logger: libraryLogger(logger, 'aws-sdk', config) });
  const { queueUrl } = await resolveQueues(client, config, {
    warn: (finding) => logger.warn({ finding }, 'queue audit'),
  });
  const breakerOf = (name: string) =>
    createCircuitBreaker({
      name,
      failures: config.BREAKER_FAILURES,
      openMs: { min: config.BREAKER_MIN_OPEN_MS, max: config.BREAKER_MAX_OPEN_MS },
      logger,
      metrics,
    });
  const breaker = breakerOf('sqs');
  const cipher =
    config.MESSAGE_ENCRYPTION === 'off'
      ? undefined
      : await openMessageCipher({
          config,
          logger,
          guard: breakerOf('kms').execute,
          maxBytes: MAX_ORDER_BYTES,
          keyFile: { errors: metrics.encryptionKeyFileErrors, observeAge: metrics.observeSecretAge },
        });
  const publisher = new SqsOrderPublisher({
    client,
    queueUrl,
    breaker,
    cipher,
    metrics,
    encode: {
      version: config.MESSAGE_VERSION,
      encoding: config.MESSAGE_ENCODING,
      compressAboveBytes: config.COMPRESS_ABOVE_BYTES,
    },
    packing: config.PUBLISH_PACKING === 'on',
    fairQueues: config.FAIR_QUEUES === 'on' && (await auditFairQueues(client, sqsEndpoint(config), logger)),
    lingerMs: config.PUBLISH_LINGER_MS,
    maxInFlight: config.PUBLISH_MAX_IN_FLIGHT,
    bufferOrders: config.PUBLISH_BUFFER_ORDERS,
    timeoutMs: config.PUBLISH_TIMEOUT_MS,
  });

  const health = new Health({
    live: () => true,
    components: {
      sqs: async () => {
        await publisher.ping();
        return { status: 'UP', details: { queue: config.ORDER_QUEUE_NAME } };
      },
    },
  });
  const authenticator = createAuthenticator({ config, metrics, logger });
  await authenticator.start();
  const http: HttpServerOptions = {
    logger: libraryLogger(logger, 'http', config),
    metrics,
    health,
    registry: metrics.registry,
    introduction:
      'Accepts orders and puts each on a queue; order-consumer stores it. 202 means that the queue has confirmed the ' +
      'order. Without an answer, send the order again with the same `Idempotency-Key` or `orderId`: it is stored once.',
    info: { name: 'order-producer', version, environment: config.APP_ENV },
    bodyLimitBytes: config.MAX_ORDER_BYTES,
    maxBytesInWork: config.HTTP_MAX_BYTES_IN_WORK,
    maxConnections: config.HTTP_MAX_CONNECTIONS,
    corsAllowedOrigins: config.CORS_ALLOWED_ORIGINS,
    authenticator,
    rateLimits: config,
    trustedProxies: config.TRUSTED_PROXIES,
    docs: hasApiDocs(config),
    managementPort: managementPort(config),
    operations: (app) => logLevelRoutes(app, { logger }),
  };
  const app = await createHttpServer(http);
  await app.register(orderRoutes, {
    placeOrder: createPlaceOrder(publisher, journal, { keyOwner: config.IDEMPOTENCY_KEY_OWNER }),
    metrics,
    statusBaseUrl: statusBaseUrl(config),
    maxOrderBytes: config.MAX_ORDER_BYTES,
    maxBatchBytes: config.MAX_BATCH_BYTES,
  });

  if (statusBaseUrl(config) === undefined)
    logger.warn({ variable: 'ORDER_STATUS_BASE_URL' }, 'clients are not told where orders are looked up');
  if (config.IDEMPOTENCY_KEY_OWNER === 'customer' && !authMethods(config).includes('none'))
    logger.warn(
      { variable: 'IDEMPOTENCY_KEY_OWNER' },
      'clients with the same customers share idempotency keys',
    );
  const ports = await openPorts(app, http, {
    host: config.HOST,
    port: config.PRODUCER_PORT,
    variable: 'PRODUCER_PORT',
  });
  health.setAccepting(true);
  const { url, managementUrl } = ports;
  logger.info(
    { url, managementUrl, queue: config.ORDER_QUEUE_NAME, acceptanceJournal: config.ACCEPTANCE_JOURNAL },
    'ready',
  );

  return {
    url,
    managementUrl,
    stop: async () => {
      health.setAccepting(false);
      await sleep(config.SHUTDOWN_DELAY_MS);
      await ports.close();
      await publisher.idle();
      await journal.close();
      cipher?.close();
      client.destroy();
    },
  };
}
