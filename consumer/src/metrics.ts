import {
  type CommonMetrics,
  Counter,
  createMetrics,
  Gauge,
  Histogram,
  LATENCY_BUCKETS,
  type Registry,
} from '@orders/shared/runtime/metrics.ts';
import { type Outcome, REJECTION_REASONS } from './domain/outcome.ts';

const OUTCOMES = {
  processed: true,
  duplicate: true,
  retry: true,
  rejected: true,
  released: true,
} as const satisfies Record<Outcome['kind'], true>;

/** docs/metrics.md, generated from this, says which panel and which alert uses each. */
export type ConsumerMetrics = CommonMetrics & {
  received: Counter;
  redelivered: Counter;
  emptyPolls: Counter;
  pollErrors: Counter;
  outcomes: Counter<'outcome' | 'cause'>;
  deadLettered: Counter<'reason'>;
  unrecordedFates: Counter<'cause'>;
  settleErrors: Counter<'outcome'>;
  lostLeases: Counter;
  processingDuration: Histogram;
  queueTime: Histogram;
  storeDuration: Histogram<'operation' | 'result'>;
  /** The user and password before stay in force. */
  databaseLoginFileErrors: Counter;
  ordersStored: Counter;
  ordersStoredLate: Counter;
  amountStored: Counter<'currency'>;
  queueMessages: Gauge<'queue' | 'state'>;
  /**
   * Our own age, since `ApproximateAgeOfOldestMessage` of CloudWatch leaves out messages that were received three times or
   * more. It goes on growing while nothing is polled.
   */
  observeOldest: (sentAt: Date | undefined) => void;
};

/** What is asked at each scrape. */
export type GaugeSources = {
  leases: { size: number };
  workLimit: { value: number };
  consumption: { readonly pause: object | undefined };
  store: { pool: () => { total: number; idle: number; waiting: number } | undefined };
};

function gauge(registry: Registry, name: string, help: string, value: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(value());
    },
  });
}

export function registerGauges(
  registry: Registry,
  { leases, workLimit, consumption, store }: GaugeSources,
): void {
  gauge(
    registry,
    'sqs_leases_in_flight',
    'messages in work, whose leases are extended by the heartbeat',
    () => leases.size,
  );
  gauge(registry, 'sqs_work_limit', 'current maximum of messages in work', () => workLimit.value);
  gauge(registry, 'sqs_consumption_paused', '1 while an operator has paused consuming, else 0', () =>
    consumption.pause ? 1 : 0,
  );
  new Gauge({
    name: 'store_pool_connections',
    help: 'connections to the database',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      for (const [state, count] of Object.entries(store.pool() ?? {})) this.set({ state }, count);
    },
  });
}

export function createConsumerMetrics(version: string): ConsumerMetrics {
  const common = createMetrics('order-consumer', version);
  const registers = [common.registry];
  let oldestSentAt: Date | undefined;
  gauge(
    common.registry,
    'sqs_oldest_message_age_seconds',
    'age of the oldest message in the last poll; 0 if it was empty',
    () => (oldestSentAt ? Math.max(0, Date.now() - oldestSentAt.getTime()) / 1_000 : 0),
  );
  const counter = <Label extends string>(name: string, help: string, ...labelNames: Label[]) =>
    new Counter({ name, help, labelNames, registers });
  const histogram = (name: string, help: string, buckets = LATENCY_BUCKETS) =>
    new Histogram({ name, help, buckets, registers });
  const deadLettered = counter(
    'orders_dead_lettered_total',
    'messages sent to the dead-letter queue',
    'reason',
  );
  // From the start, so that a rate sees the first one too.
  for (const reason of Object.keys(REJECTION_REASONS)) deadLettered.inc({ reason }, 0);
  const unrecordedFates = counter(
    'order_fates_unrecorded_total',
    'dead-lettered orders for which the store did not record that; scripts/dlq.sh record does it later',
    'cause',
  );
  for (const cause of ['store', 'buffer-full']) unrecordedFates.inc({ cause }, 0);
  const settleErrors = counter(
    'sqs_settle_errors_total',
    'messages whose deletion, release or dead letter SQS did not confirm',
    'outcome',
  );
  for (const outcome of Object.keys(OUTCOMES)) settleErrors.inc({ outcome }, 0);
  const outcomes = counter(
    'orders_processed_total',
    'orders by outcome; a packed message that is released as a whole counts once',
    'outcome',
    'cause',
  );
  // What is released has a cause, and is no failure.
  for (const outcome of Object.keys(OUTCOMES))
    if (outcome !== 'released') outcomes.inc({ outcome, cause: '' }, 0);
  return {
    ...common,
    observeOldest: (sentAt) => {
      oldestSentAt = sentAt;
    },
    received: counter('sqs_messages_received_total', 'messages received'),
    redelivered: counter('sqs_messages_redelivered_total', 'messages received again'),
    emptyPolls: counter('sqs_empty_polls_total', 'polls that returned no message'),
    pollErrors: counter('sqs_poll_errors_total', 'failed polls'),
    outcomes,
    deadLettered,
    unrecordedFates,
    settleErrors,
    lostLeases: counter('sqs_leases_lost_total', 'leases that expired before their message was settled'),
    processingDuration: histogram(
      'order_processing_duration_seconds',
      'time from receive to outcome, per batch',
    ),
    queueTime: histogram('order_queue_time_seconds', 'time from send to receive', [
      ...LATENCY_BUCKETS,
      ...[60, 300, 900, 3_600],
    ]),
    storeDuration: new Histogram({
      name: 'store_duration_seconds',
      help: 'duration of calls to the store',
      labelNames: ['operation', 'result'],
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    databaseLoginFileErrors: counter(
      'database_login_file_errors_total',
      "changes of the files of the database's user and password that could not be used; those before stay in force",
    ),
    ordersStored: counter('orders_stored_total', 'orders stored, each counted once'),
    ordersStoredLate: counter(
      'orders_stored_late_total',
      'orders stored more than 30 s after they were sent to SQS',
    ),
    amountStored: counter(
      'orders_stored_amount_total',
      'sum of the amounts of stored orders, in minor units of the currency',
      'currency',
    ),
    queueMessages: new Gauge({
      name: 'sqs_queue_messages',
      help: 'approximate number of messages in a queue',
      labelNames: ['queue', 'state'],
      registers,
    }),
  };
}
