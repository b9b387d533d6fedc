import type { SQSClient } from '@aws-sdk/client-sqs';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { sqsEndpoint } from '@orders/shared/runtime/config.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { type ConsumerConfig, SHUTDOWN_RESERVE_MS } from './config.ts';
import { Condition } from './consume/condition.ts';
import type { KeyGate } from './consume/key-gate.ts';
import { LeaseKeeper } from './consume/lease.ts';
import { OrderConsumer } from './consume/order-consumer.ts';
import { type ReadMessages, readMessages, readWith } from './consume/read-messages.ts';
import { Admission } from './consume/receive/admission.ts';
import { Consumption } from './consume/receive/consumption.ts';
import { RECEIVE_MARGIN_MS } from './consume/receive/poller.ts';
import { PollerScale } from './consume/receive/poller-scale.ts';
import { WorkLimit } from './consume/receive/work-limit.ts';
import { DeadLetterSender } from './consume/settle/dead-letter-sender.ts';
import { FailureCounter } from './consume/settle/failure-counter.ts';
import { FateRecorder } from './consume/settle/fate-recorder.ts';
import { PackedSettler } from './consume/settle/packed-settler.ts';
import { RetryPolicy } from './consume/settle/retry-policy.ts';
import { Settler } from './consume/settle/settler.ts';
import { guardOrderRepository, timeOrderRepository } from './consume/store/guarded-order-repository.ts';
import { MessageStore } from './consume/store/message-store.ts';
import { SaveTrial } from './consume/store/save-trial.ts';
import { StoreGate } from './consume/store/store-gate.ts';
import { Watchdog } from './consume/watchdog.ts';
import type { OrderRepository } from './domain/order-repository.ts';
import { storeOrders } from './domain/store-orders.ts';
import type { ConsumerMetrics } from './metrics.ts';
import { Acknowledger } from './queue/acknowledger.ts';

export type OrderConsumerDependencies = {
  config: ConsumerConfig;
  /** For everything but polls. */
  client: SQSClient;
  /** For long polls alone: they would hold the connections that deletes and heartbeats need. */
  receiveClient: SQSClient;
  queueUrl: string;
  deadLetterQueueUrl: string;
  /** Of the queue's redrive policy; without one, SQS moves nothing. */
  maxReceiveCount: number | undefined;
  store: OrderRepository;
  /** Of this code; each message that it rejects names it. */
  version: string;
  metrics: ConsumerMetrics;
  logger: Logger;
  /** The loop itself broke: a bug, after which the process must not stay up and do nothing. */
  onFatal: (error: unknown) => void;
  /** For messages that are encrypted, and its gate. */
  decryption?: { cipher: MessageCipher; gate: KeyGate } | undefined;
  /** The one that the gate of `decryption` notifies. */
  changed?: Condition;
  /** How messages are read; a benchmark may do without. */
  read?: ReadMessages;
};

/** Puts together all that stands between the queue and the store. Nothing runs before `consumer.start()`. */
export function createOrderConsumer(dependencies: OrderConsumerDependencies) {
  const { config, client, receiveClient, queueUrl, store, metrics, logger } = dependencies;
  const { maxReceiveCount = Number.POSITIVE_INFINITY, decryption } = dependencies;
  const required = config.MESSAGE_ENCRYPTION_REQUIRED === 'on';
  const { read = decryption ? readWith({ cipher: decryption.cipher, required }) : readMessages } =
    dependencies;
  const timedStore = timeOrderRepository(store, metrics);
  const trial = new SaveTrial(timedStore);
  const { changed = new Condition() } = dependencies;
  const gate = new StoreGate({
    trial,
    changed,
    shutMs: { min: config.BREAKER_MIN_OPEN_MS, max: config.BREAKER_MAX_OPEN_MS },
    comesBackMs: (config.OUTAGE_HOLD_SECONDS + config.OUTAGE_RELEASE_MAX_SECONDS) * 1_000,
    logger,
    metrics,
  });
  const repository = guardOrderRepository(timedStore, { gate, trial, metrics });
  const acknowledger = new Acknowledger(client, queueUrl);
  const leases = new LeaseKeeper({
    acknowledger,
    visibilitySeconds: config.VISIBILITY_TIMEOUT_SECONDS,
    heartbeatSeconds: config.HEARTBEAT_SECONDS,
    metrics,
    logger,
  });
  const failures = new FailureCounter();
  const fates = new FateRecorder({ store: timedStore, metrics, logger });
  const deadLetters = new DeadLetterSender({ ...dependencies, failures, fates });
  const settler = new Settler({
    leases,
    acknowledger,
    deadLetters,
    packed: new PackedSettler({ ...dependencies, deadLetters, cipher: decryption?.cipher }),
    failures,
    retryPolicy: new RetryPolicy({
      maxReceiveCount,
      failures,
      maxFailures: config.MAX_FAILURES,
      retryDelaySeconds: { min: config.RETRY_BACKOFF_MIN_SECONDS, max: config.RETRY_BACKOFF_MAX_SECONDS },
      outageDelaySeconds: { min: config.OUTAGE_RELEASE_MIN_SECONDS, max: config.OUTAGE_RELEASE_MAX_SECONDS },
      newerVersionSeconds: config.NEWER_VERSION_REJECT_SECONDS,
    }),
    metrics,
    logger,
  });
  const watchdog = new Watchdog();
  const consumption = new Consumption(changed);
  const workLimit = new WorkLimit(config.MIN_IN_WORK ?? config.MAX_IN_WORK, config.MAX_IN_WORK);
  const consumer = new OrderConsumer({
    ...dependencies,
    client: receiveClient,
    pollers: config.POLLERS,
    maxMessages: config.MAX_MESSAGES_PER_POLL,
    waitTimeSeconds: config.SQS_WAIT_TIME_SECONDS,
    visibilitySeconds: config.VISIBILITY_TIMEOUT_SECONDS,
    backoffMs: { min: config.POLL_BACKOFF_MIN_MS, max: config.POLL_BACKOFF_MAX_MS },
    asksByOldNames: sqsEndpoint(config) !== undefined,
    handlingTimeoutMs: config.HANDLING_TIMEOUT_SECONDS * 1_000,
    longestBatchMs:
      (config.HANDLING_TIMEOUT_SECONDS + config.OUTAGE_HOLD_SECONDS) * 1_000 +
      config.DATABASE_CONNECT_TIMEOUT_MS +
      config.DATABASE_STATEMENT_TIMEOUT_MS,
    flushMs: SHUTDOWN_RESERVE_MS.flush,
    read,
    store: new MessageStore({
      storeOrders: (orders) => storeOrders(repository, orders),
      gate,
      holdMs: config.OUTAGE_HOLD_SECONDS * 1_000,
    }),
    admission: new Admission({
      scale: new PollerScale(config.POLLERS),
      gate,
      keys: decryption?.gate,
      consumption,
      limit: workLimit,
      changed,
    }),
    workLimit,
    gate,
    watchdog,
    leases,
    acknowledger,
    settler,
    fates,
  });
  return { consumer, consumption, repository, gate, leases, failures, watchdog, workLimit };
}

/**
 * The client of the long polls: they would hold the connections that deletes and heartbeats need. It does not retry by
 * itself, since a poll whose answer was lost holds messages, and the poller has a back-off.
 */
export function createReceiveClient(
  config: ConsumerConfig,
  options: Omit<Parameters<typeof createSqsClient>[0], 'config'>,
): SQSClient {
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
