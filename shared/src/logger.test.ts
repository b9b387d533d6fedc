import { describe, expect, it } from 'vitest';
import { captureLog } from '../testing/log-lines.ts';
import { type Logger, libraryLogger } from './logger.ts';

describe('createLogger', () => {
  it('createLogger, of a line, writes level in capitals, message, time and who wrote it', () => {
    const { logger, lines } = captureLog({ APP_ENV: 'staging' });
    logger.warn({ orderId: 'o-1' }, 'order refused');
    expect(lines).toEqual([
      {
        level: 'WARN',
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        service: 'test',
        version: '1.2.3',
        environment: 'staging',
        orderId: 'o-1',
        message: 'order refused',
      },
    ]);
  });

  it('createLogger, of an error, writes it under err with its causes', () => {
    const { logger, lines } = captureLog();
    logger.error({ err: new Error('outer', { cause: new Error('inner') }) }, 'failed');
    expect(lines[0]).toMatchObject({
      level: 'ERROR',
      err: { message: 'outer: inner', stack: expect.any(String) },
    });
  });

  it('createLogger, below its level, writes nothing', () => {
    const { logger, lines } = captureLog({ LOG_LEVEL: 'info' });
    logger.debug('detail');
    logger.info('event');
    expect(lines.map(({ level }) => level)).toEqual(['INFO']);
  });

  it.each(['authorization', 'cookie', 'body', 'order', 'items', 'customerId', 'metadata', 'password'])(
    'createLogger, of the field %s down to the second level, hides its value',
    (field) => {
      const { logger, lines } = captureLog();
      const held = { [field]: 'Kim Minji' };
      logger.info({ ...held, outer: held, deep: { er: held } }, 'one');
      logger.child(held).info('two');
      const hidden = { [field]: '[redacted]' };
      expect(lines[0]).toMatchObject({ ...hidden, outer: hidden, deep: { er: hidden } });
      expect(lines[1]).toMatchObject(hidden);
      expect(JSON.stringify(lines)).not.toContain('Kim');
    },
  );

  it('createLogger, of a whole order as a field, hides it', () => {
    const { logger, lines } = captureLog();
    logger.info({ order: { customerId: 'Kim', items: [{ name: 'Ring' }] }, request: { body: 'Kim' } }, 'one');
    expect(JSON.stringify(lines)).not.toMatch(/Kim|Ring/);
  });
});

describe('libraryLogger', () => {
  const levelsOf = (write: (logger: Logger) => Logger) => {
    const { logger, lines } = captureLog({ LOG_LEVEL: 'info' });
    const library = write(logger);
    for (const level of ['trace', 'debug', 'info', 'warn', 'error'] as const) library[level]('line');
    return lines.map(({ level, library }) => `${library} ${level}`);
  };

  it.each(['dev', 'staging'] as const)('libraryLogger, in %s, writes from DEBUG on', (APP_ENV) => {
    expect(levelsOf((logger) => libraryLogger(logger, 'aws-sdk', { APP_ENV }))[0]).toBe('aws-sdk DEBUG');
  });

  it('libraryLogger, in production, writes from WARN on', () => {
    const levels = levelsOf((logger) => libraryLogger(logger, 'http', { APP_ENV: 'production' }));
    expect(levels).toEqual(['http WARN', 'http ERROR']);
  });

  it('libraryLogger, with LIBRARY_LOG_LEVEL, obeys that in every environment', () => {
    const config = { APP_ENV: 'production', LIBRARY_LOG_LEVEL: 'trace' } as const;
    expect(levelsOf((logger) => libraryLogger(logger, 'http', config))[0]).toBe('http TRACE');
  });

  it("libraryLogger, with a level of its own, leaves the service's level alone", () => {
    const { logger, lines } = captureLog({ LOG_LEVEL: 'info' });
    libraryLogger(logger, 'http', { APP_ENV: 'dev' });
    logger.debug('own detail');
    expect(lines).toEqual([]);
  });
});
