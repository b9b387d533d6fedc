import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { captureLog } from '../../testing/log-lines.ts';
import { type Logger, libraryLogger } from './logger.ts';

describe('createLogger', () => {
  it('createLogger, given a line, writes level in capitals, message, time and who wrote it', () => {
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

  it('createLogger, given an error, writes it under err with its causes', () => {
    const { logger, lines } = captureLog();
    logger.error({ err: new Error('outer', { cause: new Error('inner') }) }, 'failed');
    expect(lines[0]).toMatchObject({
      level: 'ERROR',
      err: { message: 'outer: inner', stack: expect.any(String) },
    });
  });

  it('createLogger, given an error that carries its client, its request or a row, writes only what it lists', () => {
    const { logger, lines } = captureLog();
    // As a pool of pg and the SDK of AWS hand them over.
    const cause = Object.assign(new Error('refused'), {
      code: '23514',
      detail: 'Failing row contains (Kim).',
    });
    const err = Object.assign(new Error('Connection terminated', { cause }), {
      code: 'ECONNRESET',
      client: { connectionParameters: { user: 'orders', host: 'db' }, secretKey: 12345 },
      config: { headers: { authorization: 'AWS4 Kim' } },
      $metadata: { httpStatusCode: 503, requestId: 'r-1', attempts: 3 },
    });
    logger.error({ err }, 'failed');
    logger.error(err);
    for (const line of lines) {
      expect(line['err']).toEqual({
        type: 'Error',
        message: 'Connection terminated: refused',
        stack: expect.stringContaining('caused by: Error: refused'),
        code: 'ECONNRESET',
        httpStatusCode: 503,
        requestId: 'r-1',
        causes: [{ type: 'Error', code: '23514' }],
      });
    }
  });

  it('createLogger, given several errors in one, writes each, and ends where one is its own cause', () => {
    const { logger, lines } = captureLog();
    const circle: Error = new Error('round');
    circle.cause = circle;
    logger.error({ err: new AggregateError([new Error('first'), circle], 'both') }, 'failed');
    expect(lines[0]).toMatchObject({
      err: { message: 'both', errors: [{ message: 'first' }, { message: expect.stringContaining('round') }] },
    });
  });

  it.each([
    'http://user:s3cret@host:4566/path',
    'postgres://user:s3cret@x@host/orders',
    'https://s3cret@host',
  ])('createLogger, given an error that quotes %s, keeps the credentials to itself', (url) => {
    const { logger, lines } = captureLog();
    logger.error({ err: new Error(`cannot reach ${url}`, { cause: new Error(url) }) }, 'failed');
    expect(JSON.stringify(lines)).not.toContain('s3cret');
    expect(lines[0]).toMatchObject({ err: { message: expect.stringContaining('[redacted]@host') } });
  });

  it('createLogger, of what was thrown and is no error, writes that as text', () => {
    const { logger, lines } = captureLog();
    logger.error({ err: 'just text' }, 'failed');
    logger.error({ err: { client: 'Kim' } }, 'failed');
    expect(lines).toMatchObject([{ err: 'just text' }, { err: '[object Object]' }]);
  });

  it('createLogger, below its level, writes nothing', () => {
    const { logger, lines } = captureLog({ LOG_LEVEL: 'info' });
    logger.debug('detail');
    logger.info('event');
    expect(lines.map(({ level }) => level)).toEqual(['INFO']);
  });

  it.each(['authorization', 'cookie', 'body', 'order', 'items', 'customerId', 'metadata', 'password'])(
    'createLogger, given the field %s down to the second level, hides its value',
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

  it('createLogger, given a whole order as a field, hides it', () => {
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

it.runIf(process.platform === 'linux')(
  'createLogger, on a full disk, says so once and lets the service go on',
  async () => {
    const script = `
      import { createLogger } from ${JSON.stringify(new URL('logger.ts', import.meta.url).href)};
      const logger = createLogger({ APP_ENV: 'dev', LOG_LEVEL: 'info', service: 'test', version: '1' });
      for (let line = 0; line < 3; line++) logger.info('x');
      console.error('goes on');`;
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', full, 'pipe'],
    });
    const [said, [status]] = await Promise.all([text(child.stderr as Readable), once(child, 'close')]);
    closeSync(full);
    expect(said).toBe(
      'log lines cannot be written, and wait or are dropped: ENOSPC: no space left on device, write\ngoes on\n',
    );
    expect(status).toBe(0);
  },
);
