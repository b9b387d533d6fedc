import { vi } from 'vitest';

/** Waits until the assertion holds, and answers what it answers. */
export const eventually = <T>(assertion: () => T | Promise<T>, timeout = 30_000, interval = 50): Promise<T> =>
  vi.waitFor(assertion, { timeout, interval });
