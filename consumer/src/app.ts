import { createAuthenticator } from '@orders/shared/auth/authenticator.ts';
import { hasCipher, openMessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { Health } from '@orders/shared/http/health.ts';
import { logLevelRoutes } from '@orders/shared/http/log-level-routes.ts';
import { createHttpServer, type HttpServerOptions, openPorts } from '@orders/shared/http/server.ts';
import { MAX_ORDER_BYTES } from '@orders/shared/order/message.ts';
import { hasApiDocs, managementPort } from '@orders/shared/runtime/config.ts';
import { auditLogger, type Logger, libraryLogger, warnOfPlaintext } from '@orders/shared/runtime/logger.ts';
import type { FatalHandler } from '@orders/shared/runtime/service.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { explainSqsError, queueAttributes, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { redrivePolicyOf } from '@orders/shared/sqs/queues.ts';
import { openOrderRepository } from './adapters/open-order-repository.ts';
import { OpeningOrderRepository } from './adapters/opening-order-repository.ts';
import { type ConsumerConfig, databaseUrl, SHUTDOWN_RESERVE_MS } from './config.ts';
import { Condition } from './consume/condition.ts';
import { KeyGate } from './consume/key-gate.ts';
import { createOrderConsumer, createReceiveClient } from './create-order-consumer.ts';
import { consumptionRoutes, consumptionState } from './http/consumption-routes.ts';
import { orderRoutes } from './http/order-routes.ts';
import { createConsumerMetrics, registerGauges } from './metrics.ts';
import { auditQueues } from './queue/queue-audit.ts';
import { startQueueSampler } from './queue/queue-sampler.ts';

export type ConsumerApp = { url: string; managementUrl: string | undefined; stop: () => Promise<void> };

/** Puts order-consumer together and starts it. Resolves when it processes messages. */
export async function startConsumer(
  config: ConsumerConfig,
  logger: Logger,
  version: string,
  onFatal: FatalHandler,
): Promise<ConsumerApp> {
  warnOfPlaintext(config, logger);
  const metrics = createConsumerMetrics(version);
  const sdkLogger = libraryLogger(logger, 'aws-sdk', config);
  const client = createSqsClient({ config, metrics, logger: sdkLogger });
  const receiveClient = createReceiveClient(config, { metrics, logger: sdkLogger });
  const warn = (finding: string) => logger.warn({ finding }, 'queue audit');
  const { queueUrl, deadLetterQueueUrl } = await resolveQueues(client, config, { warn });
  const [queue, deadLetterQueue] = await Promise.all([
    queueAttributes(client, queueUrl),
    queueAttributes(client, deadLetterQueueUrl),
  ]).catch((error) => {
    throw explainSqsError(error, config);
  });
  const handling = {
    maxFailures: config.MAX_FAILURES,
    handlingTimeoutSeconds: config.HANDLING_TIMEOUT_SECONDS,
  };
  for (const finding of auditQueues({ queue, deadLetterQueue }, handling)) warn(finding);

  const changed = new Condition();
  const decryption = hasCipher(config) ? await openDecryption() : undefined;
  const store = new OpeningOrderRepository();
  const { consumer, consumption, repository, watchdog, leases, workLimit } = createOrderConsumer({
    config,
    client,
    receiveClient,
    queueUrl,
    deadLetterQueueUrl,
    maxReceiveCount: redrivePolicyOf(queue).maxReceiveCount,
    store,
    version,
    metrics,
    logger,
    onFatal,
    decryption,
    changed,
  });
  registerGauges(metrics.registry, { leases, workLimit, store, consumption });

  const health = new Health({
    live: () => watchdog.overdue().length === 0,
    components: {
      sqs: async () => {
        await queueAttributes(client, queueUrl);
        return {
          status: 'UP',
          details: { queue: config.ORDER_QUEUE_NAME, deadLetterQueue: config.ORDER_DLQ_NAME },
        };
      },
      store: async () => {
        await repository.ping();
        return {
          status: 'UP',
          details: { engine: config.DATABASE_URL.startsWith('sqlite:') ? 'sqlite' : 'postgres' },
        };
      },
      // Not DOWN: whoever paused it wants the rest to go on.
      consumption: () => ({ status: 'UP', details: consumptionState(consumption.pause) }),
      progress: () => {
        const overdue = watchdog.overdue();
        return overdue.length > 0 ? { status: 'DOWN', details: { overdue } } : { status: 'UP' };
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
    introduction: 'Stores the orders that order-producer accepts, each exactly once, and looks them up.',
    info: { name: 'order-consumer', version, environment: config.APP_ENV },
    bodyLimitBytes: 1_024,
    maxBytesInWork: config.HTTP_MAX_BYTES_IN_WORK,
    maxConnections: config.HTTP_MAX_CONNECTIONS,
    corsAllowedOrigins: config.CORS_ALLOWED_ORIGINS,
    authenticator,
    rateLimits: config,
    trustedProxies: config.TRUSTED_PROXIES,
    docs: hasApiDocs(config),
    managementPort: managementPort(config),
    operations: async (app) => {
      await logLevelRoutes(app, { logger });
      await consumptionRoutes(app, { consumption, audit: auditLogger(logger) });
    },
  };
  const app = await createHttpServer(http);
  await app.register(orderRoutes, { repository });
  const ports = await openPorts(app, http, {
    host: config.HOST,
    port: config.CONSUMER_PORT,
    variable: 'CONSUMER_PORT',
  });
  // Only now: it may wait for minutes for another process that migrates. Alive and not ready is what probes hear then.
  try {
    await store.open(
      openOrderRepository(databaseUrl(config), {
        poolSize: config.DATABASE_POOL_SIZE,
        connectTimeoutMs: config.DATABASE_CONNECT_TIMEOUT_MS,
        statementTimeoutMs: config.DATABASE_STATEMENT_TIMEOUT_MS,
        migrations: config.DATABASE_MIGRATIONS,
        owner: config.DATABASE_OWNER,
        logger: libraryLogger(logger, 'database', config),
        loginFiles: {
          logger,
          errors: metrics.databaseLoginFileErrors,
          observeAge: metrics.observeSecretAge,
        },
      }),
    );
  } catch (error) {
    await ports.close();
    throw error;
  }
  consumer.start();
  const stopSampler = startQueueSampler({
    client,
    queues: { [config.ORDER_QUEUE_NAME]: queueUrl, [config.ORDER_DLQ_NAME]: deadLetterQueueUrl },
    intervalSeconds: config.QUEUE_SAMPLE_SECONDS,
    metrics,
    logger,
  });
  health.setAccepting(true);
  const { url, managementUrl } = ports;
  logger.info({ url, managementUrl, queue: config.ORDER_QUEUE_NAME }, 'ready');

  return {
    url,
    managementUrl,
    stop: async () => {
      health.setAccepting(false);
      const released = await consumer.stop({
        timeoutMs: config.SHUTDOWN_GRACE_MS - SHUTDOWN_RESERVE_MS.close,
      });
      logger.info({ released }, 'consumer drained');
      stopSampler();
      await ports.close();
      await store.close();
      decryption?.gate.stop();
      decryption?.cipher.close();
      receiveClient.destroy();
      client.destroy();
    },
  };

  async function openDecryption() {
    const gate = new KeyGate({
      shutMs: { min: config.BREAKER_MIN_OPEN_MS, max: config.BREAKER_MAX_OPEN_MS },
      changed,
      logger,
      metrics,
    });
    const cipher = await openMessageCipher({
      config,
      logger,
      maxBytes: MAX_ORDER_BYTES,
      guard: (call) => gate.pass(call),
      keyFile: { errors: metrics.encryptionKeyFileErrors, observeAge: metrics.observeSecretAge },
    });
    return { gate, cipher };
  }
}
