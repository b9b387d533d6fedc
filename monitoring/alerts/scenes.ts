import { ALERT_RULES, type AlertRule } from '../rules.ts';
import type { RunningPair } from './running-pair.ts';

/** A fault, and the rules that must tell of it. */
export type Scene = {
  title: string;
  /** By {@link ruleName}. */
  rules: readonly string[];
  /** Brings the fault about. Resolves with what ends it. */
  begin: (pair: RunningPair) => Promise<() => Promise<void>>;
};

/** Tells rules of the same alert apart. */
export const ruleName = ({ alert, urgency, labels = {} }: AlertRule) =>
  [alert, urgency, ...Object.values(labels)].join(' ');

export const SCENES: readonly Scene[] = [
  {
    title: 'poison flood',
    rules: ['DeadLetters critical', 'ErrorShareHigh high order-consumer'],
    begin: async ({ floodWithPoison }) => floodWithPoison(),
  },
  {
    title: 'store away',
    rules: ['StoreUnavailable critical'],
    begin: async ({ lockStore }) => {
      const unlock = lockStore();
      return async () => unlock();
    },
  },
  {
    title: 'consumer stopped with a backlog',
    rules: ['ServiceAbsent critical'],
    begin: async ({ stopConsumer, startConsumer }) => {
      await stopConsumer();
      return startConsumer;
    },
  },
  {
    title: 'consuming paused, and forgotten',
    rules: ['ConsumptionPaused medium', 'NothingConsumed critical'],
    begin: async ({ setPaused }) => {
      await setPaused(true);
      return () => setPaused(false);
    },
  },
  {
    title: 'SQS away',
    rules: ['SqsUnavailable critical requests', 'SqsUnavailable critical order-producer breaker'],
    begin: async ({ proxy }) => {
      const fault = await proxy.inject({ kind: 'unreachable' });
      return fault.end;
    },
  },
];

const NEEDS_LOAD = 'needs more load than a shared machine can give in a few minutes';
const LONG_WINDOW = 'its window would be minutes long even when shortened';

/** Why the scenes leave out an alert, or one rule of it. promtool tests each of them: monitoring/prometheus/tests. */
export const LEFT_OUT: Readonly<Record<string, string>> = {
  OrdersStoredLate: 'counts orders of hours and days, at least 1,000, stored more than 30 s late',
  RequestsBeyondObjective: 'counts at least 1,000 requests of hours and days',
  OrdersDelayed: 'an order must be 5 minutes old, which no shorter window changes',
  'DeadLetters low': 'the critical rule of the same alert, which is driven, inhibits it',
  DeadLettersExpire: 'looks back seven days',
  QueueDepthHigh: NEEDS_LOAD,
  OrderRateLow: NEEDS_LOAD,
  ResponseSlow: NEEDS_LOAD,
  'ErrorShareHigh high order-producer': 'SqsUnavailable, which is driven, inhibits it',
  KmsUnavailable: 'the pair runs without encryption: no KMS is at hand without containers',
  InFlightNearLimit: 'needs 100,000 messages in flight',
  LeasesLost: LONG_WINDOW,
  SettleErrors: LONG_WINDOW,
  JournalNotWritten: LONG_WINDOW,
  ApiKeysNotRead: LONG_WINDOW,
  SecretNotRead: 'the pair has neither a login of a database nor a key for encryption',
  SecretOld: 'a secret must be 80 days old',
  MemoryHigh: NEEDS_LOAD,
  CpuHigh: NEEDS_LOAD,
  SqsCostHigh: LONG_WINDOW,
  ServiceRestarted: 'on a slow machine, a start takes longer than its window does when shortened',
  ReleaseDeployed: 'one version of the code is at hand',
};

export const findRule = (name: string): AlertRule => {
  const rule = ALERT_RULES.find((each) => ruleName(each) === name);
  if (!rule) throw new Error(`no rule ${name}`);
  return rule;
};
