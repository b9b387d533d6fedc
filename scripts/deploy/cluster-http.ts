import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
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

/** Ends what it runs also when this process was killed: nobody else would close that port. */
const WHILE_STDIN_IS_OPEN =
  'exec 3<&0; "$@" & child=$!; (cat <&3 >/dev/null; kill $child) & wait $child 2>/dev/null';

/**
 * From wherever kubectl works: through `kubectl proxy` and the API server, with the operator's own credentials (`get` and
 * `create` on `pods/proxy` and `services/proxy`).
 */
export class ClusterHttp implements PodHttp, AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #base: string;
  readonly #signal: AbortSignal;

  private constructor(child: ChildProcess, base: string, signal: AbortSignal) {
    this.#child = child;
    this.#base = base;
    this.#signal = signal;
  }

  /** @param signal ends requests that are under way */
  static async open(namespace: string, signal: AbortSignal): Promise<ClusterHttp> {
    // The port is open to everyone on this machine while it lasts: nothing but this namespace's pods and Services.
    const paths = `^/api/v1/namespaces/${namespace}/(pods|services)/[^/]+/proxy/`;
    const args = ['proxy', '--port=0', `--accept-paths=${paths}`];
    const child = spawn('sh', ['-c', WHILE_STDIN_IS_OPEN, 'sh', 'kubectl', ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
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
    return new ClusterHttp(child, `${await origin}/api/v1/namespaces/${namespace}`, signal);
  }

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
        signal: AbortSignal.any([this.#signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
      const text = await response.text();
      return { status: response.status, body: text, durationMs: performance.now() - startedAt };
    } catch (cause) {
      throwIfBrokenOff(this.#signal);
      throw new DeploymentError('NO_ANSWER', `no answer from ${target}${path}`, { cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await ended;
  }
}
