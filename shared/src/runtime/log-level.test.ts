import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LogLevel } from './log-level.ts';

beforeEach(() => void vi.useFakeTimers({ now: 0 }));
afterEach(() => void vi.useRealTimers());

it('a changed log level ends by itself, and a later change replaces the time of an earlier one', () => {
  const logger = { level: 'warn' };
  const current = new LogLevel(logger);
  current.set('trace', 1_000);
  current.set('debug', 5_000);
  expect(current.state).toEqual({ level: 'debug', configured: 'warn', until: '1970-01-01T00:00:05.000Z' });
  vi.advanceTimersByTime(4_999);
  expect(logger.level).toBe('debug');
  vi.advanceTimersByTime(1);
  expect(current.state).toEqual({ level: 'warn', configured: 'warn' });
  expect(logger.level).toBe('warn');
});

it('a log level that is reset leaves no timer', () => {
  const current = new LogLevel({ level: 'info' });
  current.set('debug', 1_000);
  current.reset();
  expect(vi.getTimerCount()).toBe(0);
  expect(current.state).toEqual({ level: 'info', configured: 'info' });
});
