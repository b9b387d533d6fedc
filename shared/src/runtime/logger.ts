import { writeSync } from 'node:fs';
import { type DestinationStream, type Logger, pino } from 'pino';
import type { CommonConfig } from './config.ts';
import { withoutCredentials } from './without-credentials.ts';

export type { Logger } from 'pino';

/** Fields that may hold a body, a secret or personal data, wherever they occur in a log line. */
const PRIVATE_FIELDS = [
  'authorization',
  'cookie',
  'body',
  'order',
  'items',
  'customerId',
  'metadata',
  'password',
];
const redact = PRIVATE_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);

/**
 * Fields of an error that are logged besides type, message and stack: of Node's system errors, PostgreSQL's (not `detail`
 * or `where`, which quote rows) and the SDK's. Never all fields: a pool attaches its client to an error, the SDK its request.
 */
const ERROR_FIELDS = [
  'name',
  'code',
  'errno',
  'syscall',
  'address',
  'port',
  'severity',
  'schema',
  'table',
  'column',
  'constraint',
  'statusCode',
  'httpStatusCode',
  'requestId',
];

export type LoggerOptions = Pick<CommonConfig, 'APP_ENV' | 'LOG_LEVEL'> & {
  service: string;
  version: string;
};

/** JSON lines: `level` as a word in capitals, constant `message`, camelCase fields, errors under `err`. */
export function createLogger(options: LoggerOptions, destination?: DestinationStream): Logger {
  return pino(
    {
      level: options.LOG_LEVEL,
      messageKey: 'message',
      base: { service: options.service, version: options.version, environment: options.APP_ENV },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: serializeError },
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
      redact: { paths: redact, censor: '[redacted]' },
    },
    destination ?? standardOutput(),
  );
}

function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return withoutCredentials(String(error));
  const [, ...causes] = chainOf(error);
  return {
    type: error.constructor.name,
    message: withoutCredentials([error, ...causes].map(({ message }) => message).join(': ')),
    stack: withoutCredentials([error, ...causes].map(({ stack }) => stack).join('\ncaused by: ')),
    ...fieldsOf(error),
    ...(causes.length > 0 && {
      causes: causes.map((cause) => ({ type: cause.constructor.name, ...fieldsOf(cause) })),
    }),
    ...(error instanceof AggregateError && { errors: error.errors.map(serializeError) }),
  };
}

/** An error and its causes, each only once. */
function chainOf(error: Error): Error[] {
  const chain = new Set<Error>();
  for (let each: unknown = error; each instanceof Error && !chain.has(each); each = each.cause)
    chain.add(each);
  return [...chain];
}

function fieldsOf(error: Error & { $metadata?: object }): Record<string, unknown> {
  const fields = Object.entries({ ...error.$metadata, ...error }).filter(
    ([name, value]) => ERROR_FIELDS.includes(name) && ['string', 'number'].includes(typeof value),
  );
  return Object.fromEntries(
    fields.map(([name, value]) => [name, typeof value === 'string' ? withoutCredentials(value) : value]),
  );
}

/** Lines kept while they cannot be written; more are dropped. */
const MAX_WAITING_BYTES = 1024 * 1024;

/** If the log's disk is full, the service goes on; standard error says so once. */
function standardOutput(): DestinationStream {
  const destination = pino.destination({ sync: true, maxLength: MAX_WAITING_BYTES });
  let isTold = false;
  destination.on('error', (error: Error) => {
    if (isTold) return;
    isTold = true;
    try {
      writeSync(2, `log lines cannot be written, and wait or are dropped: ${error.message}\n`);
    } catch {
      // Most likely on the same disk.
    }
  });
  return destination;
}

/** A logger for libraries with its own level: their DEBUG lines are wanted in staging, not in production. */
export function libraryLogger(
  logger: Logger,
  library: string,
  config: Pick<CommonConfig, 'APP_ENV' | 'LIBRARY_LOG_LEVEL'>,
): Logger {
  const level = config.LIBRARY_LOG_LEVEL ?? (config.APP_ENV === 'production' ? 'warn' : 'debug');
  return logger.child({ library }, { level });
}

/** For lines on who did what. They are written whatever the log levels are. */
export const auditLogger = (logger: Logger): Logger => logger.child({}, { level: 'info' });

/** For whoever reads the log of an environment that was meant to be like production. */
export function warnOfPlaintext(
  { ALLOW_PLAINTEXT }: Pick<CommonConfig, 'ALLOW_PLAINTEXT'>,
  logger: Logger,
): void {
  if (ALLOW_PLAINTEXT.length > 0)
    logger.warn({ connections: ALLOW_PLAINTEXT }, 'connections may do without TLS: ALLOW_PLAINTEXT is set');
}
