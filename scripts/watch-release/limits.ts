import type { Limit } from '../judge.ts';

/** A figure of the business, and what it must keep to while a release is watched. */
export type BusinessLimit = Limit & {
  /** PromQL with at most one value. `$namespace` is where the release runs, `$before` an offset to before it. */
  query: string;
};

/** Of orders a second: below it, shares say nothing. */
const TRAFFIC = '0.1';
/** A client that reaches its limit says nothing of a release. */
const REFUSED = 'orders_refused_total{namespace="$namespace",reason!="rate_limited"}';
const shareRefused = (offset: string) =>
  `sum(rate(${REFUSED}[5m]${offset})) / ` +
  `(sum(rate(${REFUSED}[5m]${offset})) + ` +
  `(sum(rate(orders_accepted_total{namespace="$namespace"}[5m]${offset})) > ${TRAFFIC}))`;

/** All that decides whether a release stays. A limit that trips on a quiet night makes the next one unread. */
export const LIMITS: BusinessLimit[] = [
  {
    name: 'instances of order-producer that are scraped',
    query: 'count(orders_accepted_total{namespace="$namespace"})',
    min: 1,
    absent: 'is a breach',
  },
  {
    name: 'instances of order-consumer that are scraped',
    query: 'count(orders_stored_total{namespace="$namespace"})',
    min: 1,
    absent: 'is a breach',
  },
  {
    // An evening's ebb stays above it; a door that is shut does not.
    name: 'orders accepted, as a share of those before the release',
    share: true,
    query:
      'sum(rate(orders_accepted_total{namespace="$namespace"}[5m])) / ' +
      `(sum(rate(orders_accepted_total{namespace="$namespace"}[1h] offset $before)) > ${TRAFFIC})`,
    min: 0.3,
    absent: 'is fine',
  },
  {
    // Clients' own mistakes are there before and after it.
    name: 'share of orders refused, beyond that before the release',
    share: true,
    query: `(${shareRefused('')}) - (${shareRefused(' offset $before')} or vector(0))`,
    max: 0.05,
    absent: 'is fine',
  },
  {
    name: 'share of requests for orders answered with 5xx',
    share: true,
    query:
      'sum(rate(http_server_request_duration_seconds_count{namespace="$namespace",route=~"/orders.*",status=~"5.."}[5m])) / ' +
      'sum(rate(http_server_request_duration_seconds_count{namespace="$namespace",route=~"/orders.*"}[5m]))',
    max: 0.01,
    absent: 'is fine',
  },
  {
    name: 'p99 of publishing an order, seconds',
    query:
      'histogram_quantile(0.99, sum by (le) (rate(order_publish_duration_seconds_bucket{namespace="$namespace"}[5m])))',
    max: 1,
    absent: 'is fine',
  },
  {
    name: 'orders stored, as a share of those accepted',
    share: true,
    query:
      'sum(rate(orders_stored_total{namespace="$namespace"}[10m])) / ' +
      `(sum(rate(orders_accepted_total{namespace="$namespace"}[10m])) > ${TRAFFIC})`,
    min: 0.8,
    absent: 'is fine',
  },
  {
    name: 'p95 from send to receive of an order, seconds',
    query:
      'histogram_quantile(0.95, sum by (le) (rate(order_queue_time_seconds_bucket{namespace="$namespace"}[5m])))',
    max: 60,
    absent: 'is fine',
  },
  {
    // The producer has validated them: those few that are known come one at a time.
    name: 'share of messages that are dead-lettered',
    share: true,
    query:
      '(sum(increase(orders_dead_lettered_total{namespace="$namespace"}[5m])) > 3) / ' +
      'sum(increase(orders_processed_total{namespace="$namespace"}[5m]))',
    max: 0.001,
    absent: 'is fine',
  },
];
