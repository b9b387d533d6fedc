import { createLogger, type Logger, type LoggerOptions } from '../src/runtime/logger.ts';

/** A logger as the services have it, whose lines can be read. */
export function captureLog(overrides: Partial<LoggerOptions> = {}): {
  logger: Logger;
  lines: Record<string, unknown>[];
} {
  const lines: Record<string, unknown>[] = [];
  const options: LoggerOptions = {
    APP_ENV: 'dev',
    LOG_LEVEL: 'trace',
    service: 'test',
    version: '1.2.3',
    ...overrides,
  };
  return { lines, logger: createLogger(options, { write: (line) => void lines.push(JSON.parse(line)) }) };
}
