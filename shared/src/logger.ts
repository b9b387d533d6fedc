import { type DestinationStream, type Logger, pino } from 'pino';
import type { CommonConfig } from './config.ts';

export type { Logger } from 'pino';

/** Fields that may hold a body, a secret or personal data, wherever a log call puts them. */
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
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
      redact: { paths: redact, censor: '[redacted]' },
    },
    destination ?? pino.destination({ sync: true }),
  );
}

/** The logger that libraries get, with a level of its own: their DEBUG is wanted in staging, not in production. */
export function libraryLogger(
  logger: Logger,
  library: string,
  config: Pick<CommonConfig, 'APP_ENV' | 'LIBRARY_LOG_LEVEL'>,
): Logger {
  const level = config.LIBRARY_LOG_LEVEL ?? (config.APP_ENV === 'production' ? 'warn' : 'debug');
  return logger.child({ library }, { level });
}
