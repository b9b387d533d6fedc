import { apiKeyHeader } from '../../dev/api-key.ts';
import type { KubectlProxy } from '../kubectl-proxy.ts';
import { DeploymentError } from './errors.ts';
import { throwIfBrokenOff } from './pause.ts';

export type ClusterResponse = { status: number; body: string; durationMs: number };

/** HTTP to pods and Services of one namespace. */
export type PodHttp = {
  /**
   * @param target `services/NAME:PORT` or `pods/NAME:PORT`. A Service without a ready pod answers 503.
   * @throws {DeploymentError} NO_ANSWER after 5 s, whatever is at fault; BROKEN_OFF
   */
  request: (target: string, path: string, body?: unknown) => Promise<ClusterResponse>;
};

/** Who waits longer for an order to be accepted has gone by then. */
const TIMEOUT_MS = 5_000;

/** @param signal ends requests that are under way. @throws when the file of the API key cannot be read */
export function podHttp(proxy: KubectlProxy, signal: AbortSignal): PodHttp {
  const key = apiKeyHeader();
  const request: PodHttp['request'] = async (target, path, body) => {
    const startedAt = performance.now();
    const post = {
      method: 'POST',
      headers: { ...key, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    };
    try {
      const response = await fetch(`${proxy.url(target)}${path}`, {
        ...(body === undefined ? { headers: key } : post),
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
      const text = await response.text();
      return { status: response.status, body: text, durationMs: performance.now() - startedAt };
    } catch (cause) {
      throwIfBrokenOff(signal);
      throw new DeploymentError('NO_ANSWER', `no answer from ${target}${path}`, { cause });
    }
  };
  return { request };
}
