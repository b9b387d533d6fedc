import { z } from 'zod';
import { StartupError } from './startup-error.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Building blocks for fields that arrive as text. */
export const integer = (min: number, max: number) => z.coerce.number().int().min(min).max(max);
const port = integer(0, 65_535);
const httpUrl = z.url({ protocol: /^https?$/, error: 'must be a URL such as http://localhost:4566' });
/** Of an emulator, or AWS itself where that must be asked for. */
const sqsEndpointUrl = z.union([z.literal('aws'), httpUrl], {
  error: 'must be a URL such as http://localhost:4566, or aws',
});
/** Where the emulator of `npm start` listens unless told otherwise. */
export const EMULATOR_PORT = 4566;
/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html */
const queueName = z
  .string()
  .regex(/^[\w-]{1,80}$/, 'must be 1 to 80 letters, digits, hyphens or underscores');
const MiB = 1_024 * 1_024;
/** Words, separated by commas. */
const listOf = <T extends z.ZodType<string, string>>(word: T) =>
  z
    .string()
    .transform((list) =>
      list
        .split(',')
        .map((text) => text.trim())
        .filter(Boolean),
    )
    .pipe(z.array(word));
const isOrigin = (text: string) => URL.canParse(text) && new URL(text).origin === text;
export const logLevel = z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']);

export const AUTH_METHODS = ['none', 'api-key', 'jwt'] as const;
export type AuthMethod = (typeof AUTH_METHODS)[number];

/** Signed with a private key only: with a secret, whoever checks a token could make one (RFC 8725 §3.1). */
export const TOKEN_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;
export type TokenAlgorithm = (typeof TOKEN_ALGORITHMS)[number];

export const MESSAGE_ENCRYPTION = ['off', 'kms', 'local'] as const;
/** As a message names its key: never an alias. */
const KMS_KEY_ARN = /^arn:[\w-]+:kms:[\w-]+:\d{12}:key\/[\w-]+$/;

/** Connections that tests may have without TLS. */
export const PLAINTEXT = ['sqs', 'database'] as const;
export type Plaintext = (typeof PLAINTEXT)[number];

/** What both services are told by their environment. AWS's own names are used where they exist. */
export const commonFields = {
  APP_ENV: z.enum(['dev', 'staging', 'production']).default('dev').describe('the environment'),
  AWS_REGION: z.string().min(1).default('ap-northeast-2').describe('AWS region'),
  AWS_PROFILE: z.string().optional().describe("profile in AWS's own credential files"),
  AWS_ENDPOINT_URL_SQS: sqsEndpointUrl
    .optional()
    .describe('URL of an SQS emulator, or aws; takes precedence over AWS_ENDPOINT_URL'),
  AWS_ENDPOINT_URL: sqsEndpointUrl
    .optional()
    .describe('URL of an AWS emulator, or aws; if unset: AWS, in dev the emulator of npm start'),
  AWS_ENDPOINT_URL_KMS: sqsEndpointUrl
    .optional()
    .describe('URL of a KMS emulator, or aws; takes precedence over AWS_ENDPOINT_URL'),
  AWS_ENDPOINT_URL_STS: httpUrl
    .optional()
    .describe('URL that the AWS SDK asks for credentials instead of STS'),
  AWS_ENDPOINT_URL_SSO: httpUrl.optional().describe('as AWS_ENDPOINT_URL_STS, of IAM Identity Center'),
  AWS_ENDPOINT_URL_SSO_OIDC: httpUrl
    .optional()
    .describe("as AWS_ENDPOINT_URL_STS, of IAM Identity Center's tokens"),
  AWS_ENDPOINT_URL_SIGNIN: httpUrl.optional().describe('as AWS_ENDPOINT_URL_STS, of aws login'),
  EXPECTED_AWS_ACCOUNT: z
    .string()
    .regex(/^\d{12}$/, 'must be 12 digits')
    .optional()
    .describe(
      'account that the queues and the keys of KMS must belong to: those of another one are refused at start; set it outside dev, where queues have the same names in every environment',
    ),
  ORDER_QUEUE_NAME: queueName.default('order-queue').describe('name of the order queue'),
  ORDER_DLQ_NAME: queueName.default('order-dlq').describe('name of the dead-letter queue'),
  RELEASE_VERSION: z
    .string()
    .regex(/^[\w.-]{1,128}$/, 'must be 1 to 128 letters, digits, dots, hyphens or underscores')
    .optional()
    .describe(
      "release, shown in logs, metrics and dead letters; set in the images; defaults to the package's version",
    ),
  HOST: z.string().min(1).default('127.0.0.1').describe('address to listen on; use 0.0.0.0 in a container'),
  MANAGEMENT_PORT: port
    .optional()
    .describe(
      "port of Prometheus's pages, /metrics and /actuator/prometheus; 8082 in production; in dev and staging they are on the port of the service, unless this is set",
    ),
  HTTP_MAX_CONNECTIONS: integer(1, 100_000)
    .default(5_000)
    .describe(
      'maximum of open client connections; beyond it requests get a 503, or the connection is not accepted',
    ),
  HTTP_MAX_BYTES_IN_WORK: integer(MiB, 1_024 * MiB)
    .default(32 * MiB)
    .describe(
      'maximum bytes of request bodies and large responses held at a time; requests beyond it get a 429; memory use can be up to eight times as much',
    ),
  CORS_ALLOWED_ORIGINS: listOf(z.string().refine(isOrigin, 'must be origins such as https://shop.example'))
    .default([])
    .describe('origins of web pages that may call this service, separated by commas; none by default'),
  AUTH: listOf(z.enum(AUTH_METHODS))
    .default([])
    .describe(
      'how clients say who they are: api-key, jwt, or both; none by default in dev, and outside dev only together with another one, while clients get their keys',
    ),
  API_KEYS_FILE: z.string().optional().describe('file of the clients and their keys, for AUTH=api-key'),
  JWT_ISSUER: z.string().optional().describe('who issues tokens, as their iss says it, for AUTH=jwt'),
  JWT_AUDIENCE: z.string().optional().describe('what tokens name in aud when they are for these services'),
  JWT_JWKS: z
    .string()
    .optional()
    .describe("where the issuer's public keys are: its jwks_uri, or a file with the same content"),
  JWT_ALGORITHMS: listOf(z.enum(TOKEN_ALGORITHMS))
    .default(['RS256'])
    .describe('algorithms that tokens may be signed with'),
  JWT_TYPE: z
    .literal('at+jwt')
    .optional()
    .describe(
      'at+jwt requires this type of each token (RFC 9068), which no ID token has; if unset, JWT or none is taken as well',
    ),
  JWT_CLOCK_TOLERANCE_SECONDS: integer(0, 300).default(30).describe("how far the issuer's clock may be off"),
  CLIENT_ORDERS_PER_SECOND: integer(1, 1_000_000)
    .optional()
    .describe(
      'orders and look-ups that each client may send per second to one process; beyond it requests get a 429; no limit by default',
    ),
  CLIENT_BURST_ORDERS: integer(1, 1_000_000)
    .optional()
    .describe(
      'orders that a client may send at once after a pause; defaults to CLIENT_ORDERS_PER_SECOND; a larger batch is accepted after a pause, and delays the next',
    ),
  CLIENT_BYTES_PER_MINUTE: integer(1_024, 1_000_000 * MiB)
    .optional()
    .describe('bytes of bodies that each client may send per minute to one process; no limit by default'),
  FAILED_LOGINS_PER_MINUTE: integer(1, 1_000_000)
    .optional()
    .describe(
      'requests without valid credentials that an address may send per minute to one process; beyond it they get a 429 instead of a 401, and no log line; no limit by default',
    ),
  TRUSTED_PROXIES: listOf(
    z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()], 'must be addresses such as 10.0.0.0/16'),
  )
    .default([])
    .describe(
      "load balancers and other proxies, as addresses or networks separated by commas, whose X-Forwarded-For names a request's address; none by default",
    ),
  ALLOW_PLAINTEXT: listOf(z.enum(PLAINTEXT))
    .default([])
    .describe(
      'what may do without TLS outside dev, for tests: sqs, database (SQLite too); refused in production',
    ),
  MESSAGE_ENCRYPTION: z
    .enum(MESSAGE_ENCRYPTION)
    .default('off')
    .describe(
      'how orders are encrypted in messages: off; kms, with a key of AWS KMS; local, with a key in a file, for dev and tests. Turn it on for order-consumer first; messages are read with any key that is given, also when it is off',
    ),
  MESSAGE_ENCRYPTION_KEY_FILE: z
    .string()
    .optional()
    .describe(
      'file of the keys for MESSAGE_ENCRYPTION=local, one per line: id and 32 bytes in base64; the first encrypts, all decrypt; read again when it changes',
    ),
  MESSAGE_ENCRYPTION_KMS_KEYS: listOf(
    z
      .string()
      .regex(KMS_KEY_ARN, 'must be ARNs of keys, such as arn:aws:kms:ap-northeast-2:111122223333:key/ID'),
  )
    .default([])
    .describe(
      'ARNs of the keys for MESSAGE_ENCRYPTION=kms, separated by commas; the first encrypts, all decrypt',
    ),
  MESSAGE_ENCRYPTION_LOST_KEYS: listOf(z.string())
    .default([])
    .describe(
      'ids or ARNs of keys that are gone for good, separated by commas: their messages go to the DLQ as UNDECRYPTABLE',
    ),
  NODE_EXTRA_CA_CERTS: z
    .string()
    .optional()
    .describe(
      "file of CAs to trust for SQS and the issuer's keys, besides those that come with Node; read by Node when it starts, so not from .env",
    ),
  NODE_TLS_REJECT_UNAUTHORIZED: z
    .string()
    .optional()
    .describe('0 makes Node check no certificate; refused outside dev'),
  API_DOCS: z
    .enum(['on', 'off'])
    .optional()
    .describe('whether /docs and /openapi.json are there; on in dev and staging, off in production'),
  LOG_LEVEL: logLevel.default('info').describe('log level of the service itself'),
  LIBRARY_LOG_LEVEL: logLevel
    .optional()
    .describe(
      'log level of libraries (AWS SDK, HTTP); defaults to debug in dev and staging, warn in production',
    ),
  SQS_CONNECT_TIMEOUT_MS: integer(100, 60_000)
    .default(2_000)
    .describe('timeout for opening a connection to SQS'),
  SQS_REQUEST_TIMEOUT_MS: integer(100, 60_000)
    .default(5_000)
    .describe('timeout of one request to SQS, except for long polls'),
  SQS_MAX_ATTEMPTS: integer(1, 10)
    .default(3)
    .describe('attempts per request to SQS inside the SDK, the first included'),
  SQS_MAX_SOCKETS: integer(1, 1_000).default(50).describe('maximum of connections to SQS'),
  SQS_CLIENT: z
    .enum(['tuned', 'plain'])
    .default('tuned')
    .describe(
      'tuned: the AWS SDK bypassing its middleware, at a quarter of the cost; plain: the unmodified SDK',
    ),
  BREAKER_MIN_OPEN_MS: integer(10, 600_000)
    .default(1_000)
    .describe(
      'maximum of the first wait before a dependency that is down (producer: SQS, consumer: store) is tried again',
    ),
  BREAKER_MAX_OPEN_MS: integer(10, 600_000).default(10_000).describe('longest wait between these attempts'),
  SHUTDOWN_GRACE_MS: integer(1_000, 600_000)
    .default(40_000)
    .describe(
      'maximum time from SIGTERM to exit; keep it below the time after which the platform kills the process',
    ),
};

export const producerPort = port.default(8080).describe('port of order-producer');
export const consumerPort = port.default(8081).describe('port of order-consumer');

export type CommonConfig = z.infer<z.ZodObject<typeof commonFields>>;
export type AppEnv = CommonConfig['APP_ENV'];

/** A rule across variables: what it needs, and when it holds. The first one needed is the one that is named. */
export type ConfigRule<T> = {
  needs: (keyof T & string)[];
  holds: (config: T) => boolean;
  message: string | ((config: T) => string);
};

const withMethod = (method: AuthMethod, variable: keyof CommonConfig & string): ConfigRule<CommonConfig> => ({
  needs: [variable, 'AUTH'],
  holds: (config) => !config.AUTH.includes(method) || config[variable] !== undefined,
  message: `is needed for AUTH=${method}`,
});

/** For what serves clients. */
export const ACCESS_RULES: ConfigRule<CommonConfig>[] = [
  {
    needs: ['AUTH', 'APP_ENV'],
    holds: ({ AUTH, APP_ENV }) => APP_ENV === 'dev' || AUTH.some((method) => method !== 'none'),
    message:
      'must be api-key, jwt, or both, outside dev: anybody who reaches the port could order, and read every order. none,api-key lets everybody in while clients get their keys',
  },
  {
    needs: ['CLIENT_BURST_ORDERS', 'CLIENT_ORDERS_PER_SECOND'],
    holds: (config) =>
      config.CLIENT_BURST_ORDERS === undefined || config.CLIENT_ORDERS_PER_SECOND !== undefined,
    message: 'needs CLIENT_ORDERS_PER_SECOND',
  },
  withMethod('api-key', 'API_KEYS_FILE'),
  withMethod('jwt', 'JWT_ISSUER'),
  withMethod('jwt', 'JWT_AUDIENCE'),
  withMethod('jwt', 'JWT_JWKS'),
  {
    needs: ['JWT_JWKS', 'APP_ENV'],
    holds: ({ JWT_JWKS, APP_ENV }) => APP_ENV === 'dev' || !JWT_JWKS?.startsWith('http:'),
    message: 'must begin with https: outside dev: who changes the keys on their way can make tokens',
  },
  {
    needs: ['JWT_ISSUER', 'APP_ENV'],
    holds: ({ JWT_ISSUER, APP_ENV }) => APP_ENV === 'dev' || !JWT_ISSUER?.startsWith('http:'),
    message: 'must begin with https: outside dev (RFC 8414, section 2)',
  },
];

/** Whether a connection may do without TLS. */
export const mayBePlaintext = (
  { APP_ENV, ALLOW_PLAINTEXT }: Pick<CommonConfig, 'APP_ENV' | 'ALLOW_PLAINTEXT'>,
  what: Plaintext,
): boolean => APP_ENV === 'dev' || ALLOW_PLAINTEXT.includes(what);

const endpointIsEncrypted = (
  variable: keyof CommonConfig & `AWS_ENDPOINT_URL${string}`,
): ConfigRule<CommonConfig> => ({
  needs: [variable, 'APP_ENV', 'ALLOW_PLAINTEXT'],
  holds: ({ [variable]: url = 'aws', ...config }) =>
    mayBePlaintext(config, 'sqs') || url === 'aws' || new URL(url).protocol === 'https:',
  message: 'must begin with https: outside dev; for tests there is ALLOW_PLAINTEXT=sqs',
});

const foreignKeys = ({ MESSAGE_ENCRYPTION_KMS_KEYS, EXPECTED_AWS_ACCOUNT }: CommonConfig) =>
  MESSAGE_ENCRYPTION_KMS_KEYS.filter((arn) => arn.split(':')[4] !== EXPECTED_AWS_ACCOUNT);

/** For all that reads or writes messages. */
const ENCRYPTION_RULES: ConfigRule<CommonConfig>[] = [
  {
    needs: ['MESSAGE_ENCRYPTION_KMS_KEYS', 'EXPECTED_AWS_ACCOUNT'],
    holds: (config) => config.EXPECTED_AWS_ACCOUNT === undefined || foreignKeys(config).length === 0,
    message: (config) =>
      `must be keys of account ${config.EXPECTED_AWS_ACCOUNT} (EXPECTED_AWS_ACCOUNT), not ${foreignKeys(config).join(', ')}`,
  },
  {
    needs: ['MESSAGE_ENCRYPTION_KMS_KEYS', 'MESSAGE_ENCRYPTION'],
    holds: (config) => config.MESSAGE_ENCRYPTION !== 'kms' || config.MESSAGE_ENCRYPTION_KMS_KEYS.length > 0,
    message: 'is needed for MESSAGE_ENCRYPTION=kms',
  },
  {
    needs: ['MESSAGE_ENCRYPTION_KEY_FILE', 'MESSAGE_ENCRYPTION'],
    holds: (config) =>
      config.MESSAGE_ENCRYPTION !== 'local' || config.MESSAGE_ENCRYPTION_KEY_FILE !== undefined,
    message: 'is needed for MESSAGE_ENCRYPTION=local',
  },
];

/** For all that speaks to SQS or the database. */
const TLS_RULES: ConfigRule<CommonConfig>[] = [
  {
    needs: ['ALLOW_PLAINTEXT', 'APP_ENV'],
    holds: ({ ALLOW_PLAINTEXT, APP_ENV }) => APP_ENV !== 'production' || ALLOW_PLAINTEXT.length === 0,
    message: 'is for tests, and refused in production',
  },
  endpointIsEncrypted('AWS_ENDPOINT_URL_SQS'),
  endpointIsEncrypted('AWS_ENDPOINT_URL_KMS'),
  endpointIsEncrypted('AWS_ENDPOINT_URL'),
  endpointIsEncrypted('AWS_ENDPOINT_URL_STS'),
  endpointIsEncrypted('AWS_ENDPOINT_URL_SSO'),
  endpointIsEncrypted('AWS_ENDPOINT_URL_SSO_OIDC'),
  endpointIsEncrypted('AWS_ENDPOINT_URL_SIGNIN'),
  {
    needs: ['NODE_TLS_REJECT_UNAUTHORIZED', 'APP_ENV'],
    holds: ({ NODE_TLS_REJECT_UNAUTHORIZED, APP_ENV }) =>
      APP_ENV === 'dev' || NODE_TLS_REJECT_UNAUTHORIZED !== '0',
    message: 'must not be 0 outside dev: anybody could pose as SQS or as the database',
  },
];

/**
 * The schema with rules across its variables: its own, those on TLS and encryption, and that no minimum exceeds its
 * maximum and the queues differ. Each is judged whenever the variables it needs are valid, so that one start shows all problems.
 */
export function withRules<S extends typeof commonFields & z.core.$ZodShape>(
  schema: z.ZodObject<S>,
  rules: ConfigRule<z.infer<z.ZodObject<S>>>[],
): z.ZodObject<S> {
  type Config = z.infer<z.ZodObject<S>>;
  const names = Object.keys(schema.shape) as (keyof Config & string)[];
  const ranges = names.flatMap((name): ConfigRule<Config>[] => {
    const maximum = names.find((other) => other !== name && other === name.replace('_MIN_', '_MAX_'));
    if (!maximum) return [];
    return [
      {
        needs: [name, maximum],
        holds: (config) => config[name] <= config[maximum],
        message: `must not exceed ${maximum}`,
      },
    ];
  });
  const queuesDiffer: ConfigRule<Config> = {
    needs: ['ORDER_DLQ_NAME', 'ORDER_QUEUE_NAME'] as (keyof Config & string)[],
    holds: (config) =>
      config['ORDER_DLQ_NAME' as keyof Config] !== config['ORDER_QUEUE_NAME' as keyof Config],
    message: 'must differ from ORDER_QUEUE_NAME: a rejected message would come back for ever',
  };
  const commonRules = [...TLS_RULES, ...ENCRYPTION_RULES] as unknown as ConfigRule<Config>[];
  let checked = schema;
  for (const { needs, holds, message } of [queuesDiffer, ...ranges, ...commonRules, ...rules]) {
    checked = checked.refine((config) => holds(config as Config), {
      path: needs.slice(0, 1),
      error: ({ input }) => (typeof message === 'string' ? message : message(input as Config)),
      when: ({ issues }) => !issues.some(({ path }) => needs.some((name) => name === path?.[0])),
    });
  }
  return checked;
}

/** @throws {StartupError} naming every variable that is wrong, not just the first */
export function loadConfig<T extends z.ZodType>(schema: T, env: Environment): z.infer<T> {
  // A variable that is set to nothing, as compose files and .env templates do, counts as not set.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value?.trim()));
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const name = issue.path.join('.');
    return `  ${name}: ${problemOf(issue, given[name])}`;
  });
  throw new StartupError(`configuration is wrong:\n${problems.join('\n')}`);
}

/** Of numbers the text is repeated, of nothing else: it may be a secret. */
function problemOf({ code, message, ...issue }: z.core.$ZodIssue, text: string | undefined): string {
  const expected = 'expected' in issue ? issue.expected : 'origin' in issue ? issue.origin : undefined;
  if (expected !== 'number' && expected !== 'int') return message;
  const isNoNumber = code === 'invalid_type';
  const wanted = !isNoNumber ? message : `must be a ${expected === 'int' ? 'whole ' : ''}number`;
  return text === undefined ? message : `${wanted}, not "${text}"`;
}

export const hasApiDocs = ({ API_DOCS, APP_ENV }: Pick<CommonConfig, 'API_DOCS' | 'APP_ENV'>): boolean =>
  (API_DOCS ?? (APP_ENV === 'production' ? 'off' : 'on')) === 'on';

/** Of Prometheus's pages; undefined if they are on the port of the service. */
export const managementPort = ({
  MANAGEMENT_PORT,
  APP_ENV,
}: Pick<CommonConfig, 'MANAGEMENT_PORT' | 'APP_ENV'>): number | undefined =>
  MANAGEMENT_PORT ?? (APP_ENV === 'production' ? 8082 : undefined);

/** How clients say who they are. */
export const authMethods = ({ AUTH, APP_ENV }: Pick<CommonConfig, 'AUTH' | 'APP_ENV'>): AuthMethod[] =>
  AUTH.length === 0 && APP_ENV === 'dev' ? ['none'] : AUTH;

/**
 * Where SQS is, undefined for AWS. The more specific name wins. Without either it is AWS; but in development, where
 * credentials for AWS may be around for other work, the emulator of `npm start`: AWS must be asked for there, by `aws`.
 */
export const sqsEndpoint = (
  config: Pick<CommonConfig, 'APP_ENV' | 'AWS_ENDPOINT_URL_SQS' | 'AWS_ENDPOINT_URL'>,
): string | undefined => endpoint(config, config.AWS_ENDPOINT_URL_SQS);

/** Where KMS is, in the same way. The emulator of `npm start` has none. */
export const kmsEndpoint = (
  config: Pick<CommonConfig, 'APP_ENV' | 'AWS_ENDPOINT_URL_KMS' | 'AWS_ENDPOINT_URL'>,
): string | undefined => endpoint(config, config.AWS_ENDPOINT_URL_KMS);

function endpoint(
  { APP_ENV, AWS_ENDPOINT_URL }: Pick<CommonConfig, 'APP_ENV' | 'AWS_ENDPOINT_URL'>,
  ofService: string | undefined,
): string | undefined {
  const given = ofService ?? AWS_ENDPOINT_URL;
  if (given === 'aws') return undefined;
  return given ?? (APP_ENV === 'dev' ? `http://127.0.0.1:${EMULATOR_PORT}` : undefined);
}

/** An emulator accepts any, so nobody has to set them in development. */
export const emulatorCredentials = { accessKeyId: 'emulator', secretAccessKey: 'emulator' };
