import { type StartedNetwork, Wait } from 'testcontainers';
import { LoopbackContainer } from './containers.ts';

export const TOXIPROXY = 'ghcr.io/shopify/toxiproxy:2.12.0';

/** Disturbances of a connection (https://github.com/Shopify/toxiproxy#toxics). */
export type Toxic = {
  type: 'latency' | 'reset_peer';
  stream?: 'upstream' | 'downstream';
  /** Share of the connections that have it. */
  toxicity?: number;
  attributes: Record<string, number>;
};

export type ProxiedLink = {
  /** As this machine reaches it. */
  port: number;
  /** Ends all connections, and takes no new ones. */
  cut: () => Promise<void>;
  /** One of a type at a time. */
  add: (toxic: Toxic) => Promise<void>;
  /** Ends all disturbances. */
  heal: () => Promise<void>;
};

export type Toxiproxy = {
  /** @param upstream host and port, as the proxy's network reaches them */
  proxy: (name: string, upstream: string) => Promise<ProxiedLink>;
  stop: () => Promise<void>;
};

const API_PORT = 8474;
const FIRST_PORT = 8_600;

/** @param proxies how many it has room for: ports are published when it starts */
export async function startToxiproxy(network: StartedNetwork, proxies: number): Promise<Toxiproxy> {
  const ports = Array.from({ length: proxies }, (_, index) => FIRST_PORT + index);
  const container = await new LoopbackContainer(TOXIPROXY)
    .withNetwork(network)
    .withExposedPorts(API_PORT, ...ports)
    .withWaitStrategy(Wait.forHttp('/version', API_PORT))
    .start();
  const call = async (method: 'POST' | 'DELETE', path: string, body?: object) => {
    const response = await fetch(`http://127.0.0.1:${container.getMappedPort(API_PORT)}${path}`, {
      method,
      body: body ? JSON.stringify(body) : null,
    });
    if (!response.ok) throw new Error(`Toxiproxy: ${response.status} ${await response.text()}`);
    await response.body?.cancel();
  };
  return {
    proxy: async (name, upstream) => {
      const port = ports.shift();
      if (port === undefined) throw new Error('no port left for another proxy');
      const toxics: string[] = [];
      const path = `/proxies/${name}`;
      await call('POST', '/proxies', { name, listen: `0.0.0.0:${port}`, upstream, enabled: true });
      return {
        port: container.getMappedPort(port),
        cut: () => call('POST', path, { enabled: false }),
        add: async (toxic) => {
          await call('POST', `${path}/toxics`, { ...toxic, name: toxic.type });
          toxics.push(toxic.type);
        },
        heal: async () => {
          for (const toxic of toxics.splice(0)) await call('DELETE', `${path}/toxics/${toxic}`);
          await call('POST', path, { enabled: true });
        },
      };
    },
    stop: async () => {
      await container.stop();
    },
  };
}
