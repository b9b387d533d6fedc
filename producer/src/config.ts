import { CONTENT_ENCODINGS, MAX_ORDER_BYTES, MESSAGE_VERSIONS } from '@orders/shared/order/message.ts';
import {
  ACCESS_RULES,
  commonFields,
  consumerPort,
  type Environment,
  integer,
  loadConfig,
  producerPort,
  withRules,
} from '@orders/shared/runtime/config.ts';
import { z } from 'zod';
import { KEY_OWNERS } from './domain/place-order.ts';

/** Everything that the environment can tell order-producer. `docs/configuration.md` is generated from it. */
export const producerConfigSchema = withRules(
  z.object({
    ...commonFields,
    PRODUCER_PORT: producerPort,
    CONSUMER_PORT: consumerPort.describe('port of order-consumer, for the default of ORDER_STATUS_BASE_URL'),
    ORDER_STATUS_BASE_URL: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe(
        'base URL for look-ups, sent as Location; defaults to http://localhost:CONSUMER_PORT in dev; elsewhere there is no Location without it',
      ),
    MAX_ORDER_BYTES: integer(1_024, MAX_ORDER_BYTES)
      .default(256 * 1_024)
      .describe(
        'largest order, and largest body of POST /orders; the compressed order must fit into a message',
      ),
    MAX_BATCH_BYTES: integer(1_024, 8 * 1_024 * 1_024)
      .default(4 * 1_024 * 1_024)
      .describe('largest body of POST /orders/batch'),
    MESSAGE_VERSION: z.coerce
      .number()
      .pipe(z.literal(MESSAGE_VERSIONS))
      .default(1)
      .describe('version of new messages; raise it only after all consumers can read it'),
    MESSAGE_ENCODING: z.enum(CONTENT_ENCODINGS).default('zstd').describe('compression of large orders'),
    COMPRESS_ABOVE_BYTES: integer(0, 1_048_576)
      .default(4_096)
      .describe('orders of at least this size are compressed; it does not pay off for smaller ones'),
    PUBLISH_PACKING: z
      .enum(['on', 'off'])
      .default('off')
      .describe(
        'whether up to 100 orders of POST /orders/batch share one message; turn it on only after all consumers can read that',
      ),
    FAIR_QUEUES: z
      .enum(['on', 'off'])
      .default('off')
      .describe(
        'whether messages name their client, or customer, as a hash in MessageGroupId, by which SQS keeps a busy one from delaying the others',
      ),
    IDEMPOTENCY_KEY_OWNER: z
      .enum(KEY_OWNERS)
      .default('customer')
      .describe(
        'whose an Idempotency-Key is: customer, whichever client sends it, as in earlier releases; or client, so that no client meets the keys of another. Changing it gives keys that were used new ids: docs/security.md',
      ),
    PUBLISH_LINGER_MS: integer(0, 1_000)
      .default(5)
      .describe('how long an order waits for others to share its batch while another batch is in flight'),
    PUBLISH_MAX_IN_FLIGHT: integer(1, 100).default(10).describe('maximum of batches in flight to SQS'),
    PUBLISH_BUFFER_ORDERS: integer(1, 100_000)
      .default(2_000)
      .describe('maximum of orders waiting or in flight; beyond it orders get a 429'),
    PUBLISH_TIMEOUT_MS: integer(100, 29_000)
      .default(10_000)
      .describe('time from accepting a request until it is answered with 503'),
    BREAKER_FAILURES: integer(1, 1_000)
      .default(5)
      .describe('number of consecutive failed batches that opens the breaker'),
    ACCEPTANCE_JOURNAL: z
      .string()
      .regex(/^(?!(OFF|Off|STDOUT|Stdout)$)/, 'must be off or stdout in small letters, or a file')
      .default('off')
      .describe(
        'where one line per accepted order is written, for scripts/reconcile.sh: off, stdout (among the log lines) or a file',
      ),
    SHUTDOWN_DELAY_MS: integer(0, 60_000)
      .default(0)
      .describe(
        'delay between turning not ready and closing the port, for load balancers that need time to notice',
      ),
  }),
  [
    ...ACCESS_RULES,
    {
      needs: ['MAX_BATCH_BYTES', 'HTTP_MAX_BYTES_IN_WORK'],
      holds: (config) => config.MAX_BATCH_BYTES <= config.HTTP_MAX_BYTES_IN_WORK,
      message: 'must not exceed HTTP_MAX_BYTES_IN_WORK',
    },
    {
      needs: ['SHUTDOWN_GRACE_MS', 'SHUTDOWN_DELAY_MS', 'PUBLISH_TIMEOUT_MS'],
      holds: (config) => config.SHUTDOWN_GRACE_MS > config.SHUTDOWN_DELAY_MS + config.PUBLISH_TIMEOUT_MS,
      message: 'must exceed SHUTDOWN_DELAY_MS + PUBLISH_TIMEOUT_MS',
    },
  ],
);

export type ProducerConfig = z.infer<typeof producerConfigSchema>;

export function loadProducerConfig(env: Environment): ProducerConfig {
  return loadConfig(producerConfigSchema, env);
}

/** Outside dev nobody but the operator knows it: what clients are told must be true for them. */
export function statusBaseUrl({
  ORDER_STATUS_BASE_URL: url,
  APP_ENV,
  CONSUMER_PORT,
}: Pick<ProducerConfig, 'ORDER_STATUS_BASE_URL' | 'APP_ENV' | 'CONSUMER_PORT'>): string | undefined {
  const known = url ?? (APP_ENV === 'dev' ? `http://localhost:${CONSUMER_PORT}` : undefined);
  return known?.replace(/\/+$/, '');
}
