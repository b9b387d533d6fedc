import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { captureLog } from '../../testing/log-lines.ts';
import { type FatalHandler, runService, type Service } from './service.ts';
import { StartupError } from './startup-error.ts';

/** A process that can be sent signals, and only remembers that it was ended. */
class FakeProcess extends EventEmitter {
  readonly argv = ['node', 'main.ts'];
  connected = false;
  readonly env = {};
  readonly said: string[] = [];
  readonly exitCodes: number[] = [];
  readonly stderr = { write: (text: string) => this.said.push(text) };
  exit(code: number): void {
    this.exitCodes.push(code);
  }
}

function run(
  options: {
    shutdownGraceMs?: number;
    stop?: () => Promise<void>;
    start?: (onFatal: FatalHandler) => Promise<unknown>;
  } = {},
) {
  const process = new FakeProcess();
  const { logger, lines } = captureLog();
  const service: Service = {
    logger,
    shutdownGraceMs: options.shutdownGraceMs ?? 1_000,
    stop: vi.fn(options.stop ?? (async () => {})),
  };
  const start = async (onFatal: FatalHandler) => {
    await options.start?.(onFatal);
    return service;
  };
  const started = runService(process as unknown as NodeJS.Process, 'order-test', start);
  return { process, service, lines, started, messages: () => lines.map(({ message }) => message) };
}

describe('runService', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const settle = () => vi.advanceTimersByTimeAsync(0);

  it.each(['SIGTERM', 'SIGINT'])('runService, on %s, stops the service and exits with 0', async (signal) => {
    const { process, service, messages, lines, started } = run();
    await started;
    process.emit(signal);
    await settle();
    expect(service.stop).toHaveBeenCalledTimes(1);
    expect(messages()).toEqual(['stopping', 'stopped']);
    expect(lines[0]).toMatchObject({ cause: signal, shutdownGraceMs: 1_000 });
    expect(process.exitCodes).toEqual([0]);
  });

  it('runService, without a signal, keeps running', async () => {
    const { process, started } = run();
    await started;
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(process.exitCodes).toEqual([]);
  });

  it.each([
    new StartupError('cannot work with http://user:s3cret@host:4566'),
    new TypeError('Invalid endpoint http://user:s3cret@host:4566'),
  ])(
    'runService, when the start fails with a URL with credentials in the message, keeps these to itself',
    async (error) => {
      const { process, started } = run({ start: () => Promise.reject(error) });
      await started;
      expect(process.said.join('')).toContain('http://[redacted]@host:4566');
      expect(process.said.join('')).not.toContain('s3cret');
    },
  );

  it('runService, until the stop has ended, does not exit', async () => {
    const stopped = Promise.withResolvers<void>();
    const { process, started } = run({ stop: () => stopped.promise });
    await started;
    process.emit('SIGTERM');
    await vi.advanceTimersByTimeAsync(999);
    expect(process.exitCodes).toEqual([]);
    stopped.resolve();
    await settle();
    expect(process.exitCodes).toEqual([0]);
  });

  it('runService, on SIGTERM twice and SIGINT, stops once', async () => {
    const stopped = Promise.withResolvers<void>();
    const { process, service, started } = run({ stop: () => stopped.promise });
    await started;
    for (const signal of ['SIGTERM', 'SIGTERM', 'SIGINT']) process.emit(signal);
    stopped.resolve();
    await settle();
    expect(service.stop).toHaveBeenCalledTimes(1);
    expect(process.exitCodes).toEqual([0]);
  });

  it('runService, on SIGTERM during the start, stops as soon as that has ended', async () => {
    const ready = Promise.withResolvers<void>();
    const { process, service, lines, started } = run({ start: () => ready.promise });
    process.emit('SIGTERM');
    await settle();
    expect(service.stop).not.toHaveBeenCalled();
    ready.resolve();
    await started;
    expect(service.stop).toHaveBeenCalledTimes(1);
    expect(lines[0]).toMatchObject({ cause: 'stopped while starting' });
    expect(process.exitCodes).toEqual([0]);
  });

  it('runService, on SIGTERM during a start that does not end, exits with 0 without it', async () => {
    const { process, service } = run({ start: () => new Promise(() => {}) });
    await vi.advanceTimersByTimeAsync(60_000);
    process.emit('SIGTERM');
    await vi.advanceTimersByTimeAsync(4_999);
    expect(process.exitCodes).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(process.exitCodes).toEqual([0]);
    expect(service.stop).not.toHaveBeenCalled();
  });

  it('runService, on SIGTERM during a start that fails, exits with 0 and says nothing', async () => {
    const ready = Promise.withResolvers<void>();
    const { process, started } = run({ start: () => ready.promise });
    process.emit('SIGTERM');
    ready.reject(new StartupError('cannot work with SQS'));
    await started;
    expect(process.exitCodes).toEqual([0]);
    expect(process.said).toEqual([]);
  });

  it('runService, on SIGTERM during the start, gives the stop what is left of the grace period', async () => {
    const ready = Promise.withResolvers<void>();
    const { process } = run({ start: () => ready.promise, stop: () => new Promise(() => {}) });
    process.emit('SIGTERM');
    await vi.advanceTimersByTimeAsync(400);
    ready.resolve();
    await vi.advanceTimersByTimeAsync(599);
    expect(process.exitCodes).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(process.exitCodes).toEqual([1]);
  });

  it('runService, when the stop overruns its grace period, exits with 1 and reports it', async () => {
    const { process, lines, started } = run({ stop: () => new Promise(() => {}), shutdownGraceMs: 500 });
    await started;
    process.emit('SIGTERM');
    await vi.advanceTimersByTimeAsync(499);
    expect(process.exitCodes).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(process.exitCodes).toEqual([1]);
    expect(lines.at(-1)).toMatchObject({ level: 'FATAL', message: 'service failed' });
  });

  it('runService, when the stop fails, exits with 1 and the error in the log', async () => {
    const { process, lines, started } = run({ stop: () => Promise.reject(new Error('cannot close')) });
    await started;
    process.emit('SIGTERM');
    await settle();
    expect(process.exitCodes).toEqual([1]);
    expect(lines.at(-1)).toMatchObject({ level: 'FATAL', err: { message: 'cannot close' } });
  });

  it('runService, when the service cannot start for a reason that can be changed, says it in one line', async () => {
    const { process, started } = run({ start: () => Promise.reject(new StartupError('port 8080 is taken')) });
    await started;
    expect(process.said).toEqual(['order-test: port 8080 is taken\n']);
    expect(process.exitCodes).toEqual([1]);
  });

  it.each<[unknown, string]>([
    [new TypeError('x is not a function'), 'order-test: TypeError: x is not a function\n    at '],
    ['no error', 'order-test: no error'],
  ])('runService, when the start fails otherwise with %s, says all it knows', async (error, said) => {
    const { process, started } = run({ start: () => Promise.reject(error) });
    await started;
    expect(process.said[0]).toContain(said);
    expect(process.exitCodes).toEqual([1]);
  });

  it.each(['uncaughtException', 'unhandledRejection'])(
    'runService, on an %s, logs it and exits with 1',
    async (event) => {
      const { process, lines, started } = run();
      await started;
      process.emit(event, new Error('bug'));
      expect(lines).toMatchObject([{ level: 'FATAL', err: { message: 'bug' } }]);
      expect(process.exitCodes).toEqual([1]);
    },
  );

  it('runService, when a part fails for good while it runs, exits with 1', async () => {
    let fail: FatalHandler = () => {};
    const { process, lines, started } = run({
      start: async (onFatal) => {
        fail = onFatal;
      },
    });
    await started;
    fail(new Error('polling ended'));
    expect(lines).toMatchObject([{ level: 'FATAL', err: { message: 'polling ended' } }]);
    expect(process.exitCodes).toEqual([1]);
  });

  it('runService, under a supervisor, leaves SIGINT to it and stops when it is gone', async () => {
    const { process, service, lines, started } = run();
    await started;
    process.connected = true;
    process.emit('SIGINT');
    await settle();
    expect(service.stop).not.toHaveBeenCalled();
    process.connected = false;
    process.emit('disconnect');
    await settle();
    expect(lines[0]).toMatchObject({ cause: 'supervisor gone' });
    expect(process.exitCodes).toEqual([0]);
  });
});

describe('runService, as a process', () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  /** A service of one line: says `ready` when it runs and `done` when it has stopped. */
  function startProcess({ start = '', stop = '', graceMs = 10_000, supervised = false }) {
    const script = `
      import { runService } from ${JSON.stringify(new URL('service.ts', import.meta.url).href)};
      import { StartupError } from ${JSON.stringify(new URL('startup-error.ts', import.meta.url).href)};
      import { createLogger } from ${JSON.stringify(new URL('logger.ts', import.meta.url).href)};
      const say = (word) => process.stdout.write(word + '\\n');
      setInterval(() => {}, 1_000_000);
      say('starting');
      void runService(process, 'order-test', async () => {
        ${start}
        say('ready');
        const logger = createLogger({ APP_ENV: 'dev', LOG_LEVEL: 'fatal', service: 'order-test', version: '1' });
        return { logger, shutdownGraceMs: ${graceMs}, stop: async () => { say('stopping'); ${stop}; say('done'); } };
      });`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'pipe', ...(supervised ? ['ipc' as const] : [])],
      env: { PATH: process.env['PATH'] },
    });
    children.push(child);
    let seen = '';
    const waiting = new Set<() => void>();
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      seen += chunk;
      for (const look of waiting) look();
    });
    const said = (word: string) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (seen.includes(word)) resolve();
        };
        waiting.add(look);
        look();
      });
    const stderr = text(child.stderr as Readable);
    // Not `close` of the child: that never comes when the IPC channel was closed from here.
    const ended = Promise.all([once(child, 'exit'), stderr, once(child.stdout as Readable, 'end')]).then(
      ([[status, signal], said]) => ({ status, signal, stdout: seen, stderr: said }),
    );
    return { child, said, ended };
  }

  it('process, on SIGTERM, ends what it does and exits with 0', async () => {
    const { child, said, ended } = startProcess({
      stop: 'await new Promise((resolve) => setTimeout(resolve, 10))',
    });
    await said('ready');
    child.kill('SIGTERM');
    expect(await ended).toEqual({
      status: 0,
      signal: null,
      stdout: 'starting\nready\nstopping\ndone\n',
      stderr: '',
    });
  });

  it('process, on SIGTERM twice, exits with 0 all the same', async () => {
    const { child, said, ended } = startProcess({
      stop: "await new Promise((resolve) => process.once('SIGTERM', resolve))",
    });
    await said('ready');
    child.kill('SIGTERM');
    await said('stopping');
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 0, stdout: 'starting\nready\nstopping\ndone\n' });
  });

  it('process, on SIGTERM while it starts, starts, stops and exits with 0', async () => {
    const { child, said, ended } = startProcess({
      start:
        "const signal = new Promise((resolve) => process.once('SIGTERM', resolve)); say('waiting'); await signal;",
    });
    await said('waiting');
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 0, stdout: 'starting\nwaiting\nready\nstopping\ndone\n' });
  });

  it('process, that cannot start, says why in one line without a stack and exits with 1', async () => {
    const { ended } = startProcess({
      start: "throw new StartupError('queue is missing (ORDER_QUEUE_NAME)');",
    });
    expect(await ended).toMatchObject({
      status: 1,
      stderr: 'order-test: queue is missing (ORDER_QUEUE_NAME)\n',
    });
  });

  it('process, that overruns its grace period, exits with 1', async () => {
    const { child, said, ended } = startProcess({ stop: 'await new Promise(() => {})', graceMs: 20 });
    await said('ready');
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 1, stdout: expect.stringContaining('"level":"FATAL"') });
  });

  it('process, on SIGINT of a terminal without a supervisor, exits with 0', async () => {
    const { child, said, ended } = startProcess({});
    await said('ready');
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ status: 0 });
  });

  it('process, under a supervisor, ignores SIGINT and stops when the channel closes', async () => {
    const { child, said, ended } = startProcess({
      supervised: true,
      start: "process.on('SIGINT', () => setImmediate(() => say('interrupted')));",
    });
    await said('ready');
    child.kill('SIGINT');
    await said('interrupted');
    child.disconnect();
    expect(await ended).toMatchObject({
      status: 0,
      stdout: 'starting\nready\ninterrupted\nstopping\ndone\n',
    });
  });
});
