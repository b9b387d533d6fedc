import { OUR_REFUSALS, PLACING } from './rules.ts';
import { FIELD, MEMORY_LIMIT_BYTES, PERFORMANCE, QUEUES } from './thresholds.ts';

export type Query = { expr: string; legend: string };

export type Panel = {
  title: string;
  /** What a good and a bad picture look like. */
  description: string;
  /** As Grafana calls it: https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts */
  unit: string;
  queries: readonly Query[];
  /** Lines in the picture. For what must not be too low, warning is above danger. */
  limits?: { warning: number; danger: number };
  /** Instead of the time of the dashboard. */
  timeFrom?: string;
};

export type Dashboard = {
  uid: 'orders' | 'resources' | 'deployment';
  title: string;
  description: string;
  rows: readonly { title: string; panels: readonly Panel[] }[];
};

const NS = 'namespace=~"$namespace"';
const select = (series: string, labels = '') => `${series}{${labels ? `${labels},` : ''}${NS}}`;
const perSecond = (series: string, labels = '', by = '') =>
  `sum${by && ` by (${by})`} (rate(${select(series, labels)}[$__rate_interval]))`;
const mean = (histogram: string, labels = '', by = '') =>
  `${perSecond(`${histogram}_sum`, labels, by)} / ${perSecond(`${histogram}_count`, labels, by)}`;
const quantile = (share: number, histogram: string, labels = '', by = '') =>
  `histogram_quantile(${share}, ${perSecond(`${histogram}_bucket`, labels, by ? `le, ${by}` : 'le')})`;
/** Of the versions of a service, beside each other. */
const perVersion = (series: string, labels = '') =>
  `sum by (service, version) (rate(${select(series, labels)}[$__rate_interval]) * on (service, instance) group_left (version) build_info)`;
const depth = (queue: string, state: string) =>
  `max by (state) (${select('sqs_queue_messages', `queue="${queue}",state=~"${state}"`)})`;
const PODS = 'pod=~"order-.*"';

export const DASHBOARDS: readonly Dashboard[] = [
  {
    uid: 'orders',
    title: 'Orders',
    description: 'The way of orders: in, through the queue, into the store.',
    rows: [
      {
        title: 'Flow',
        panels: [
          {
            title: 'Rates in and out',
            description: 'The lines lie on each other. Where *accepted* is above *stored*, the queue grows.',
            unit: 'ops',
            queries: [
              { expr: perSecond('orders_accepted_total'), legend: 'accepted' },
              { expr: perSecond('orders_published_total', 'result="confirmed"'), legend: 'sent' },
              { expr: perSecond('sqs_messages_received_total'), legend: 'messages received' },
              { expr: perSecond('orders_stored_total'), legend: 'stored' },
            ],
          },
          {
            title: 'Queue depth',
            description: 'Messages that wait. Peaks that go away are harmless.',
            unit: 'short',
            queries: [{ expr: depth(QUEUES.orders, 'visible|delayed'), legend: '{{state}}' }],
            limits: PERFORMANCE.queueDepth,
          },
          {
            title: 'In flight',
            description:
              'Received and not settled. SQS allows 120,000. Leases are those of the consumers that run.',
            unit: 'short',
            queries: [
              { expr: depth(QUEUES.orders, 'in_flight'), legend: 'in flight' },
              { expr: `sum (${select('sqs_leases_in_flight')})`, legend: 'leases' },
              { expr: `sum (${select('sqs_work_limit')})`, legend: 'most at once' },
              { expr: `sum (${select('sqs_consumption_paused')})`, legend: 'consumers that are paused' },
            ],
          },
          {
            title: 'Oldest message',
            description:
              'How long the oldest message of the last poll had waited. It grows while nothing is polled.',
            unit: 's',
            queries: [{ expr: `max (${select('sqs_oldest_message_age_seconds')})`, legend: 'age' }],
          },
          {
            title: 'Dead letters',
            description: 'Orders that wait for a person. It should be 0.',
            unit: 'short',
            queries: [{ expr: depth(QUEUES.deadLetters, 'visible'), legend: 'messages' }],
          },
          {
            title: 'Dead letters, by reason',
            description: 'What was sent to the dead-letter queue within an hour, and why.',
            unit: 'short',
            queries: [
              {
                expr: `sum by (reason) (increase(${select('orders_dead_lettered_total')}[1h]))`,
                legend: '{{reason}}',
              },
            ],
          },
        ],
      },
      {
        title: 'Time',
        panels: [
          {
            title: 'Answer, mean and p99',
            description: 'Of the requests that place orders. The goal is a mean below 100 ms.',
            unit: 's',
            queries: [
              { expr: mean('http_server_request_duration_seconds', PLACING), legend: 'mean' },
              { expr: quantile(0.99, 'http_server_request_duration_seconds', PLACING), legend: 'p99' },
            ],
            limits: PERFORMANCE.responseSeconds,
          },
          {
            title: 'Sending to SQS, p99',
            description: 'From handing over an order until SQS has confirmed it: most of the answer.',
            unit: 's',
            queries: [{ expr: quantile(0.99, 'order_publish_duration_seconds'), legend: 'p99' }],
          },
          {
            title: 'In the queue, mean and p99',
            description: 'From send to receive. Redeliveries count with all of their time.',
            unit: 's',
            queries: [
              { expr: mean('order_queue_time_seconds'), legend: 'mean' },
              { expr: quantile(0.99, 'order_queue_time_seconds'), legend: 'p99' },
            ],
          },
          {
            title: 'Processing, mean and p99',
            description: 'From receive to outcome, per batch.',
            unit: 's',
            queries: [
              { expr: mean('order_processing_duration_seconds'), legend: 'mean' },
              { expr: quantile(0.99, 'order_processing_duration_seconds'), legend: 'p99' },
            ],
          },
          {
            title: 'Store, p99',
            description: 'Calls to the database, by what they do.',
            unit: 's',
            queries: [
              { expr: quantile(0.99, 'store_duration_seconds', '', 'operation'), legend: '{{operation}}' },
            ],
          },
          {
            title: 'Throughput, last seven days',
            description: 'Hourly mean. The same hour of other days is the measure.',
            unit: 'ops',
            queries: [{ expr: `sum (rate(${select('orders_stored_total')}[1h]))`, legend: 'stored' }],
            timeFrom: '7d',
          },
        ],
      },
      {
        title: 'Outcomes',
        panels: [
          {
            title: 'Outcomes',
            description:
              'What became of orders. *released* is nobody’s fault; *retry* and *rejected* are failures.',
            unit: 'ops',
            queries: [{ expr: perSecond('orders_processed_total', '', 'outcome'), legend: '{{outcome}}' }],
          },
          {
            title: 'Share of failures',
            description:
              'Orders that were refused through no fault of the client, and accepted orders that failed.',
            unit: 'percentunit',
            queries: [
              {
                expr: `${perSecond('orders_refused_total', OUR_REFUSALS)} / (${perSecond('orders_refused_total', OUR_REFUSALS)} + ${perSecond('orders_accepted_total')})`,
                legend: 'refused',
              },
              {
                expr: `(${perSecond('orders_processed_total', 'outcome=~"retry|rejected"')} or vector(0)) / ${perSecond('orders_processed_total')}`,
                legend: 'failed',
              },
            ],
            limits: { warning: 0.05, danger: 0.05 },
          },
          {
            title: 'Refused, by reason',
            description: '*invalid* and *order_…* are mistakes of clients, the others are ours.',
            unit: 'ops',
            queries: [{ expr: perSecond('orders_refused_total', '', 'reason'), legend: '{{reason}}' }],
          },
          {
            title: 'Orders a minute, share rejected',
            description: 'What the business asks for.',
            unit: 'short',
            queries: [
              { expr: `60 * ${perSecond('orders_stored_total')}`, legend: 'orders a minute' },
              {
                expr: `100 * ${perSecond('orders_dead_lettered_total')} / (${perSecond('orders_stored_total')} + ${perSecond('orders_dead_lettered_total')})`,
                legend: 'rejected, %',
              },
            ],
          },
          {
            title: 'Amount a minute',
            description: 'In minor units of the currency: cents, won.',
            unit: 'short',
            queries: [
              {
                expr: `60 * ${perSecond('orders_stored_amount_total', '', 'currency')}`,
                legend: '{{currency}}',
              },
            ],
          },
          {
            title: 'Late orders',
            description:
              'Share of orders stored later than 30 s, and of requests beyond the objective. 0.1 % is allowed.',
            unit: 'percentunit',
            queries: [
              {
                expr: `${perSecond('orders_stored_late_total')} / ${perSecond('orders_processed_total', 'outcome="processed"')}`,
                legend: 'late now',
              },
              { expr: select('order_pipeline:late_orders:ratio_rate1h'), legend: 'late, 1 h' },
              { expr: select('order_pipeline:bad_requests:ratio_rate1h'), legend: 'requests, 1 h' },
            ],
            limits: { warning: 0.001, danger: 0.0144 },
          },
          {
            title: 'Trouble with SQS',
            description: 'Within 5 minutes. A few redeliveries after a restart are normal.',
            unit: 'short',
            queries: [
              ['sqs_messages_redelivered_total', 'received again'],
              ['sqs_poll_errors_total', 'failed polls'],
              ['sqs_leases_lost_total', 'lost leases'],
              ['sqs_settle_errors_total', 'not confirmed'],
              ['orders_unjournaled_total', 'not in the journal'],
              ['order_fates_unrecorded_total', 'rejected, and not recorded'],
            ].map(([series = '', legend = '']) => ({
              expr: `sum (increase(${select(series)}[5m]))`,
              legend,
            })),
          },
          {
            title: 'Who asks',
            description:
              'Requests to routes that are not public. Many refused: a key has expired, or somebody tries.',
            unit: 'reqps',
            queries: [
              {
                expr: perSecond('http_authentications_total', '', 'method, result'),
                legend: '{{method}} {{result}}',
              },
              {
                expr: perSecond('api_key_file_errors_total', '', 'service'),
                legend: 'keys not read, {{service}}',
              },
              {
                expr: perSecond('encryption_key_file_errors_total', '', 'service'),
                legend: '{{service}}: file of encryption keys',
              },
              {
                expr: perSecond('database_login_file_errors_total', '', 'service'),
                legend: "{{service}}: files of the database's login",
              },
              {
                expr: perSecond('http_rate_limited_total', '', 'limit'),
                legend: 'limited by {{limit}}',
              },
            ],
          },
        ],
      },
    ],
  },
  {
    uid: 'resources',
    title: 'Resources',
    description: 'What the services use, and what SQS costs.',
    rows: [
      {
        title: 'Processes',
        panels: [
          {
            title: 'CPU',
            description: 'Of one processor, which is all that an event loop can use.',
            unit: 'percentunit',
            queries: [
              {
                expr: `rate(${select('process_cpu_seconds_total')}[$__rate_interval])`,
                legend: '{{service}} {{instance}}',
              },
            ],
            limits: PERFORMANCE.cpuShare,
          },
          {
            title: 'Memory',
            description: 'Of the limit of the container.',
            unit: 'percentunit',
            queries: [
              {
                expr: `${select('process_resident_memory_bytes')} / ${MEMORY_LIMIT_BYTES}`,
                legend: '{{service}} {{instance}}',
              },
            ],
            limits: PERFORMANCE.memoryShare,
          },
          {
            title: 'Heap',
            description: 'What JavaScript uses. A line that rises for hours is a leak.',
            unit: 'bytes',
            queries: [{ expr: select('nodejs_heap_size_used_bytes'), legend: '{{service}} {{instance}}' }],
          },
          {
            title: 'Event loop',
            description: 'p99 of its lag. Heartbeats are late beyond seconds.',
            unit: 's',
            queries: [
              { expr: select('nodejs_eventloop_lag_p99_seconds'), legend: '{{service}} {{instance}}' },
            ],
          },
          {
            title: 'Connections to the database',
            description: 'Waiting ones: the pool is too small, or the database slow. Only with PostgreSQL.',
            unit: 'short',
            queries: [{ expr: `sum by (state) (${select('store_pool_connections')})`, legend: '{{state}}' }],
          },
          {
            title: 'Buffer of the producers',
            description: 'Orders waiting for or in flight to SQS. When it is full, orders are refused.',
            unit: 'short',
            queries: [{ expr: select('orders_buffered'), legend: '{{instance}}' }],
          },
        ],
      },
      {
        title: 'Pods (from cAdvisor and kube-state-metrics)',
        panels: [
          {
            title: 'Network',
            description: 'Of the pods, received and sent.',
            unit: 'Bps',
            queries: [
              { expr: perSecond('container_network_receive_bytes_total', PODS, 'pod'), legend: '{{pod}} in' },
              {
                expr: perSecond('container_network_transmit_bytes_total', PODS, 'pod'),
                legend: '{{pod}} out',
              },
            ],
          },
          {
            title: 'Disk',
            description: 'Of the containers. They write nothing but logs, so it stays small.',
            unit: 'bytes',
            queries: [
              {
                expr: `sum by (pod) (${select('container_fs_usage_bytes', `${PODS},container!=""`)})`,
                legend: '{{pod}}',
              },
            ],
          },
          {
            title: 'Restarts',
            description: 'Of the containers, within an hour.',
            unit: 'short',
            queries: [
              {
                expr: `sum by (pod) (increase(${select('kube_pod_container_status_restarts_total', PODS)}[1h]))`,
                legend: '{{pod}}',
              },
            ],
          },
        ],
      },
      {
        title: 'SQS',
        panels: [
          {
            title: 'Requests to SQS',
            description: 'Every attempt, by operation and result. Many errors: see SqsUnavailable.',
            unit: 'reqps',
            queries: [
              {
                expr: perSecond('sqs_request_duration_seconds_count', '', 'operation, result'),
                legend: '{{operation}} {{result}}',
              },
            ],
          },
          {
            title: 'Answers of SQS, p99',
            description: 'A receive may wait for 20 s; the others take milliseconds.',
            unit: 's',
            queries: [
              {
                expr: quantile(0.99, 'sqs_request_duration_seconds', '', 'operation'),
                legend: '{{operation}}',
              },
            ],
          },
          {
            title: 'Price of SQS',
            description: 'US$ an hour, for standard queues, without free tier and transfer.',
            unit: 'currencyUSD',
            queries: [
              {
                expr: `3600 * ${FIELD.sqsDollarsPerMillionRequests} / 1e6 * ${perSecond('sqs_request_duration_seconds_count')}`,
                legend: 'an hour',
              },
            ],
          },
          {
            title: 'Requests per order',
            description: 'A lone order needs three; full batches need a third of one.',
            unit: 'short',
            queries: [
              {
                expr: `${perSecond('sqs_request_duration_seconds_count')} / ${perSecond('orders_stored_total')}`,
                legend: 'requests',
              },
              { expr: mean('sqs_publish_batch_entries'), legend: 'messages per send' },
            ],
          },
          {
            title: 'Empty polls',
            description: 'When idle, one poll every 20 s per consumer.',
            unit: 'ops',
            queries: [{ expr: perSecond('sqs_empty_polls_total', '', 'instance'), legend: '{{instance}}' }],
          },
        ],
      },
    ],
  },
  {
    uid: 'deployment',
    title: 'Deployment',
    description: 'The old release against the new one.',
    rows: [
      {
        title: 'What runs',
        panels: [
          {
            title: 'Instances, by version',
            description: 'During a deployment two versions, otherwise one.',
            unit: 'short',
            queries: [
              {
                expr: `count by (service, version) (${select('build_info')})`,
                legend: '{{service}} {{version}}',
              },
            ],
          },
          {
            title: 'Uptime',
            description: 'A line that falls to 0 is a restart.',
            unit: 's',
            queries: [
              {
                expr: `time() - ${select('process_start_time_seconds')}`,
                legend: '{{service}} {{instance}}',
              },
            ],
          },
          {
            title: 'Circuit breakers',
            description: '0 closed, 1 open, 2 half-open.',
            unit: 'short',
            queries: [
              {
                expr: `max by (service, breaker) (${select('circuit_breaker_state')})`,
                legend: '{{service}} {{breaker}}',
              },
            ],
          },
          {
            title: 'Replicas (from kube-state-metrics)',
            description: 'Wanted and available. The gap closes within minutes.',
            unit: 'short',
            queries: [
              {
                expr: select('kube_deployment_spec_replicas', 'deployment=~"order-.*"'),
                legend: '{{deployment}} wanted',
              },
              {
                expr: select('kube_deployment_status_replicas_available', 'deployment=~"order-.*"'),
                legend: '{{deployment}} available',
              },
            ],
          },
        ],
      },
      {
        title: 'Old against new',
        panels: [
          {
            title: 'Orders, by version',
            description: 'Accepted by the producers, processed by the consumers.',
            unit: 'ops',
            queries: [
              { expr: perVersion('orders_accepted_total'), legend: '{{version}} accepted' },
              { expr: perVersion('orders_processed_total'), legend: '{{version}} processed' },
            ],
          },
          {
            title: 'Failures, by version',
            description: 'Answers with 5xx, and dead letters. The new release has no more than the old one.',
            unit: 'ops',
            queries: [
              {
                expr: `${perVersion('http_server_request_duration_seconds_count', `${PLACING},status=~"5.."`)} or 0 * ${perVersion('http_server_request_duration_seconds_count', PLACING)}`,
                legend: '{{version}} 5xx',
              },
              { expr: perVersion('orders_dead_lettered_total'), legend: '{{version}} dead letters' },
            ],
          },
          {
            title: 'Answer, by version',
            description: 'Mean of the requests that place orders.',
            unit: 's',
            queries: [
              {
                expr: `${perVersion('http_server_request_duration_seconds_sum', PLACING)} / ${perVersion('http_server_request_duration_seconds_count', PLACING)}`,
                legend: '{{version}}',
              },
            ],
            limits: PERFORMANCE.responseSeconds,
          },
          {
            title: 'Processing, by version',
            description: 'Mean from receive to outcome, per batch.',
            unit: 's',
            queries: [
              {
                expr: `${perVersion('order_processing_duration_seconds_sum')} / ${perVersion('order_processing_duration_seconds_count')}`,
                legend: '{{version}}',
              },
            ],
          },
          {
            title: 'CPU per order, by version',
            description: 'Processor time of each version for an order: what a release costs.',
            unit: 's',
            queries: [
              {
                expr: `${perVersion('process_cpu_seconds_total')} / (${perVersion('orders_accepted_total')} or ${perVersion('orders_stored_total')})`,
                legend: '{{service}} {{version}}',
              },
            ],
          },
        ],
      },
    ],
  },
];
