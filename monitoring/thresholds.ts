/**
 * The one table of figures that rules, Alertmanager's routes, dashboards and docs are generated from (`npm run docs`).
 * Durations in texts are Prometheus's: `5m`, `1h`.
 */

export type Severity = 'critical' | 'warning' | 'info';

/** A row of the escalation matrix, in contacts.yaml: who is called, and when. */
export type Urgency = 'critical' | 'high' | 'medium' | 'low';

/** Performance goals. A figure between goal and warning needs nobody. */
export const PERFORMANCE = {
  /** Low rates count only while there is a backlog: without one, clients order less, and nothing is wrong. */
  ordersPerSecond: { goal: 1_000, warning: 800, danger: 500 },
  /** Mean of the requests that place orders. */
  responseSeconds: { goal: 0.1, warning: 0.2, danger: 0.5 },
  /** Messages that wait in the order queue. */
  queueDepth: { goal: 10, warning: 50, danger: 100 },
  /** Of the pod's memory limit. */
  memoryShare: { goal: 0.7, warning: 0.8, danger: 0.9 },
  /** Of one processor: all that one event loop can use. */
  cpuShare: { goal: 0.6, warning: 0.75, danger: 0.85 },
} as const;

/**
 * Rules of the alerts. They decide the severity where {@link PERFORMANCE} disagrees: a depth of 100 is a warning, though
 * it is called danger there. *Warning* is urgent (`high`) if it is named here or called danger there, else `medium`.
 */
export const RULES = {
  deadLetters: { info: 0, critical: 10 },
  delaySeconds: { critical: 300 },
  queueDepth: { warning: 100 },
  errorShare: { warning: 0.05 },
} as const;

export const SLOS = {
  /** Of the orders that are stored. `orders_stored_late_total` has the time built in. */
  stored: { objective: 0.999, withinSeconds: 30 },
  /** Of the requests that place orders: no 5xx, and in time. A bucket of the histogram has this bound. */
  answered: { objective: 0.999, withinSeconds: 0.1 },
} as const;

/**
 * How fast the error budget of 30 days burns: 14.4 times as fast as it may uses 2 % of it in an hour. The short window ends
 * the alert soon after the cause ends. https://sre.google/workbook/alerting-on-slos/#6-multiwindow-multi-burn-rate-alerts
 */
export const BURN_RATES = [
  { factor: 14.4, long: '1h', short: '5m', severity: 'critical', urgency: 'critical' },
  { factor: 6, long: '6h', short: '30m', severity: 'critical', urgency: 'critical' },
  { factor: 3, long: '1d', short: '2h', severity: 'warning', urgency: 'high' },
  { factor: 1, long: '3d', short: '6h', severity: 'warning', urgency: 'medium' },
] as const satisfies { factor: number; long: string; short: string; severity: Severity; urgency: Urgency }[];

/** Below this number of orders or requests in the long window, a single one would burn the budget: no burn alert. */
export const BURN_MIN_EVENTS = 1_000;

/** What operating SQS taught others. */
export const FIELD = {
  /** SQS refuses to hand out more than 120,000 messages of a standard queue at a time. */
  inFlight: 100_000,
  /** The DLQ keeps a message for 14 days from its first send, of which the order queue may have used 4. */
  deadLettersUnattended: '7d',
  /** A pause that is longer may be one that was forgotten. */
  consumptionPaused: '15m',
  leasesLostPer10m: 5,
  settleErrorsPer10m: 10,
  sqsErrorShare: 0.5,
  /** One each to send, receive and delete is the most that a lone order needs. */
  sqsRequestsPerOrder: 4,
  sqsRequestsPerOrderFromOrdersPerSecond: 10,
  /** A poll of an empty queue waits for 20 s; for 2 s in development. */
  emptyPollsPerSecond: 2,
  /** Secrets are replaced every 90 days (docs/security.md). */
  secretAgeDays: 80,
  /** US$ for a million requests to a standard queue: https://aws.amazon.com/sqs/pricing/ */
  sqsDollarsPerMillionRequests: 0.4,
} as const;

/** Of the containers, in k8s/base. */
export const MEMORY_LIMIT_BYTES = 512 * 1024 * 1024;

/** Names by default; whoever changes ORDER_QUEUE_NAME or ORDER_DLQ_NAME changes them here. */
export const QUEUES = { orders: 'order-queue', deadLetters: 'order-dlq' } as const;

/** A fault is told within `for` plus 60 s: sampling the queues, scraping and evaluating take 15 s each at most, grouping 5 s. */
export const INTERVALS = { scrape: '15s', evaluate: '15s', group: '5s' } as const;
