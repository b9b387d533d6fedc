import {
  type CommonMetrics,
  Counter,
  createMetrics,
  Gauge,
  Histogram,
  LATENCY_BUCKETS,
} from '@orders/shared/runtime/metrics.ts';
import type { RefusalCode } from './domain/errors.ts';

/** Label of `orders_refused_total`: a refusal of the use case, or a request that never got there. */
export type RefusalReason = Lowercase<RefusalCode> | 'invalid' | 'busy' | 'rate_limited';

export type ProducerMetrics = CommonMetrics & {
  /** Dashboard: rate in. Alert: none comes in. */
  ordersAccepted: Counter;
  /** Alert: share of refused orders, by reason. */
  ordersRefused: Counter<'reason'>;
  /** Alert: any; the journal has gaps, and reconcile cannot vouch for these orders. */
  ordersUnjournaled: Counter;
  /** Dashboard: orders by fate, each once. */
  ordersPublished: Counter<'result'>;
  /** Alert: p99 of publishing. From hand-over to confirmation. */
  publishDuration: Histogram;
  /** Dashboard: how full batches are; requests per order. */
  batchSize: Histogram;
  /** Alert: buffer near its limit. */
  bufferedOrders: Gauge;
};

export function createProducerMetrics(version: string, bufferedOrders: () => number): ProducerMetrics {
  const common = createMetrics('order-producer', version);
  const registers = [common.registry];
  return {
    ...common,
    ordersAccepted: new Counter({
      name: 'orders_accepted_total',
      help: 'orders answered with 202',
      registers,
    }),
    ordersRefused: new Counter({
      name: 'orders_refused_total',
      help: 'orders refused',
      labelNames: ['reason'],
      registers,
    }),
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
