import { PERFORMANCE, RULES } from '../monitoring/thresholds.ts';

/** Where CloudWatch's alarms stand: the figures of Prometheus's, and those that only AWS has. */
export const THRESHOLDS = {
  ...RULES,
  ordersPerSecond: PERFORMANCE.ordersPerSecond,
  /** Messages that wait: a low rate counts only above it. */
  backlog: PERFORMANCE.queueDepth,
  memoryShare: PERFORMANCE.memoryShare,
  cpuShare: PERFORMANCE.cpuShare,
  /**
   * SQS hands out at most 120,000 messages of a standard queue at a time:
   * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
   */
  inFlight: { critical: 0.8 * 120_000 },
} as const;

/** Of the alarms that the guideline describes. */
export const PERIOD_SECONDS = 300;
