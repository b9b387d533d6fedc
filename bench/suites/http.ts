import { freePorts } from '../../dev/port-owner.ts';
import { SERVICE_SCRIPT } from '../../dev/services.ts';
import { type Contestant, measure, type Pace } from '../contest.ts';
import { LIKE_PRODUCTION, MeasuredProcess } from '../process.ts';
import { type Backend, queueUrlOf, startService, startSink } from '../servers/start.ts';
import type { Suite } from '../suite.ts';

const CONNECTIONS = 50;
/** More code takes longer until all of it is optimised: order-producer's rate still grows in its third second. */
export const WARM_MS = 4_000;

type Server = { url: string; process: MeasuredProcess };

/** order-producer as it is, on a port of its own. */
export async function startProducer(
  endpoint: string,
  options: { env?: NodeJS.ProcessEnv; flags?: readonly string[] } = {},
): Promise<Server> {
  const [port] = await freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const process = await startService(SERVICE_SCRIPT.producer, url, '/readyz', {
    flags: options.flags ?? [],
    env: { ...LIKE_PRODUCTION, AWS_ENDPOINT_URL: endpoint, PRODUCER_PORT: String(port), ...options.env },
  });
  return { url, process };
}

async function startFastify(endpoint: string, ...args: string[]): Promise<Server> {
  const job = JSON.stringify({ endpoint, queueUrl: queueUrlOf(endpoint) });
  const process = await MeasuredProcess.start('bench/peers/fastify.ts', { args: [job, ...args] });
  return { url: String(process.details['url']), process };
}

/** A server, with as many orders posted to it as it takes. */
export function underPosts(
  contestant: Omit<Contestant, 'run'>,
  backend: Backend,
  start: (endpoint: string) => Promise<Server>,
  headers: Readonly<Record<string, string>> = {},
): Contestant {
  const run = async (pace: Pace) => {
    const server = await start(backend.endpoint);
    const args = [server.url, String(CONNECTIONS), JSON.stringify(headers)];
    const load = await MeasuredProcess.start('bench/servers/http-load.ts', { args });
    try {
      return await measure(
        { counter: load, worker: server.process, ...(backend.sink ? { sink: backend.sink } : {}) },
        pace,
      );
    } finally {
      await load.stop();
      await server.process.stop();
    }
  };
  return { ...contestant, run };
}

/** `POST /orders`, each answered when SQS has confirmed it. */
export const http: Suite = {
  run: async ({ compete }) => {
    const sink = await startSink();
    try {
      const contest = {
        title: `HTTP, ${CONNECTIONS} connections`,
        reference: 'order-producer',
        contestants: [
          underPosts(
            { name: 'order-producer', settings: 'checks the order, answers 202 when SQS has it' },
            sink,
            (endpoint) => startProducer(endpoint),
          ),
          underPosts(
            { name: 'Fastify, one SendMessage each', settings: 'checks nothing, SDK as it comes' },
            sink,
            (endpoint) => startFastify(endpoint, 'send-each'),
          ),
          underPosts(
            { name: 'bare Fastify', settings: 'checks nothing, sends nothing, answers 202 at once' },
            sink,
            (endpoint) => startFastify(endpoint),
          ),
        ],
      };
      return [await compete(contest, { warmMs: WARM_MS })];
    } finally {
      await sink.stop();
    }
  },
};
