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
