import { readContacts } from '../monitoring/contacts.ts';
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

/** A row of the escalation matrix (monitoring/contacts.yaml). */
export type Escalation = {
  /** Then the second contacts are told. */
  respondWithinMinutes: number;
  /** Then those whom it escalates to. */
  escalateAfterMinutes: number;
  /** For so long, an acknowledgement keeps the alarm from them. */
  repeatMinutes: number;
};

const { escalation, runbooksUrl } = readContacts();

/** Where the pages of docs/runbooks are read. */
export const RUNBOOKS = runbooksUrl;

const UNITS: Readonly<Record<string, number>> = { s: 1 / 60, m: 1, h: 60, d: 24 * 60 };
const minutes = (duration: string) =>
  Number.parseInt(duration, 10) * (UNITS[duration.slice(-1)] ?? Number.NaN);
const row = ({ respondWithin, escalateAfter, repeat }: (typeof escalation)['critical']): Escalation => ({
  respondWithinMinutes: minutes(respondWithin),
  escalateAfterMinutes: minutes(escalateAfter),
  repeatMinutes: minutes(repeat),
});

/** The two urgencies that somebody is called for. */
export const ESCALATION = { critical: row(escalation.critical), high: row(escalation.high) } as const;

/**
 * What scripts/ack.sh writes: an alarm looks at it, for as long as the matrix says that nobody is told again.
 */
export const ACKNOWLEDGEMENT = {
  namespace: 'Orders/Alerts',
  metricName: 'Acknowledged',
  dimension: 'Alarm',
} as const;
