import { DeploymentError } from './errors.ts';

/** Waits between two looks. @throws {DeploymentError} BROKEN_OFF, or why the lock was lost */
export async function pause(signal: AbortSignal, milliseconds: number): Promise<void> {
  throwIfBrokenOff(signal);
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  const wake = () => resolve();
  signal.addEventListener('abort', wake);
  await promise;
  signal.removeEventListener('abort', wake);
  clearTimeout(timer);
  throwIfBrokenOff(signal);
}

export function throwIfBrokenOff(signal: AbortSignal): void {
  if (!signal.aborted) return;
  if (signal.reason instanceof DeploymentError) throw signal.reason;
  throw new DeploymentError('BROKEN_OFF', 'broken off by the operator');
}

/** Looks again and again, for so long. @returns what it found, or `undefined` when the time is over */
export async function within<T>(
  signal: AbortSignal,
  seconds: number,
  everyMs: number,
  look: () => Promise<T | undefined>,
): Promise<T | undefined> {
  for (const giveUpAt = performance.now() + seconds * 1_000; ; ) {
    const found = await look();
    if (found !== undefined || performance.now() > giveUpAt) return found;
    await pause(signal, everyMs);
  }
}
