import {
  type CommonMetrics,
  Counter,
  createMetrics,
  Gauge,
  Histogram,
  LATENCY_BUCKETS,
} from '@orders/shared/runtime/metrics.ts';
import type { RefusalCode } from './domain/errors.ts';

/** Each refusal of the use case: a new one does not compile until it is here. */
const OF_USE_CASE = {
  order_too_large: true,
  order_not_sendable: true,
  buffer_full: true,
  queue_unavailable: true,
} as const satisfies Record<Lowercase<RefusalCode>, true>;
/** Of requests that never got there. */
const BEFORE_USE_CASE = { invalid: true, busy: true, rate_limited: true } as const;

const REFUSAL_REASONS = { ...OF_USE_CASE, ...BEFORE_USE_CASE };
/** Label of `orders_refused_total`. */
export type RefusalReason = keyof typeof REFUSAL_REASONS;

/** docs/metrics.md, generated from this, says which panel and which alert uses each. */
export type ProducerMetrics = CommonMetrics & {
  ordersAccepted: Counter;
  ordersRefused: Counter<'reason'>;
  /** The journal has gaps, and reconcile cannot vouch for these orders. */
  ordersUnjournaled: Counter;
  ordersPublished: Counter<'result'>;
  publishDuration: Histogram;
  batchSize: Histogram;
  bufferedOrders: Gauge;
};

export function createProducerMetrics(version: string, bufferedOrders: () => number): ProducerMetrics {
  const common = createMetrics('order-producer', version);
  const registers = [common.registry];
  const ordersRefused = new Counter({
    name: 'orders_refused_total',
    help: 'orders refused, and requests that were refused before their orders were read',
    labelNames: ['reason'],
    registers,
  });
  // From the start, so that a rate sees the first one too.
  for (const reason of Object.keys(REFUSAL_REASONS)) ordersRefused.inc({ reason }, 0);
  return {
    ...common,
    ordersAccepted: new Counter({
      name: 'orders_accepted_total',
      help: 'orders answered with 202',
      registers,
    }),
    ordersRefused,
    ordersUnjournaled: new Counter({
      name: 'orders_unjournaled_total',
      help: 'accepted orders whose line in the acceptance journal could not be written',
      registers,
    }),
    ordersPublished: new Counter({
      name: 'orders_published_total',
      help: 'orders sent to SQS',
      labelNames: ['result'],
      registers,
    }),
    publishDuration: new Histogram({
      name: 'order_publish_duration_seconds',
      help: 'time from handing an order to the publisher until SQS confirms it',
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    batchSize: new Histogram({
      name: 'sqs_publish_batch_entries',
      help: 'messages per request; a packed message holds up to 100 orders',
      buckets: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
      registers,
    }),
    bufferedOrders: new Gauge({
      name: 'orders_buffered',
      help: 'orders waiting for or in flight to SQS',
      registers,
      collect() {
        this.set(bufferedOrders());
      },
    }),
  };
}
