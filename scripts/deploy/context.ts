import type { ClusterHttp } from './cluster-http.ts';
import { DeploymentError } from './errors.ts';
import type { Kubectl } from './kubectl.ts';
import type { Manifests } from './manifests.ts';

/** What every command works with. */
export type Session = {
  kubectl: Kubectl;
  http: ClusterHttp;
  /** A line for the operator. */
  say: (line: string) => void;
  /** Aborted by Ctrl-C, or when the lock was lost. */
  signal: AbortSignal;
  rolloutTimeoutSeconds: number;
  /** How long a candidate is watched in each step. */
  watchSeconds: number;
};

/** What the steps of a deployment work with. */
export type Context = Session & { tag: string; manifests: Manifests };

/** Safe to run again: what is there already is left as it is. */
export type Step = { title: string; run: () => Promise<void> };

/** Waits between two looks. @throws {DeploymentError} BROKEN_OFF */
export async function pause(signal: AbortSignal, milliseconds: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
  clearTimeout(timer);
  throwIfBrokenOff(signal);
}

export function throwIfBrokenOff(signal: AbortSignal): void {
  if (!signal.aborted) return;
  if (signal.reason instanceof DeploymentError) throw signal.reason;
  throw new DeploymentError('BROKEN_OFF', 'broken off by the operator');
}
