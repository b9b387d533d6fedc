import { describe, expect, it } from 'vitest';
import { forbiddenImports, LAYERS } from './layers.ts';

const queueFile = 'consumer/src/queue/dead-letter.ts';

describe('LAYERS', () => {
  it('lets a room import only rooms above it, so that there is no circle', () => {
    const rooms = Object.keys(LAYERS);
    const products = /^(shared|producer|consumer)\//;
    for (const [index, room] of rooms.entries()) {
      for (const target of LAYERS[room]?.filter((name) => products.test(name)) ?? []) {
        const above = rooms.slice(0, index).some((name) => `${target}/`.startsWith(`${name}/`));
        expect(above, `${room} -> ${target}`).toBe(true);
      }
    }
  });
});

describe('forbiddenImports', () => {
  it.each([
    ['a file of the same room', "import { a } from './received-message.ts';"],
    ['a room that is listed', "import type { ConsumerMetrics } from '../metrics.ts';"],
    ['a shared room that is listed', "import { MAX } from '@orders/shared/sqs/queues.ts';"],
    ['a package that is listed', "import { z } from 'zod';"],
  ])('allows %s', (_what, source) => {
    expect(forbiddenImports(queueFile, source)).toEqual([]);
  });

  it.each([
    ['another room', "import { a } from '../consume/lease.ts';", 'consumer/consume/lease.ts'],
    ['a type of another room', "import type { A } from '../consume/lease.ts';", 'consumer/consume/lease.ts'],
    ['the other service', "import { a } from '@orders/producer/app.ts';", 'producer/app.ts'],
    ['what is only for development', "import { a } from '../../../dev/emulator.ts';", 'dev/emulator.ts'],
    ['a package', "import pg from 'pg';", 'pg'],
    ['an import over several lines', "import {\n  a,\n} from 'pg';", 'pg'],
    ['an import at run time', "await import('pg');", 'pg'],
  ])('reports %s', (_what, source, target) => {
    const [message] = forbiddenImports(queueFile, source);
    expect(message).toContain(`${queueFile} must not import ${target}: consumer/queue may import only `);
  });

  it('reports shared code that imports a service', () => {
    expect(forbiddenImports('shared/src/sqs/batch.ts', "import '@orders/consumer/app.ts';")).toHaveLength(1);
  });

  it('reports a file in a room that is not listed', () => {
    expect(forbiddenImports('consumer/src/attic/box.ts', '')).toEqual([
      'consumer/src/attic/box.ts is in no room that scripts/layers.ts lists',
    ]);
  });
});
