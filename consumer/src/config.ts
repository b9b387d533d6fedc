import {
  ACCESS_RULES,
  type CommonConfig,
  type ConfigRule,
  commonFields,
  consumerPort,
  type Environment,
  integer,
  loadConfig,
  mayBePlaintext,
  withRules,
} from '@orders/shared/runtime/config.ts';
import { VISIBILITY_TIMEOUT_SECONDS, WAIT_TIME_SECONDS } from '@orders/shared/sqs/queues.ts';
import { z } from 'zod';

/** Of the grace period, kept for telling SQS what became of the messages, and for closing what is left then. */
export const SHUTDOWN_RESERVE_MS = { flush: 5_000, close: 2_000 };

/** Two polls of ten for each connection: one is saved while the next is received, and none waits for long. */
const MESSAGES_PER_CONNECTION = 20;

const seconds = (max: number) => z.coerce.number().min(0).max(max);

/** What the service and the tools are told of the store. */
const databaseFields = {
  DATABASE_URL: z
    .string()
    .regex(/^(sqlite:|postgres(ql)?:\/\/)/, 'must be sqlite:PATH or postgres://…')
    .default('sqlite:.data/orders.db')
    .describe(
      'where orders are stored: sqlite:PATH or postgres://user:password@host/database; with ?sslmode=verify-full outside dev',
    ),
  DATABASE_USER_FILE: z
    .string()
    .optional()
    .describe(
      'file with the user of PostgreSQL, for a rotation of alternating users; read like DATABASE_PASSWORD_FILE, which it needs',
    ),
  DATABASE_PASSWORD_FILE: z
    .string()
    .optional()
    .describe(
      'file with the password of PostgreSQL, for a DATABASE_URL without one; read again for each new connection',
    ),
  DATABASE_OWNER: z
    .string()
    .optional()
    .describe(
      'role of PostgreSQL that migrations act as (SET ROLE), so that all tables belong to it; if unset, the one that signs in',
    ),
  DATABASE_CA_FILE: z
    .string()
    .optional()
    .describe(
      "file of the CAs that may sign PostgreSQL's certificate, as PEM; read at start; needed outside dev",
    ),
};
type DatabaseConfig = z.infer<z.ZodObject<typeof databaseFields>>;

/** What is no URL is refused when it is opened, with a better reason. */
const isVerified = (url: string): boolean =>
  !URL.canParse(url) || new URL(url).searchParams.getAll('sslmode').join() === 'verify-full';

const DATABASE_RULES: ConfigRule<CommonConfig & DatabaseConfig>[] = [
  {
    needs: ['DATABASE_PASSWORD_FILE', 'DATABASE_URL'],
    holds: ({ DATABASE_PASSWORD_FILE: file, DATABASE_URL: url }) =>
      file === undefined || !URL.canParse(url) || new URL(url).password === '',
    message: 'must not be set beside a password in DATABASE_URL: one of them would not be used',
  },
  {
    needs: ['DATABASE_USER_FILE', 'DATABASE_PASSWORD_FILE'],
    holds: ({ DATABASE_USER_FILE: user, DATABASE_PASSWORD_FILE: password }) =>
      user === undefined || password !== undefined,
    message: 'needs DATABASE_PASSWORD_FILE',
  },
  {
    needs: ['DATABASE_URL', 'APP_ENV', 'ALLOW_PLAINTEXT'],
    holds: ({ DATABASE_URL: url, ...config }) =>
      mayBePlaintext(config, 'database') || (!url.startsWith('sqlite:') && isVerified(url)),
    message:
      'must be postgres://…?sslmode=verify-full outside dev; for tests there is ALLOW_PLAINTEXT=database',
  },
  {
    needs: ['DATABASE_CA_FILE', 'APP_ENV', 'ALLOW_PLAINTEXT'],
    holds: ({ DATABASE_CA_FILE, ...config }) =>
      mayBePlaintext(config, 'database') || DATABASE_CA_FILE !== undefined,
    message: "is needed outside dev: the CAs that may sign PostgreSQL's certificate",
  },
];

/**
 * `DATABASE_URL` with the files that belong to it: the CAs, as libpq has them, and those of user and password, for
 * adapters/database-login.ts. https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT
 */
export function databaseUrl(config: DatabaseConfig): string {
  const files = {
    sslrootcert: config.DATABASE_CA_FILE,
    userfile: config.DATABASE_USER_FILE,
    passwordfile: config.DATABASE_PASSWORD_FILE,
  };
  const given = Object.entries(files).filter(([, file]) => file !== undefined);
  const { DATABASE_URL: url } = config;
  if (given.length === 0 || url.startsWith('sqlite:') || !URL.canParse(url)) return url;
  const withFiles = new URL(url);
  for (const [name, file = ''] of given) withFiles.searchParams.set(name, file);
  return withFiles.href;
}

/** What a tool of the store is told. */
const storeConfigSchema = withRules(z.object({ ...commonFields, ...databaseFields }), DATABASE_RULES);

/** @throws {StartupError} naming every variable that is wrong */
export const loadStoreConfig = (env: Environment) => loadConfig(storeConfigSchema, env);

/** Everything that the environment can tell order-consumer. `docs/configuration.md` is generated from it. */
export const consumerConfigSchema = withRules(
  z.object({
    ...commonFields,
    CONSUMER_PORT: consumerPort,
    ...databaseFields,
    DATABASE_MIGRATIONS: z
      .enum(['auto', 'off'])
      .default('auto')
      .describe(
        'auto: the service brings the schema up to date when it starts; off: it needs no right to do so, and does not start on a schema that is too old (npm run migrate)',
      ),
    DATABASE_POOL_SIZE: integer(1, 500)
      .default(10)
      .describe('connections to PostgreSQL; a quarter of them is reserved for look-ups'),
    DATABASE_CONNECT_TIMEOUT_MS: integer(100, 60_000)
      .default(3_000)
      .describe('timeout for getting a connection'),
    DATABASE_STATEMENT_TIMEOUT_MS: integer(100, 600_000).default(10_000).describe('timeout of one statement'),
    MAX_MESSAGES_PER_POLL: integer(1, 10).default(10).describe('maximum of messages per poll'),
    MAX_IN_WORK: integer(1, 10_000)
      .default(10)
      .describe(
        'maximum of messages in work, from receive to settled; polls ask only for free slots; with PostgreSQL at most 20 per connection',
      ),
    MIN_IN_WORK: integer(1, 10_000)
      .optional()
      .describe(
        'if set, the number of messages in work follows the throughput, between this and MAX_IN_WORK; if unset, it is MAX_IN_WORK',
      ),
    POLLERS: integer(1, 100)
      .default(2)
      .describe('maximum of concurrent polls, as far as slots are free; one while the queue is empty'),
    SQS_WAIT_TIME_SECONDS: integer(0, 20)
      .default(WAIT_TIME_SECONDS)
      .describe('how long a long poll waits for messages'),
    VISIBILITY_TIMEOUT_SECONDS: integer(1, 43_200)
      .default(VISIBILITY_TIMEOUT_SECONDS)
      .describe('lease of a received message'),
    HEARTBEAT_SECONDS: seconds(21_600)
      .default(15)
      .describe('interval at which the leases of messages in work are extended'),
    HANDLING_TIMEOUT_SECONDS: seconds(43_200)
      .default(20)
      .describe(
        'longest handling time of a message; a lease with less time left is extended before work starts',
      ),
    LEASE_MARGIN_SECONDS: seconds(3_600)
      .default(10)
      .describe('time that the lease must last beyond wait time and handling'),
    MAX_FAILURES: integer(1, 1_000)
      .default(5)
      .describe('number of counted failures that sends a message to the DLQ'),
    POLL_BACKOFF_MIN_MS: integer(1, 600_000).default(1_000).describe('wait after the first failed poll'),
    POLL_BACKOFF_MAX_MS: integer(1, 600_000)
      .default(10_000)
      .describe('longest wait after repeated failed polls'),
    RETRY_BACKOFF_MIN_SECONDS: seconds(43_200)
      .default(1)
      .describe('delay of a message after its first failure'),
    RETRY_BACKOFF_MAX_SECONDS: seconds(43_200)
      .default(300)
      .describe('longest delay of a message after repeated failures'),
    OUTAGE_HOLD_SECONDS: seconds(3_600)
      .default(30)
      .describe('how long received messages are held while the store is down, before they are released'),
    OUTAGE_RELEASE_MIN_SECONDS: seconds(43_200)
      .default(30)
      .describe(
        'shortest delay of a message released in an outage; doubles with each further receive, up to 32 times',
      ),
    OUTAGE_RELEASE_MAX_SECONDS: seconds(43_200)
      .default(60)
      .describe(
        'longest delay of a message released in an outage; doubles with each further receive, up to 32 times',
      ),
    NEWER_VERSION_REJECT_SECONDS: integer(0, 1_209_600)
      .default(3_600)
      .describe(
        'how long messages of a newer version, or of a key that this consumer does not have, are released for another consumer before they go to the DLQ; both the clock and the sum of delays must have reached it',
      ),
    MESSAGE_ENCRYPTION_REQUIRED: z
      .enum(['on', 'off'])
      .default('off')
      .describe(
        'whether messages that are not encrypted go to the DLQ, as UNENCRYPTED; turn it on only after all producers encrypt and what they sent before is stored',
      ),
    QUEUE_SAMPLE_SECONDS: integer(1, 3_600)
      .default(15)
      .describe('interval at which the depth of both queues is sampled'),
  }),
  [
    ...ACCESS_RULES,
    ...DATABASE_RULES,
    {
      needs: ['DATABASE_MIGRATIONS', 'DATABASE_URL'],
      holds: (config) => config.DATABASE_MIGRATIONS === 'auto' || !config.DATABASE_URL.startsWith('sqlite:'),
      message: 'must be auto with SQLite, which knows no roles',
    },
    {
      needs: [
        'VISIBILITY_TIMEOUT_SECONDS',
        'SQS_WAIT_TIME_SECONDS',
        'HANDLING_TIMEOUT_SECONDS',
        'LEASE_MARGIN_SECONDS',
      ],
      holds: (config) =>
        config.VISIBILITY_TIMEOUT_SECONDS >
        config.SQS_WAIT_TIME_SECONDS + config.HANDLING_TIMEOUT_SECONDS + config.LEASE_MARGIN_SECONDS,
      message: 'must exceed SQS_WAIT_TIME_SECONDS + HANDLING_TIMEOUT_SECONDS + LEASE_MARGIN_SECONDS',
    },
    {
      needs: ['MESSAGE_ENCRYPTION_REQUIRED', 'MESSAGE_ENCRYPTION'],
      holds: (config) => config.MESSAGE_ENCRYPTION_REQUIRED === 'off' || config.MESSAGE_ENCRYPTION !== 'off',
      message: 'must be off while MESSAGE_ENCRYPTION is off: nothing could be read',
    },
    {
      needs: ['MIN_IN_WORK', 'MAX_IN_WORK'],
      holds: ({ MIN_IN_WORK: least, MAX_IN_WORK: most }) => least === undefined || least <= most,
      message: 'must be at most MAX_IN_WORK',
    },
    {
      needs: ['MAX_IN_WORK', 'DATABASE_POOL_SIZE', 'DATABASE_URL'],
      holds: ({ MAX_IN_WORK: most, DATABASE_POOL_SIZE: connections, DATABASE_URL: url }) =>
        url.startsWith('sqlite:') || most <= MESSAGES_PER_CONNECTION * connections,
      message: `must be at most ${MESSAGES_PER_CONNECTION} × DATABASE_POOL_SIZE with PostgreSQL: batches that wait long for a connection count as an outage`,
    },
    {
      needs: ['HEARTBEAT_SECONDS', 'VISIBILITY_TIMEOUT_SECONDS'],
      holds: ({ HEARTBEAT_SECONDS: heartbeat, VISIBILITY_TIMEOUT_SECONDS: visibility }) =>
        heartbeat >= 0.1 && heartbeat * 2 <= visibility,
      message: 'must be at least 0.1 and at most half of VISIBILITY_TIMEOUT_SECONDS',
    },
    {
      needs: ['SHUTDOWN_GRACE_MS', 'SQS_WAIT_TIME_SECONDS'],
      holds: ({ SHUTDOWN_GRACE_MS: grace, SQS_WAIT_TIME_SECONDS: wait }) =>
        grace > wait * 1_000 + SHUTDOWN_RESERVE_MS.flush + SHUTDOWN_RESERVE_MS.close,
      message:
        'must exceed SQS_WAIT_TIME_SECONDS by more than 7 s: a poll under way is left to finish, and then flushed',
    },
  ],
);

export type ConsumerConfig = z.infer<typeof consumerConfigSchema>;

export function loadConsumerConfig(env: Environment): ConsumerConfig {
  return loadConfig(consumerConfigSchema, env);
}
