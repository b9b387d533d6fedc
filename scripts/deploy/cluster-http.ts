import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { DeploymentError } from './errors.ts';

export type ClusterResponse = { status: number; body: string; durationMs: number };

const TIMEOUT_MS = 10_000;

/**
 * HTTP to pods and Services of one namespace, from wherever kubectl works: through `kubectl proxy` and the API server,
 * with the operator's own credentials (`get` and `create` on `pods/proxy` and `services/proxy`).
 */
export class ClusterHttp implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #base: string;

  private constructor(child: ChildProcess, base: string) {
    this.#child = child;
    this.#base = base;
  }

  static async open(namespace: string): Promise<ClusterHttp> {
    // The port is open to everyone on this machine while it lasts: nothing but this namespace's pods and Services.
    const paths = `^/api/v1/namespaces/${namespace}/(pods|services)/[^/]+/proxy/`;
    const child = spawn('kubectl', ['proxy', '--port=0', `--accept-paths=${paths}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const origin = new Promise<string>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => reject(new Error('it ended')));
      createInterface({ input: child.stdout }).on('line', (line) => {
        const address = /serve on (\S+)$/.exec(line)?.[1];
        if (address) resolve(`http://${address}`);
      });
    }).catch((cause) => {
      throw new DeploymentError('KUBECTL', 'kubectl proxy does not start', { cause });
    });
    return new ClusterHttp(child, `${await origin}/api/v1/namespaces/${namespace}`);
  }

  /** @param target `services/NAME:PORT` or `pods/NAME:PORT`. A Service without a ready pod answers 503. */
  async request(target: string, path: string, body?: unknown): Promise<ClusterResponse> {
    const startedAt = performance.now();
    const post = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    };
    try {
      const response = await fetch(`${this.#base}/${target}/proxy${path}`, {
        ...(body === undefined ? {} : post),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await response.text();
      return { status: response.status, body: text, durationMs: performance.now() - startedAt };
    } catch (cause) {
      throw new DeploymentError('UNREACHABLE', `no answer from ${target}${path}`, { cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.#child.kill();
    await once(this.#child, 'exit');
  }
}
