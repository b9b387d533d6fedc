import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ListQueuesCommand } from '@aws-sdk/client-sqs';
import {
  commonFields,
  type Environment,
  emulatorCredentials,
  loadConfig,
} from '@orders/shared/runtime/config.ts';
import { createLogger } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { Client } from 'pg';
import { RandomPortGenerator, type StartedNetwork, Wait } from 'testcontainers';
import { z } from 'zod';
import { startEmulator } from '../../dev/emulator.ts';
import { type Availability, containersAvailable, LoopbackContainer } from './containers.ts';
import { elasticMqAvailable, startElasticMq } from './elasticmq.ts';

/** What one SQS can do and another cannot. The scenarios check each of these, so that the table stays true. */
export type Capabilities = {
  /** Moves messages by itself on request (StartMessageMoveTask). */
  moveTasks: boolean;
  /** Knows MessageSystemAttributeNames; where not, only the older AttributeNames bring the receive count. */
  systemAttributeNames: boolean;
  /** Refuses to delete with a receipt handle that it never gave out. */
  rejectsBogusReceiptHandle: boolean;
  /** Moves what was received too often to the DLQ. */
  redrivePolicyMoves: boolean;
  /** Keeps and answers all attributes of a queue, its limits and its encryption too. */
  allQueueAttributes: boolean;
  /** Takes a MessageGroupId on a standard queue, and gives it to the receiver (fair queues). */
  keepsMessageGroups: boolean;
  /** Takes texts with characters above U+FFFF. */
  astralCharacters: boolean;
  /** Queues and messages outlive a restart. */
  persistsOverRestart: boolean;
};

export type RunningBackend = {
  /** What the services and tools are told to find it. */
  env: Environment;
  /** Stops it and starts it again, at the same address. Absent where that is not ours to do. */
  restart?: () => Promise<void>;
  stop: () => Promise<void>;
};

export type Backend = {
  name: string;
  capabilities: Capabilities;
  availability: () => Promise<Availability>;
  start: () => Promise<RunningBackend>;
};

const AWS: Capabilities = {
  moveTasks: true,
  systemAttributeNames: true,
  rejectsBogusReceiptHandle: true,
  redrivePolicyMoves: true,
  allQueueAttributes: true,
  keepsMessageGroups: true,
  astralCharacters: true,
  persistsOverRestart: true,
};

/** Everything that the scenarios run on, and, once, what it cannot do. */
export const BACKENDS = {
  embedded: {
    name: 'embedded emulator',
    capabilities: {
      ...AWS,
      moveTasks: false,
      rejectsBogusReceiptHandle: false,
      keepsMessageGroups: false,
      astralCharacters: false,
    },
    availability: async () => ({ available: true, reason: 'in this process' }),
    start: startEmbedded,
  },
  localStack4: {
    name: 'LocalStack 4.14',
    capabilities: { ...AWS, persistsOverRestart: false },
    availability: () => containersAvailable(LOCALSTACK_4),
    start: () => startLocalStack(LOCALSTACK_4),
  },
  localStack3: {
    name: 'LocalStack 3.4',
    capabilities: {
      ...AWS,
      systemAttributeNames: false,
      keepsMessageGroups: false,
      persistsOverRestart: false,
    },
    availability: () => containersAvailable(LOCALSTACK_3),
    start: () => startLocalStack(LOCALSTACK_3),
  },
  elasticMq: {
    name: 'ElasticMQ',
    capabilities: { ...AWS, allQueueAttributes: false, persistsOverRestart: false },
    availability: elasticMqAvailable,
    start: async () => {
      const port = await new RandomPortGenerator().generatePort();
      let process = await startElasticMq(port);
      const env = { AWS_ENDPOINT_URL: `http://127.0.0.1:${port}` };
      await untilSqsAnswers(env);
      const restart = async () => {
        await process.stop();
        process = await startElasticMq(port);
        await untilSqsAnswers(env);
      };
      return { env, restart, stop: () => process.stop() };
    },
  },
  /**
   * TEST_AWS_ENDPOINT_URL names an endpoint, TEST_AWS=1 means AWS itself, in AWS_REGION with the credentials of the
   * environment; TEST_AWS_LACKS lists capabilities that it lacks. Only queues that a test made are touched.
   */
  given: {
    name: process.env['TEST_AWS'] === '1' ? 'AWS' : 'given endpoint',
    capabilities: {
      ...AWS,
      ...Object.fromEntries(
        (process.env['TEST_AWS_LACKS'] ?? '')
          .split(',')
          .filter(Boolean)
          .map((name) => [name, false]),
      ),
    },
    availability: async () =>
      givenEnv()
        ? { available: true, reason: givenEnv()?.['AWS_ENDPOINT_URL'] || 'TEST_AWS=1' }
        : { available: false, reason: 'skipped: neither TEST_AWS_ENDPOINT_URL nor TEST_AWS=1' },
    start: async () => {
      const env = givenEnv() ?? {};
      await untilSqsAnswers(env);
      return { env, stop: async () => {} };
    },
  },
} satisfies Record<string, Backend>;

/** For programs that know no emulator: no stand-in compares them. */
export const EMULATOR_VARIABLES = {
  AWS_ACCESS_KEY_ID: emulatorCredentials.accessKeyId,
  AWS_SECRET_ACCESS_KEY: emulatorCredentials.secretAccessKey,
};

export const LOCALSTACK_4 = 'localstack/localstack:4.14.0';
const LOCALSTACK_3 = 'localstack/localstack:3.4';
export const POSTGRES = 'postgres:17';
const SQS_START_LIMIT_MS = 60_000;

function givenEnv(): Environment | undefined {
  const { TEST_AWS, TEST_AWS_ENDPOINT_URL, AWS_REGION } = process.env;
  if (TEST_AWS !== '1' && !TEST_AWS_ENDPOINT_URL) return undefined;
  return { AWS_ENDPOINT_URL: TEST_AWS === '1' ? 'aws' : TEST_AWS_ENDPOINT_URL, AWS_REGION };
}

async function startEmbedded(): Promise<RunningBackend> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'order-queues-'));
  let emulator = await startEmulator({ port: 0, dataDir });
  const { endpoint } = emulator;
  return {
    env: { AWS_ENDPOINT_URL: endpoint },
    restart: async () => {
      await emulator.stop();
      emulator = await startEmulator({ port: Number(new URL(endpoint).port), dataDir });
    },
    stop: async () => {
      await emulator.stop();
      await rm(dataDir, { recursive: true });
    },
  };
}

/** Its published port is chosen beforehand: the engine's own choice would change with each restart. */
export async function startLocalStack(
  image: string,
  {
    network,
    alias = 'sqs',
    environment = {},
    files = [],
  }: {
    network?: StartedNetwork;
    alias?: string;
    environment?: Readonly<Record<string, string>>;
    files?: { content: string; target: string }[];
  } = {},
): Promise<RunningBackend> {
  const port = await new RandomPortGenerator().generatePort();
  const container = new LoopbackContainer(image)
    .withEnvironment({ SERVICES: 'sqs,kms', ...environment })
    .withCopyContentToContainer(files)
    .withExposedPorts({ container: 4566, host: port })
    .withWaitStrategy(Wait.forListeningPorts())
    // LocalStack takes a few seconds, and minutes on a machine that is busy.
    .withStartupTimeout(150_000);
  const started = await (network
    ? container.withNetwork(network).withNetworkAliases(alias)
    : container
  ).start();
  const env = { AWS_ENDPOINT_URL: `http://127.0.0.1:${port}` };
  await untilSqsAnswers(env);
  return {
    env,
    restart: async () => {
      await started.restart();
      await untilSqsAnswers(env);
    },
    stop: async () => {
      await started.stop();
    },
  };
}

/** A client as the tools have it. */
export function sqsClient(env: Environment) {
  const config = loadConfig(z.object(commonFields), env);
  return createSqsClient({
    config,
    logger: createLogger({ ...config, LOG_LEVEL: 'fatal', service: 'test', version: '' }),
  });
}

/** Asks with a real call: an engine may call itself healthy and load its SQS only then. */
async function untilSqsAnswers(env: Environment): Promise<void> {
  const client = sqsClient(env);
  const deadline = performance.now() + SQS_START_LIMIT_MS;
  try {
    for (;;) {
      try {
        return void (await client.send(new ListQueuesCommand({ QueueNamePrefix: 'none' })));
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(100);
      }
    }
  } finally {
    client.destroy();
  }
}

export type RunningStore = {
  /** The DATABASE_URL of a new and empty database. */
  newDatabase: () => Promise<string>;
  stop: () => Promise<void>;
};

export type Store = {
  name: string;
  availability: () => Promise<Availability>;
  start: () => Promise<RunningStore>;
};

export const STORES = {
  sqlite: {
    name: 'SQLite',
    availability: async () => ({ available: true, reason: 'in this process' }),
    start: async () => {
      const folder = await mkdtemp(path.join(tmpdir(), 'order-stores-'));
      return {
        newDatabase: async () => `sqlite:${path.join(folder, `${randomUUID()}.db`)}`,
        stop: () => rm(folder, { recursive: true }),
      };
    },
  },
  postgres: {
    name: 'PostgreSQL 17',
    availability: () => containersAvailable(POSTGRES),
    start: async () => {
      const { server, stop } = await startPostgres();
      return { newDatabase: async () => (await createDatabase(server)).url, stop };
    },
  },
} satisfies Record<string, Store>;

/** `server` is the URL of its superuser, without a database. */
export async function startPostgres({
  network,
  alias = 'store',
}: {
  network?: StartedNetwork;
  alias?: string;
} = {}): Promise<{ server: string; stop: () => Promise<void> }> {
  const password = randomUUID();
  const container = new LoopbackContainer(POSTGRES)
    .withEnvironment({ POSTGRES_PASSWORD: password })
    .withExposedPorts(5432)
    // Over TCP: while the image initialises its data folder, a server answers on the socket only.
    .withWaitStrategy(Wait.forSuccessfulCommand('pg_isready -h 127.0.0.1 -U postgres'));
  const started = await (network
    ? container.withNetwork(network).withNetworkAliases(alias)
    : container
  ).start();
  return {
    server: `postgres://postgres:${password}@127.0.0.1:${started.getMappedPort(5432)}`,
    stop: async () => {
      await started.stop();
    },
  };
}

/** A database with an owner of its own, who is no superuser: limits hold for it. */
export async function createDatabase(server: string): Promise<{ name: string; url: string }> {
  const name = `orders_${randomUUID().replaceAll('-', '')}`;
  const password = randomUUID();
  const admin = new Client(`${server}/postgres`);
  await admin.connect();
  await admin.query(`CREATE ROLE ${name} LOGIN PASSWORD '${password}'`);
  await admin.query(`CREATE DATABASE ${name} OWNER ${name}`);
  await admin.end();
  const url = new URL(`${server}/${name}`);
  url.username = name;
  url.password = password;
  return { name, url: url.href };
}
