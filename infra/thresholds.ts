/**
 * Where CloudWatch's alarms stand: the one place from which infra/stacks/observability.ts takes them. The figures are the
 * guideline's.
 */
export const THRESHOLDS = {
  /** Alarm rules: MON-002. */
  deadLetters: { critical: 10 },
  queueDepth: { warning: 100 },
  delaySeconds: { critical: 300 },
  errorShare: { warning: 0.05 },
  /** Goals: PERF-003. A rate counts only while there is a backlog: without one, clients order less. */
  ordersPerSecond: { warning: 800, danger: 500 },
  backlog: { warning: 50, danger: 100 },
  memoryShare: { warning: 0.8, danger: 0.9 },
  cpuShare: { warning: 0.75, danger: 0.85 },
  /**
   * SQS hands out at most 120,000 messages of a standard queue at a time:
   * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
   */
  inFlight: { critical: 0.8 * 120_000 },
} as const;

/** Of the alarms that the guideline describes. */
export const PERIOD_SECONDS = 300;
