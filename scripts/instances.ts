import type { AppEnv } from '@orders/shared/runtime/config.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { apiKeyHeader } from '../dev/api-key.ts';
import { loadPorts } from '../dev/pipeline-ports.ts';
import { PORTS, type ServiceName } from './deploy/manifests.ts';
import { openKubectlProxy } from './kubectl-proxy.ts';

/** A running process of a service. */
export type Instance = {
  name: string;
  /** Where its metrics are, and what operators ask of it. */
  url: string;
  /** Where it serves its clients. */
  publicUrl: string;
};

export type Instances = AsyncDisposable & { of: (service: ServiceName) => Promise<Instance[]> };

/** What they need, for the usage of a command. */
export const INSTANCES_NEED =
  'outside dev, kubectl with get on pods and get and create on pods/proxy. ORDER_API_KEY_FILE names the file of the key, where the service asks for one.';

const TIMEOUT_MS = 10_000;
const HEALTH = '/actuator/health';

/** In dev those of `npm start`, at the ports that it would use; elsewhere each pod of the namespace. */
export async function openInstances(environment: AppEnv, env: NodeJS.ProcessEnv): Promise<Instances> {
  if (environment === 'dev') {
    const { producer, consumer } = loadPorts(env);
    const ports = { 'order-producer': producer, 'order-consumer': consumer };
    return {
      of: async (service) => {
        const url = `http://127.0.0.1:${ports[service]}`;
        return [{ name: service, url, publicUrl: url }];
      },
      [Symbol.asyncDispose]: async () => {},
    };
  }
  const proxy = await openKubectlProxy(environment);
  return {
    of: async (service) => {
      const pods = await proxy.metrics(service);
      return [...pods].map(([name, url]) => ({
        name,
        url,
        publicUrl: proxy.url(`pods/${name}:${PORTS[service]}`),
      }));
    },
    [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
  };
}

/**
 * Asks an instance, as the operator whose key is at hand; with a body, acts on it.
 * @throws {StartupError} what it answers instead, in one line
 */
export const askInstance = ({ name, url }: Instance, path: string, body?: object): Promise<unknown> =>
  askPage(url, name, path, body);

/** The same at either of its ports. Resolves with JSON parsed, and with any other page as its text. */
export async function askPage(url: string, name: string, path: string, body?: object): Promise<unknown> {
  const request = body && { method: 'POST', body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await fetch(`${url}${path}`, {
      ...request,
      headers: { ...apiKeyHeader(), ...(body ? { 'content-type': 'application/json' } : {}) },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (cause) {
    throw new StartupError(`${name} does not answer at ${url}`, { cause });
  }
  const answer = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json');
  // A service that is not well says so with 503, and what is wrong in the body.
  if (isJson && (response.ok || path === HEALTH)) return JSON.parse(answer);
  if (!response.ok) throw new StartupError(`${name} answers ${response.status}: ${answer.slice(0, 300)}`);
  return answer;
}

/**
 * The same of all instances of a service, one after the other, told line by line. What one refuses does not keep the next
 * from being asked.
 * @returns how many did not do it
 */
export async function askAll(
  instances: readonly Instance[],
  path: string,
  { body, describe }: { body?: object | undefined; describe: (answer: unknown) => string },
): Promise<number> {
  let failed = 0;
  for (const instance of instances) {
    try {
      console.log(`${instance.name}: ${describe(await askInstance(instance, path, body))}`);
    } catch (error) {
      failed++;
      console.error(error instanceof Error ? error.message : String(error));
    }
  }
  if (instances.length === 0) console.error('nothing of it runs');
  return failed;
}
