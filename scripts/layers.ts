import path from 'node:path';

const domainKnows = ['shared/order', 'shared/runtime/trace-context.ts', 'shared/runtime/random.ts'];
const service = (name: string) =>
  ['domain', 'http', 'adapters', 'config.ts', 'metrics.ts'].map((room) => `${name}/${room}`);
const shared = [
  'shared/auth',
  'shared/runtime',
  'shared/sqs',
  'shared/encryption',
  'shared/order',
  'shared/http',
];

/**
 * What each room of the product may import, other rooms and packages alike; `shared/order` stands for
 * `shared/src/order`, and `node:` for all of Node. A room may import only those above it, so there is no circle.
 */
export const LAYERS: Readonly<Record<string, readonly string[]>> = {
  'shared/runtime': ['node:', 'cockatiel', 'dotenv', 'pino', 'prom-client', 'zod'],
  'shared/sqs': ['shared/runtime', 'node:', '@aws-sdk/client-sqs', 'undici'],
  'shared/auth': ['shared/runtime', 'node:', 'jose', 'lru-cache'],
  'shared/encryption': ['shared/runtime', 'node:', '@aws-crypto/client-node'],
  'shared/order': [
    ...['shared/auth/client.ts', 'shared/sqs/queues.ts', 'shared/encryption'],
    ...['node:', 'cockatiel', 'zod'],
  ],
  'shared/http': [
    ...['shared/auth', 'shared/runtime', 'node:', 'lru-cache', 'prom-client', 'zod'],
    ...['fastify', 'fastify-type-provider-zod', '@fastify/cors', '@fastify/helmet'],
    ...['@fastify/swagger', '@fastify/swagger-ui'],
  ],

  'producer/domain': [...domainKnows, 'node:crypto', 'uuid'],
  'producer/config.ts': ['producer/domain', 'shared/runtime', 'shared/order', 'zod'],
  'producer/metrics.ts': ['producer/domain', 'shared/runtime'],
  'producer/http': [
    ...['producer/domain', 'producer/metrics.ts', 'shared/http', 'shared/order'],
    ...['node:timers/promises', 'fastify', 'zod'],
  ],
  'producer/adapters': [
    ...['producer/domain', 'producer/metrics.ts', 'shared/runtime', 'shared/sqs', 'shared/encryption'],
    ...['shared/order', 'node:', '@aws-sdk/client-sqs'],
  ],
  'producer/app.ts': [...service('producer'), ...shared, 'node:timers/promises'],
  'producer/main.ts': ['producer/app.ts', 'producer/config.ts', 'shared/runtime', 'node:fs'],

  'consumer/config.ts': ['shared/runtime', 'shared/sqs', 'zod'],
  'consumer/domain': [...domainKnows, 'node:timers/promises'],
  'consumer/metrics.ts': ['consumer/domain', 'shared/runtime', 'shared/order'],
  'consumer/http': [
    ...['consumer/domain', 'shared/auth/client.ts', 'shared/http', 'shared/order'],
    ...['shared/runtime/logger.ts', 'zod'],
  ],
  'consumer/adapters': ['consumer/domain', 'shared/runtime', 'node:', 'pg'],
  'consumer/queue': [
    'consumer/domain',
    ...['consumer/metrics.ts', 'shared/runtime', 'shared/sqs'],
    ...['node:crypto', '@aws-sdk/client-sqs', 'zod'],
  ],
  'consumer/consume': [
    ...['consumer/domain', 'consumer/queue', 'consumer/metrics.ts'],
    ...['shared/runtime', 'shared/sqs', 'shared/encryption', 'shared/order'],
    ...['node:', '@aws-sdk/client-sqs', 'lru-cache'],
  ],
  'consumer/dlq': [
    ...['consumer/domain', 'consumer/queue', 'shared/encryption', 'shared/order', 'shared/sqs'],
    'shared/runtime/uuid.ts',
    ...['node:crypto', 'node:timers/promises', '@aws-sdk/client-sqs', 'rfc6902', 'zod'],
  ],
  'consumer/create-order-consumer.ts': [
    ...['consumer/consume', 'consumer/queue', 'consumer/domain', 'consumer/config.ts', 'consumer/metrics.ts'],
    ...['shared/runtime', 'shared/sqs', 'shared/encryption', '@aws-sdk/client-sqs'],
  ],
  'consumer/app.ts': [
    ...['consumer/create-order-consumer.ts', 'consumer/queue', 'consumer/consume'],
    ...[...service('consumer'), ...shared],
  ],
  'consumer/migrate.ts': ['consumer/adapters', 'consumer/config.ts', 'shared/runtime'],
  'consumer/main.ts': ['consumer/app.ts', 'consumer/config.ts', 'shared/runtime', 'node:fs'],
};

/** Imports of types count as well. Biome sees to it that all are written alike. */
const IMPORTS = /(?:\bfrom|\bimport\(?)\s*'([^']+)'/g;

const isIn = (target: string, place: string) =>
  target === place || target.startsWith(place.endsWith(':') ? place : `${place}/`);

/** One sentence per import of a product file, such as `consumer/src/queue/dead-letter.ts`, that is not allowed. */
export function forbiddenImports(file: string, source: string): string[] {
  const place = file.replace('/src/', '/');
  const room = Object.keys(LAYERS).find((name) => isIn(place, name));
  if (!room) return [`${file} is in no room that scripts/layers.ts lists`];
  return [...source.matchAll(IMPORTS)].flatMap(([, specifier = '']) => {
    const target = specifier.startsWith('.')
      ? path.posix.join(path.posix.dirname(file), specifier).replace('/src/', '/')
      : specifier.replace(/^@orders\//, '');
    const allowed = [room, ...(LAYERS[room] ?? [])];
    if (allowed.some((name) => isIn(target, name))) return [];
    return [`${file} must not import ${target}: ${room} may import only ${allowed.slice(1).join(', ')}`];
  });
}
