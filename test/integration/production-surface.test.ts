import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import type { FastifyInstance, RouteOptions } from 'fastify';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { sqsClient } from '../support/backends.ts';
import { type Pair, startPair } from '../support/pair.ts';

type Route = { method: string; url: string };
type Server = { instance: FastifyInstance; routes: Route[] };

/** For everybody: the health of a service, and nothing of what it knows. */
const HEALTH = [
  '/livez',
  '/readyz',
  '/actuator/health',
  '/actuator/health/liveness',
  '/actuator/health/readiness',
];
const PROMETHEUS = ['/metrics', '/actuator/prometheus'];

/** Every server that this process makes, with its routes, also those that a plugin adds. */
function collectServers(): { servers: Server[]; stop: () => void } {
  const servers: Server[] = [];
  const onServer = (message: unknown) => {
    const instance = (message as { fastify: FastifyInstance }).fastify;
    const server: Server = { instance, routes: [] };
    servers.push(server);
    instance.addHook('onRoute', ({ method, url }: RouteOptions) => {
      for (const each of [method].flat()) server.routes.push({ method: each, url });
    });
  };
  subscribe('fastify.initialization', onServer);
  return { servers, stop: () => unsubscribe('fastify.initialization', onServer) };
}

describe('both services in production', () => {
  const operator = createApiKey();
  let pair: Pair | undefined;
  let emulator: Awaited<ReturnType<typeof startEmulator>> | undefined;
  let folder: string;
  let servers: Server[];
  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'surface-'));
    const file = path.join(folder, 'api-keys');
    writeFileSync(file, `oncall operations ${operator.digest}\n`);
    const collected = collectServers();
    servers = collected.servers;
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'test');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'test');
    emulator = await startEmulator({ port: 0 });
    const AWS_ENDPOINT_URL = emulator.endpoint;
    const client = sqsClient({ AWS_ENDPOINT_URL });
    await ensureQueues(client, 'production', { queue: 'order-queue', deadLetterQueue: 'order-dlq' });
    client.destroy();
    pair = await startPair(
      { AWS_ENDPOINT_URL, AUTH: 'api-key', API_KEYS_FILE: file, MANAGEMENT_PORT: '0' },
      'production',
    );
    collected.stop();
  });
  afterAll(async () => {
    await pair?.[Symbol.asyncDispose]();
    await emulator?.stop();
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  const urlOf = (which: 'producerUrl' | 'consumerUrl') => pair?.[which] ?? '';
  const routesAt = (url: string) => {
    const port = Number(new URL(url).port);
    const server = servers.find(
      ({ instance }) => (instance.server.address() as AddressInfo | null)?.port === port,
    );
    return server?.routes ?? [];
  };
  const ask = async (base: string, { method, url }: Route, headers: Record<string, string> = {}) => {
    const post = { body: '{}', headers: { ...headers, 'content-type': 'application/json' } };
    const request = { method, ...(method === 'POST' ? post : { headers }) };
    return fetch(base + url.replaceAll(/:\w+/g, '019aa0b5-1c5f-7000-8000-000000000000'), request);
  };

  test.each([
    ['producerUrl', 'POST', '/orders'],
    ['consumerUrl', 'GET', '/orders/:orderId'],
  ] as const)(
    '%s: of all its routes, health alone answers without credentials',
    async (which, method, url) => {
      const routes = routesAt(urlOf(which));
      expect(routes).toContainEqual({ method, url });
      expect(routes.map((route) => route.url)).toEqual(expect.arrayContaining([...HEALTH, ...PROMETHEUS]));
      const answered = [];
      for (const route of routes) {
        const { status } = await ask(urlOf(which), route);
        if (HEALTH.includes(route.url)) expect([route, status]).toEqual([route, 200]);
        else if (PROMETHEUS.includes(route.url)) expect([route, status]).toEqual([route, 404]);
        else if (status !== 401) answered.push({ ...route, status });
      }
      expect(answered).toEqual([]);
      for (const unlisted of ['/', '/docs', '/docs/', '/openapi.json', '/docs/json'])
        expect([unlisted, (await fetch(urlOf(which) + unlisted)).status]).toEqual([unlisted, 404]);
    },
  );

  test.each(['producerUrl', 'consumerUrl'] as const)(
    '%s: health without credentials is the status alone',
    async (which) => {
      for (const url of HEALTH)
        expect([url, await (await ask(urlOf(which), { method: 'GET', url })).json()]).toEqual([
          url,
          { status: 'UP' },
        ]);
      const detailed = await ask(
        urlOf(which),
        { method: 'GET', url: '/actuator/health' },
        { 'x-api-key': operator.key },
      );
      expect(await detailed.json()).toMatchObject({ components: { sqs: { status: 'UP' } } });
    },
  );

  test.each(['producer', 'consumer'] as const)(
    "%s: on its management port are Prometheus's pages, and what needs credentials",
    async (which) => {
      const base = pair?.managementUrls[which] ?? '';
      const routes = routesAt(base);
      const operations = ['/actuator/log-level', ...(which === 'consumer' ? ['/actuator/consumption'] : [])];
      expect([...new Set(routes.map(({ url }) => url))].sort()).toEqual(
        [...PROMETHEUS, ...operations].sort(),
      );
      const mayLook = { 'x-api-key': operator.key };
      for (const route of routes) {
        const isOpen = PROMETHEUS.includes(route.url);
        expect([route, (await ask(base, route)).status]).toEqual([route, isOpen ? 200 : 401]);
        if (!isOpen)
          expect([route, (await ask(base, route, mayLook)).status]).toEqual([
            route,
            route.method === 'POST' ? 403 : 200,
          ]);
      }
    },
  );
});
