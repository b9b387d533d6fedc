import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePorts } from '../../dev/port-owner.ts';
import { SERVICE_FLAGS, SERVICE_SCRIPT } from '../../dev/services.ts';
import { type Contestant, measure } from '../contest.ts';
import { LIKE_PRODUCTION } from '../process.ts';
import { startService, startSink } from '../servers/start.ts';
import type { Suite } from '../suite.ts';
import { startProducer, underPosts } from './http.ts';

type Setup = { env: NodeJS.ProcessEnv; flags: readonly string[] };

async function startConsumer(endpoint: string, folder: string, { env, flags }: Setup) {
  const [port] = await freePorts(1);
  return startService(SERVICE_SCRIPT.consumer, `http://127.0.0.1:${port}`, '/readyz', {
    flags,
    env: {
      ...LIKE_PRODUCTION,
      AWS_ENDPOINT_URL: endpoint,
      CONSUMER_PORT: String(port),
      DATABASE_URL: `sqlite:${path.join(folder, `${port}-${Date.now()}.db`)}`,
      POLLERS: '5',
      MAX_IN_WORK: '60',
      ...env,
    },
  });
}

/** Both services as they are, under as much load as they take, with and without what saves memory. The images have MALLOC_ARENA_MAX. */
export const memory: Suite = {
  run: async ({ compete }) => {
    const sink = await startSink();
    const { endpoint } = sink;
    const folder = await mkdtemp(path.join(tmpdir(), 'bench-memory-'));
    // Type stripping takes 20 MB, where it was not done before: in the images it was. An arena of malloc a thread takes 10.
    const sparing: Setup = {
      flags: SERVICE_FLAGS,
      env: { MALLOC_ARENA_MAX: '1', NODE_COMPILE_CACHE: path.join(folder, 'compile-cache') },
    };
    const setups = [
      { name: 'as it comes', settings: 'no flags', flags: [], env: {} },
      { name: 'V8 flags', settings: SERVICE_FLAGS.join(' '), flags: SERVICE_FLAGS, env: {} },
      {
        name: 'all that saves memory',
        settings: `${SERVICE_FLAGS.join(' ')} MALLOC_ARENA_MAX=1, types stripped before (here by a filled NODE_COMPILE_CACHE), all as in the images`,
        ...sparing,
      },
    ];
    const consumer = ({ name, settings, ...setup }: (typeof setups)[number]): Contestant => ({
      name,
      settings,
      run: async (pace) => {
        const worker = await startConsumer(endpoint, folder, setup);
        try {
          return await measure({ counter: sink.sink, worker, sink: sink.sink }, pace);
        } finally {
          await worker.stop();
        }
      },
    });
    const producer = ({ name, settings, ...setup }: (typeof setups)[number]): Contestant =>
      underPosts({ name, settings }, sink, (url) => startProducer(url, setup));
    const contest = (service: string, contestants: Contestant[]) =>
      compete(
        { title: `Memory of ${service} under load`, reference: 'as it comes', contestants },
        { rounds: 3, warmMs: 3_000 },
      );
    try {
      await (await startProducer(endpoint, sparing)).process.stop(); // fills the compile cache
      await (await startConsumer(endpoint, folder, sparing)).stop();
      return [
        await contest('order-producer', setups.map(producer)),
        await contest('order-consumer', setups.map(consumer)),
      ];
    } finally {
      await sink.stop();
      await rm(folder, { recursive: true });
    }
  },
};
