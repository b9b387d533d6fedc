import {
  BURN_MIN_EVENTS,
  BURN_RATES,
  FIELD,
  MEMORY_LIMIT_BYTES,
  PERFORMANCE,
  QUEUES,
  RULES,
  type Severity,
  SLOS,
  type Urgency,
} from './thresholds.ts';

export type RecordingRule = { record: string; expr: string };

export type AlertRule = {
  alert: string;
  expr: string;
  /** How long the expression must hold. */
  for?: string;
  /** How long the alert goes on after the expression held last, so that a figure at its threshold does not flap. */
  keepFiringFor?: string;
  severity: Severity;
  urgency: Urgency;
  labels?: Readonly<Record<string, string>>;
  /** What it means for customers. */
  summary: string;
  /** The figure. */
  description: string;
  dashboard: 'orders' | 'resources' | 'deployment';
};

/** Requests that place orders. */
export const PLACING = 'service="order-producer",method="POST",route=~"/orders|/orders/batch"';
/** Refusals for which no client is to blame. */
export const OUR_REFUSALS = 'reason=~"queue_unavailable|buffer_full|busy"';
/** Outcomes that end the way of a message. */
const FINAL = 'outcome=~"processed|duplicate|rejected"';
const FAILED = 'outcome=~"retry|rejected"';

const rate = (series: string, window: string, by = 'namespace') =>
  `sum by (${by}) (rate(${series}[${window}]))`;
const increase = (series: string, window: string) => `sum by (namespace) (increase(${series}[${window}]))`;
const queue = (name: string, state = 'visible') =>
  `order_pipeline:queue_messages:max{queue="${name}",state="${state}"}`;
const percent = '{{ $value | humanizePercentage }}';

const windows = [...new Set(BURN_RATES.flatMap(({ short, long }) => [short, long]))];

function lateShare(window: string): string {
  return `${rate('orders_stored_late_total', window)} / (${rate('orders_processed_total{outcome="processed"}', window)} > 0)`;
}

function badRequestShare(window: string): string {
  const all = rate(`http_server_request_duration_seconds_count{${PLACING}}`, window);
  const good = rate(
    `http_server_request_duration_seconds_bucket{${PLACING},status!~"5..",le="${SLOS.answered.withinSeconds}"}`,
    window,
  );
  // Where no request was good, there is no series of good ones.
  return `(${all} - (${good} or ${all} * 0)) / (${all} > 0)`;
}

export const RECORDING_RULES: readonly RecordingRule[] = [
  // Each consumer samples the queues: the largest sample counts, not the sum.
  {
    record: 'order_pipeline:queue_messages:max',
    expr: 'max by (namespace, queue, state) (sqs_queue_messages)',
  },
  { record: 'order_pipeline:instances:count', expr: 'count by (namespace, service) (build_info)' },
  ...windows.map((window) => ({
    record: `order_pipeline:late_orders:ratio_rate${window}`,
    expr: lateShare(window),
  })),
  ...windows.map((window) => ({
    record: `order_pipeline:bad_requests:ratio_rate${window}`,
    expr: badRequestShare(window),
  })),
];

function burnRateAlerts(
  alert: Pick<AlertRule, 'alert' | 'summary'> & {
    what: string;
    record: string;
    objective: number;
    events: string;
  },
): AlertRule[] {
  return BURN_RATES.map(({ factor, long, short, severity, urgency }) => {
    const limit = `${factor} * ${budgetOf(alert.objective)}`;
    return {
      alert: alert.alert,
      expr:
        `${alert.record}${long} > ${limit} and ${alert.record}${short} > ${limit} ` +
        `and ${increase(alert.events, long)} >= ${BURN_MIN_EVENTS}`,
      severity,
      urgency,
      labels: { window: long },
      summary: alert.summary,
      description: `${percent} of ${alert.what} in the last ${long}; the objective allows ${budgetOf(alert.objective) * 100} %. The budget of 30 days burns ${factor} times too fast.`,
      dashboard: 'orders',
    };
  });
}

const budgetOf = (objective: number) => Number((1 - objective).toFixed(6));

/** What follows the service's own name when there are several instances. */
const INSTANCE = '{{ $labels.service }} at {{ $labels.instance }}';

function shareAlerts(
  alert: Pick<AlertRule, 'alert' | 'expr' | 'for' | 'summary' | 'description' | 'dashboard'>,
  { warning, danger }: { warning: number; danger: number },
  comparison: '>' | '<' = '>',
  and = '',
): AlertRule[] {
  const rule = (limit: number, urgency: Urgency): AlertRule => ({
    ...alert,
    expr: `${alert.expr} ${comparison} ${limit}${and}`,
    keepFiringFor: '2m',
    severity: 'warning',
    urgency,
  });
  return [rule(danger, 'high'), rule(warning, 'medium')];
}

/** Few, and each of them asks somebody to do something. */
export const ALERT_RULES: readonly AlertRule[] = [
  ...burnRateAlerts({
    alert: 'OrdersStoredLate',
    what: `orders were stored later than ${SLOS.stored.withinSeconds} s after they were accepted`,
    record: 'order_pipeline:late_orders:ratio_rate',
    objective: SLOS.stored.objective,
    events: 'orders_processed_total{outcome="processed"}',
    summary: 'Customers wait too long until their accepted orders are stored.',
  }),
  ...burnRateAlerts({
    alert: 'RequestsBeyondObjective',
    what: `requests that place orders failed with a 5xx, or took longer than ${SLOS.answered.withinSeconds * 1_000} ms`,
    record: 'order_pipeline:bad_requests:ratio_rate',
    objective: SLOS.answered.objective,
    events: `http_server_request_duration_seconds_count{${PLACING}}`,
    summary: 'Customers cannot place orders, or wait too long for the answer.',
  }),
  {
    alert: 'ServiceAbsent',
    expr: 'count by (namespace, service) (max_over_time(order_pipeline:instances:count[3d])) unless order_pipeline:instances:count',
    for: '1m',
    severity: 'critical',
    urgency: 'critical',
    summary:
      'Without order-producer, customers cannot place orders. Without order-consumer, accepted orders wait in the queue.',
    description: 'No instance of {{ $labels.service }} answers Prometheus.',
    dashboard: 'deployment',
  },
  {
    alert: 'NothingConsumed',
    expr: `${queue(QUEUES.orders)} > 0 unless on (namespace) (${rate(`orders_processed_total{${FINAL}}`, '30s')} > 0)`,
    for: '2m',
    severity: 'critical',
    urgency: 'critical',
    summary: 'Orders are accepted but not stored. They are safe in the queue, and wait.',
    description: '{{ $value }} messages wait, and no message was processed for 2 minutes.',
    dashboard: 'orders',
  },
  {
    alert: 'ConsumptionPaused',
    expr: 'sum by (namespace) (sqs_consumption_paused) > 0',
    for: FIELD.consumptionPaused,
    severity: 'warning',
    urgency: 'medium',
    summary:
      'Orders are accepted, and stored later or not at all: consuming was paused, and nobody has resumed it.',
    description: `{{ $value }} consumers have been paused for ${FIELD.consumptionPaused.replace('m', ' minutes')}.`,
    dashboard: 'orders',
  },
  {
    alert: 'OrdersDelayed',
    expr: `max by (namespace) (sqs_oldest_message_age_seconds) > ${RULES.delaySeconds.critical}`,
    for: '1m',
    severity: 'critical',
    urgency: 'critical',
    summary: 'Customers wait for more than 5 minutes until an accepted order is stored.',
    description: 'The oldest message in the order queue was sent {{ $value | humanizeDuration }} ago.',
    dashboard: 'orders',
  },
  {
    alert: 'DeadLetters',
    expr: `${queue(QUEUES.deadLetters)} > ${RULES.deadLetters.critical}`,
    for: '2m',
    keepFiringFor: '2m',
    severity: 'critical',
    urgency: 'critical',
    summary: 'Accepted orders could not be stored, and wait for a person.',
    description: '{{ $value }} messages are in the dead-letter queue.',
    dashboard: 'orders',
  },
  {
    alert: 'DeadLetters',
    expr: `${queue(QUEUES.deadLetters)} > ${RULES.deadLetters.info}`,
    for: '10m',
    severity: 'info',
    urgency: 'low',
    summary: 'A few accepted orders could not be stored, and wait for a person.',
    description: '{{ $value }} messages are in the dead-letter queue.',
    dashboard: 'orders',
  },
  {
    alert: 'DeadLettersExpire',
    expr:
      `${queue(QUEUES.deadLetters)} offset ${FIELD.deadLettersUnattended} > 0 ` +
      `and min_over_time(${queue(QUEUES.deadLetters)}[${FIELD.deadLettersUnattended}]) > 0`,
    severity: 'warning',
    urgency: 'high',
    summary: 'Accepted orders in the dead-letter queue will be deleted by SQS within days.',
    description: `The dead-letter queue has not been empty for ${FIELD.deadLettersUnattended.replace('d', ' days')}. SQS deletes a message 14 days after it was first sent.`,
    dashboard: 'orders',
  },
  {
    alert: 'SqsUnavailable',
    expr: 'max by (namespace) (circuit_breaker_state{breaker="sqs"}) > 0',
    for: '1m',
    severity: 'critical',
    urgency: 'critical',
    labels: { service: 'order-producer', of: 'breaker' },
    summary: 'Customers cannot place orders: SQS does not take them. What was accepted before is safe.',
    description: 'The circuit breaker to SQS is not closed: orders are answered with 503.',
    dashboard: 'orders',
  },
  {
    alert: 'SqsUnavailable',
    expr: `${rate('sqs_request_duration_seconds_count{result="error"}', '1m', 'namespace, service')} / ${rate('sqs_request_duration_seconds_count', '1m', 'namespace, service')} > ${FIELD.sqsErrorShare}`,
    for: '1m',
    severity: 'critical',
    urgency: 'critical',
    labels: { of: 'requests' },
    summary: 'SQS fails: orders cannot be placed, or accepted orders wait. What was accepted before is safe.',
    description: `${percent} of the requests of {{ $labels.service }} to SQS fail.`,
    dashboard: 'orders',
  },
  {
    alert: 'StoreUnavailable',
    expr: 'max by (namespace) (circuit_breaker_state{breaker="store"}) > 0',
    for: '1m',
    severity: 'critical',
    urgency: 'critical',
    summary: 'Accepted orders are not stored: the database is away. They are safe in the queue, and wait.',
    description: 'An order-consumer does not poll, because its database does not store.',
    dashboard: 'orders',
  },
  {
    alert: 'KmsUnavailable',
    expr: 'max by (namespace, service) (circuit_breaker_state{breaker="kms"}) > 0',
    for: '1m',
    severity: 'critical',
    urgency: 'critical',
    summary:
      'KMS does not encrypt or decrypt: orders cannot be placed, or accepted orders wait. What was accepted before is safe.',
    description:
      'The circuit breaker of {{ $labels.service }} to KMS is not closed: a producer answers orders with 503, a consumer does not poll.',
    dashboard: 'orders',
  },
  ...shareAlerts(
    {
      alert: 'QueueDepthHigh',
      expr: queue(QUEUES.orders),
      for: '5m',
      summary: 'Orders arrive faster than they are stored: customers wait longer.',
      description: '{{ $value }} messages have waited in the order queue for 5 minutes.',
      dashboard: 'orders',
    },
    { warning: PERFORMANCE.queueDepth.warning, danger: RULES.queueDepth.warning },
  ),
  ...shareAlerts(
    {
      alert: 'OrderRateLow',
      expr: rate(`orders_processed_total{${FINAL}}`, '1m'),
      for: '5m',
      summary: 'Orders are stored too slowly while others wait: customers wait longer.',
      description: '{{ $value | humanize }} orders a second are stored, while messages wait in the queue.',
      dashboard: 'orders',
    },
    PERFORMANCE.ordersPerSecond,
    '<',
    ` and on (namespace) ${queue(QUEUES.orders)} > ${PERFORMANCE.queueDepth.danger}`,
  ),
  ...shareAlerts(
    {
      alert: 'ResponseSlow',
      expr: `${rate(`http_server_request_duration_seconds_sum{${PLACING}}`, '5m')} / ${rate(`http_server_request_duration_seconds_count{${PLACING}}`, '5m')}`,
      for: '2m',
      summary: 'Customers wait too long for the answer to their order.',
      description: 'The mean answer takes {{ $value | humanizeDuration }}.',
      dashboard: 'orders',
    },
    PERFORMANCE.responseSeconds,
  ),
  {
    alert: 'ErrorShareHigh',
    expr:
      `${rate(`orders_refused_total{${OUR_REFUSALS}}`, '5m')} / ` +
      `(${rate(`orders_refused_total{${OUR_REFUSALS}}`, '5m')} + ${rate('orders_accepted_total', '5m')}) ` +
      `> ${RULES.errorShare.warning}`,
    for: '1m',
    keepFiringFor: '2m',
    severity: 'warning',
    urgency: 'high',
    labels: { service: 'order-producer' },
    summary: 'Customers are turned away: their orders are refused, and no mistake of theirs is the reason.',
    description: `${percent} of the orders were refused, because SQS or the service could not take them.`,
    dashboard: 'orders',
  },
  {
    alert: 'ErrorShareHigh',
    expr:
      `${rate(`orders_processed_total{${FAILED}}`, '5m')} / ${rate('orders_processed_total', '5m')} ` +
      `> ${RULES.errorShare.warning} and ${increase(`orders_processed_total{${FAILED}}`, '5m')} > 5`,
    for: '1m',
    keepFiringFor: '2m',
    severity: 'warning',
    urgency: 'high',
    labels: { service: 'order-consumer' },
    summary: 'Accepted orders fail to be stored, and are tried again or wait for a person.',
    description: `${percent} of the outcomes are failures or rejections.`,
    dashboard: 'orders',
  },
  {
    alert: 'InFlightNearLimit',
    expr: `${queue(QUEUES.orders, 'in_flight')} > ${FIELD.inFlight}`,
    for: '2m',
    keepFiringFor: '2m',
    severity: 'warning',
    urgency: 'high',
    summary: 'Soon SQS will hand out no more orders, and accepted orders will wait.',
    description: '{{ $value }} messages are in flight. SQS allows 120,000.',
    dashboard: 'orders',
  },
  {
    alert: 'LeasesLost',
    expr: `${increase('sqs_leases_lost_total', '10m')} > ${FIELD.leasesLostPer10m}`,
    severity: 'warning',
    urgency: 'medium',
    summary: 'Orders are processed more than once. Each is stored once, but later.',
    description: '{{ $value | humanize }} leases ended within 10 minutes before their messages were settled.',
    dashboard: 'orders',
  },
  {
    alert: 'SettleErrors',
    expr: `${increase('sqs_settle_errors_total', '10m')} > ${FIELD.settleErrorsPer10m}`,
    severity: 'warning',
    urgency: 'medium',
    summary: 'Orders that are stored come again, and delay others. None is stored twice.',
    description:
      'SQS did not confirm {{ $value | humanize }} deletions, releases or dead letters within 10 minutes.',
    dashboard: 'orders',
  },
  {
    alert: 'JournalNotWritten',
    expr: `${increase('orders_unjournaled_total', '10m')} > 0`,
    severity: 'warning',
    urgency: 'high',
    summary: 'Orders are accepted and safe, but a loss among them could not be proven later.',
    description:
      '{{ $value | humanize }} accepted orders within 10 minutes have no line in the acceptance journal.',
    dashboard: 'orders',
  },
  {
    alert: 'ApiKeysNotRead',
    expr: `${increase('api_key_file_errors_total', '1h')} > 0`,
    severity: 'warning',
    urgency: 'medium',
    summary: 'Clients with a new key cannot place orders, and a key that was withdrawn still works.',
    description: 'The file of API keys changed within the last hour to one that could not be used.',
    dashboard: 'deployment',
  },
  ...['database_login', 'encryption_key'].map(
    (secret): AlertRule => ({
      alert: 'SecretNotRead',
      expr: `${increase(`${secret}_file_errors_total`, '1h')} > 0`,
      severity: 'warning',
      urgency: 'medium',
      labels: { of: secret },
      summary: 'No effect on customers yet: the secret before stays in force, for as long as it is accepted.',
      description: 'The file of a secret changed within the last hour to one that could not be used.',
      dashboard: 'deployment',
    }),
  ),
  {
    alert: 'SecretOld',
    expr: `max by (namespace, service, secret) (secret_age_seconds) > ${FIELD.secretAgeDays} * 86400`,
    severity: 'warning',
    urgency: 'medium',
    summary: 'No effect on customers. A secret is due to be replaced within 10 days.',
    description:
      'The file of {{ $labels.secret }} of {{ $labels.service }} was last changed {{ $value | humanizeDuration }} ago.',
    dashboard: 'deployment',
  },
  ...shareAlerts(
    {
      alert: 'MemoryHigh',
      expr: `max by (namespace, service, instance) (process_resident_memory_bytes) / ${MEMORY_LIMIT_BYTES}`,
      for: '5m',
      summary: 'A service may soon be killed. No accepted order is lost, but requests would fail.',
      description: `${INSTANCE} uses ${percent} of its memory limit.`,
      dashboard: 'resources',
    },
    PERFORMANCE.memoryShare,
  ),
  ...shareAlerts(
    {
      alert: 'CpuHigh',
      expr: 'max by (namespace, service, instance) (rate(process_cpu_seconds_total[5m]))',
      for: '10m',
      summary: 'A service is at its limit: with more orders, customers would wait longer.',
      description: `${INSTANCE} uses ${percent} of a processor. One event loop cannot use more than one.`,
      dashboard: 'resources',
    },
    PERFORMANCE.cpuShare,
  ),
  {
    alert: 'SqsCostHigh',
    labels: { of: 'requests' },
    expr:
      `${rate('sqs_request_duration_seconds_count', '1h')} / ` +
      `(${rate('orders_stored_total', '1h')} > ${FIELD.sqsRequestsPerOrderFromOrdersPerSecond}) > ${FIELD.sqsRequestsPerOrder}`,
    for: '15m',
    severity: 'info',
    urgency: 'low',
    summary: 'No effect on customers. SQS costs more than it should.',
    description: '{{ $value | humanize }} requests to SQS per order; a lone order needs three.',
    dashboard: 'resources',
  },
  {
    alert: 'SqsCostHigh',
    labels: { of: 'empty polls' },
    expr: `max by (namespace, instance) (rate(sqs_empty_polls_total[15m])) > ${FIELD.emptyPollsPerSecond}`,
    for: '15m',
    severity: 'info',
    urgency: 'low',
    summary: 'No effect on customers. SQS costs more than it should.',
    description:
      'The consumer at {{ $labels.instance }} polls {{ $value | humanize }} times a second for nothing: its polls do not wait.',
    dashboard: 'resources',
  },
  {
    alert: 'ServiceRestarted',
    expr: 'max by (namespace, service, instance) (changes(process_start_time_seconds[5m])) > 0',
    severity: 'info',
    urgency: 'low',
    summary: 'No effect on customers, if it does not happen again: nothing accepted is lost.',
    description: `${INSTANCE} was started again.`,
    dashboard: 'deployment',
  },
  {
    alert: 'ReleaseDeployed',
    expr:
      'count by (namespace, service, version) (build_info) ' +
      'unless count by (namespace, service, version) (build_info offset 10m) ' +
      'and on (namespace, service) count by (namespace, service) (build_info offset 10m)',
    severity: 'info',
    urgency: 'low',
    summary: 'No effect on customers is expected.',
    description: 'Version {{ $labels.version }} of {{ $labels.service }} runs.',
    dashboard: 'deployment',
  },
];
