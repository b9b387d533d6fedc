import { Client } from 'pg';
import { Network, type StartedNetwork } from 'testcontainers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scrape } from '../../scripts/prometheus-text.ts';
import {
  createDatabase,
  LOCALSTACK_4,
  POSTGRES,
  type RunningBackend,
  startLocalStack,
  startPostgres,
} from '../support/backends.ts';
import { containersAvailable } from '../support/containers.ts';
import { eventually } from '../support/eventually.ts';
import { allStored, type Load, startLoad } from '../support/load.ts';
import { type Pair, startPair } from '../support/pair.ts';
import { depthOf, openQueues } from '../support/queues.ts';
import { type ProxiedLink, startToxiproxy, TOXIPROXY, type Toxiproxy } from '../support/toxiproxy.ts';

/** What lease and heartbeat are is scaled down; breaker, back-off and time-outs are those of production. */
const ENV = {
  SQS_WAIT_TIME_SECONDS: '1',
  VISIBILITY_TIMEOUT_SECONDS: '10',
  HEARTBEAT_SECONDS: '3',
  HANDLING_TIMEOUT_SECONDS: '3',
  LEASE_MARGIN_SECONDS: '2',
};
const RECOVERY_LIMIT_MS = 120_000;

type Scene = {
  pair: Pair;
  load: Load;
  /** Between the services and SQS, and between the consumer and its store. */
  sqs: ProxiedLink;
  store: ProxiedLink;
  /** Of the consumer's database and of its role. */
  database: string;
  admin: Client;
};

type Outage = {
  env?: Record<string, string>;
  begin: (scene: Scene) => Promise<void>;
  /** Resolves when the outage has shown all that it should. */
  observe: (scene: Scene) => Promise<void>;
  end: (scene: Scene) => Promise<void>;
};

const lines = ({ pair }: Scene, message: string, fields: object = {}) =>
  pair.lines.filter(
    (line) =>
      line.message === message &&
      Object.entries(fields).every(([name, value]) => (line as Record<string, unknown>)[name] === value),
  );

const isReady = async (url: string) => (await fetch(`${url}/readyz`)).status === 200;

async function storeBreakerStopsPolling(scene: Scene): Promise<void> {
  const receives = async () => {
    const { value } = await scrape(scene.pair.consumerUrl);
    return value('sqs_request_duration_seconds_count', ({ operation }) => operation === 'ReceiveMessage');
  };
  const opened = (times: number) =>
    eventually(() =>
      expect(lines(scene, 'breaker opened', { breaker: 'store' }).length).toBeGreaterThanOrEqual(times),
    );
  // It opens again after each question whether the store is back. By the third, the polls under way have ended.
  await opened(3);
  const atThird = await receives();
  expect(atThird).toBeGreaterThan(0);
  await opened(4);
  expect(await receives()).toBe(atThird);
  await eventually(async () => expect(await isReady(scene.pair.consumerUrl)).toBe(false));
  // The producer needs no database: the queue takes the orders meanwhile.
  await scene.load.more(5);
  expect(scene.load.answers.every(({ status }) => status === 202)).toBe(true);
}

const OUTAGES: Record<string, Outage> = {
  'SQS cut': {
    begin: ({ sqs }) => sqs.cut(),
    observe: async (scene) => {
      const { pair, load } = scene;
      const refused = await eventually(() => {
        const refused = load.answers.filter(({ status }) => status !== 202);
        expect(refused.length).toBeGreaterThan(0);
        return refused;
      });
      for (const { status, contentType, retryAfterSeconds } of refused) {
        expect(status).toBe(503);
        expect(contentType).toMatch(/^application\/problem\+json/);
        expect(retryAfterSeconds).toBeGreaterThan(0);
      }
      await eventually(() =>
        expect(lines(scene, 'breaker opened', { breaker: 'sqs' }).length).toBeGreaterThan(0),
      );
      await eventually(async () => {
        expect(await isReady(pair.producerUrl)).toBe(false);
        expect(await isReady(pair.consumerUrl)).toBe(false);
      });
      // Its back-off doubles: three failures take at least a second and a half, and without one they take no time.
      const failures = await eventually(() => {
        const failures = lines(scene, 'poll failed', { failures: 3 });
        expect(failures.length).toBeGreaterThan(0);
        return lines(scene, 'poll failed');
      });
      expect(failures.length).toBeLessThan(20);
    },
    end: ({ sqs }) => sqs.heal(),
  },

  'SQS slow by 2 s': {
    begin: ({ sqs }) => sqs.add({ type: 'latency', attributes: { latency: 2_000 } }),
    observe: ({ load }) =>
      eventually(() => {
        const slow = load.answers.filter(({ status, durationMs }) => status === 202 && durationMs >= 2_000);
        expect(slow.length).toBeGreaterThan(8);
      }),
    end: async ({ sqs, load }) => {
      await sqs.heal();
      expect(load.answers.every(({ status }) => status === 202)).toBe(true);
    },
  },

  'SQS connections reset': {
    begin: ({ sqs }) => sqs.add({ type: 'reset_peer', stream: 'upstream', attributes: { timeout: 200 } }),
    observe: async (scene) => {
      await eventually(() => expect(lines(scene, 'poll failed').length).toBeGreaterThan(3));
    },
    end: ({ sqs }) => sqs.heal(),
  },

  'PostgreSQL cut': {
    begin: ({ store }) => store.cut(),
    observe: storeBreakerStopsPolling,
    end: ({ store }) => store.heal(),
  },

  // The statement is done, and its answer too late: what is stored comes again, as a duplicate.
  'PostgreSQL slower than its time-out': {
    env: { DATABASE_STATEMENT_TIMEOUT_MS: '1000' },
    begin: ({ store }) =>
      store.add({ type: 'latency', stream: 'downstream', attributes: { latency: 3_000 } }),
    observe: storeBreakerStopsPolling,
    end: ({ store }) => store.heal(),
  },

  'PostgreSQL out of connections': {
    begin: async ({ admin, database }) => {
      await admin.query(`ALTER ROLE ${database} CONNECTION LIMIT 0`);
      await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [
        database,
      ]);
    },
    observe: storeBreakerStopsPolling,
    end: async ({ admin, database }) => {
      await admin.query(`ALTER ROLE ${database} CONNECTION LIMIT -1`);
    },
  },
};

const engine = await containersAvailable(LOCALSTACK_4, POSTGRES, TOXIPROXY);

describe.skipIf(!engine.available)(`outages (${engine.reason})`, () => {
  let network: StartedNetwork;
  let sqs: RunningBackend;
  let postgres: { server: string; stop: () => Promise<void> };
  let toxiproxy: Toxiproxy;
  let admin: Client;

  beforeAll(async () => {
    network = await new Network().start();
    [sqs, postgres, toxiproxy] = await Promise.all([
      startLocalStack(LOCALSTACK_4, { network, alias: 'sqs' }),
      startPostgres({ network, alias: 'store' }),
      startToxiproxy(network, 2 * Object.keys(OUTAGES).length),
    ]);
    admin = new Client(`${postgres.server}/postgres`);
    await admin.connect();
  });
  afterAll(async () => {
    await admin?.end();
    await Promise.all([sqs?.stop(), postgres?.stop(), toxiproxy?.stop()]);
    await network?.stop();
  });

  test.concurrent.each(Object.entries(OUTAGES))(
    '%s under load, loses no accepted order, puts nothing into the DLQ, and is got over',
    { timeout: 2 * RECOVERY_LIMIT_MS },
    async (name, { env, begin, observe, end }) => {
      await using queues = await openQueues(sqs.env);
      const { name: database, url } = await createDatabase(postgres.server);
      const proxies = {
        sqs: await toxiproxy.proxy(`${database}-sqs`, 'sqs:4566'),
        store: await toxiproxy.proxy(`${database}-store`, 'store:5432'),
      };
      const databaseUrl = new URL(url);
      databaseUrl.port = String(proxies.store.port);
      await using pair = await startPair({
        ...ENV,
        ...env,
        ...queues.env,
        AWS_ENDPOINT_URL: `http://127.0.0.1:${proxies.sqs.port}`,
        DATABASE_URL: databaseUrl.href,
      });
      const load = startLoad(pair.producerUrl);
      const scene: Scene = { pair, load, ...proxies, database, admin };
      try {
        await load.more(20);
        await allStored(pair.consumerUrl, load.accepted());

        await begin(scene);
        await observe(scene);
        await end(scene);
        const endedAtMs = performance.now();
        await eventually(async () => {
          expect(await isReady(pair.producerUrl)).toBe(true);
          expect(await isReady(pair.consumerUrl)).toBe(true);
        }, RECOVERY_LIMIT_MS);
        const readyMs = performance.now() - endedAtMs;
        await load.more(10);
        await load.stop();
        await allStored(pair.consumerUrl, load.accepted());
        const caughtUpMs = performance.now() - endedAtMs;
        console.log(
          `${name}: ready ${seconds(readyMs)} s after its end, all ${load.accepted().length} accepted orders stored after ${seconds(caughtUpMs)} s`,
        );
      } finally {
        await load.stop();
      }
      // What was received and never heard of comes again after its visibility time, and is a duplicate.
      await eventually(async () =>
        expect(await depthOf(queues.client, queues.urls.queueUrl)).toEqual({ visible: 0, inFlight: 0 }),
      );
      expect(await depthOf(queues.client, queues.urls.deadLetterQueueUrl)).toEqual({
        visible: 0,
        inFlight: 0,
      });
      expect(lines(scene, 'message sent to the dead-letter queue')).toEqual([]);
    },
  );
});

const seconds = (ms: number) => (ms / 1_000).toFixed(1);
