import { randomUUID } from 'node:crypto';
import { GetQueueAttributesCommand, SetQueueAttributesCommand } from '@aws-sdk/client-sqs';
import {
  anOrder,
  describeOrderRepository,
  POSTGRES_RULES,
  resultsOf,
  withOtherContent,
} from '@orders/consumer/adapters/order-repository.contract.ts';
import {
  openPostgresOrderRepository,
  type PostgresOrderRepository,
} from '@orders/consumer/adapters/postgres-order-repository.ts';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import type { OrderRequest } from '@orders/shared/order/order.ts';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Emulator, startEmulator } from '../../dev/emulator.ts';
import { findPostgres, PostgresServer } from '../../dev/postgres-server.ts';
import { sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { allStored } from '../support/load.ts';
import { type Pair, post, startPair } from '../support/pair.ts';
import { depthOf, findQueues, type Queues } from '../support/queues.ts';

vi.setConfig({ testTimeout: 120_000 });

/** All times of production but the lease's, divided by ten or more; and SQS gives up after three receives, not twenty. */
const MAX_RECEIVE_COUNT = 3;
const ENV = {
  SQS_WAIT_TIME_SECONDS: '1',
  VISIBILITY_TIMEOUT_SECONDS: '12',
  HEARTBEAT_SECONDS: '2',
  HANDLING_TIMEOUT_SECONDS: '5',
  LEASE_MARGIN_SECONDS: '2',
  DATABASE_STATEMENT_TIMEOUT_MS: '400',
  BREAKER_MIN_OPEN_MS: '20',
  BREAKER_MAX_OPEN_MS: '100',
  OUTAGE_HOLD_SECONDS: '0.3',
  OUTAGE_RELEASE_MIN_SECONDS: '1',
  OUTAGE_RELEASE_MAX_SECONDS: '1',
  RETRY_BACKOFF_MIN_SECONDS: '0',
  RETRY_BACKOFF_MAX_SECONDS: '1',
  MAX_FAILURES: '2',
};

type Scene = AsyncDisposable & {
  pair: Pair;
  database: string;
  url: string;
  queues: Queues;
  place: (order?: Partial<OrderRequest>) => Promise<string>;
  /** Reasons of what is in the DLQ; a message that SQS moved has none. */
  deadLetters: () => Promise<(string | undefined)[]>;
  timesOpened: () => number;
  ready: () => Promise<number>;
};

const postgres = findPostgres();

describe.skipIf(!postgres)('PostgreSQL (skipped where no server is installed)', () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await PostgresServer.start(postgres as string);
  });
  afterAll(() => server?.stop());

  const OPTIONS = { poolSize: 4, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 };
  const newDatabase = async () => {
    const name = `orders_${randomUUID().replaceAll('-', '')}`;
    return { name, url: await server.createDatabase(name) };
  };

  describeOrderRepository(
    'PostgreSQL',
    async () => {
      const { name, url } = await newDatabase();
      return {
        repository: await openPostgresOrderRepository(url, OPTIONS),
        reopen: () => openPostgresOrderRepository(url, OPTIONS),
        exec: (sql) => server.sql(sql, name),
      };
    },
    POSTGRES_RULES,
  );

  describe('PostgresOrderRepository', () => {
    let repository: PostgresOrderRepository;
    let database: string;
    const closing: { close: () => Promise<void> }[] = [];
    const openRepository = async (options: Partial<typeof OPTIONS> = {}) => {
      const { name, url } = await newDatabase();
      database = name;
      repository = await openPostgresOrderRepository(url, { ...OPTIONS, ...options });
      const other = new Client(url);
      await other.connect();
      closing.push(repository, { close: () => other.end() });
      return other;
    };
    afterEach(async () => {
      await Promise.all(closing.splice(0).map((each) => each.close()));
    });

    test('saveAll, with a row that another transaction deletes, rejects with ORDER_LOCKED while others are stored, and stores it anew', async () => {
      const other = await openRepository({ statementTimeoutMs: 600 });
      const [held, free] = [anOrder(), anOrder()];
      await repository.saveAll([held]);
      await other.query('BEGIN');
      await other.query('DELETE FROM orders WHERE order_id = $1', [held.order.orderId]);
      await expect(repository.saveAll([free, held])).rejects.toMatchObject({ code: 'ORDER_LOCKED' });
      expect(resultsOf(await repository.saveAll([free]))).toEqual(['stored']);
      await expect(repository.rehearse([anOrder()])).resolves.toBeUndefined();
      await other.query('COMMIT');
      expect(resultsOf(await repository.saveAll([withOtherContent(held)]))).toEqual(['stored']);
    });

    test('saveAll and rehearse, undone by PostgreSQL, are tried again, a rehearsal as a whole', async () => {
      const other = await openRepository();
      await other.query(`
        CREATE SEQUENCE tries;
        CREATE FUNCTION undo_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF nextval('tries') % 3 <> 0 THEN RAISE EXCEPTION 'undone' USING ERRCODE = '40001'; END IF;
          RETURN NEW; END $$;
        CREATE TRIGGER undo_first BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION undo_first()`);
      await repository.rehearse([anOrder()]);
      expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
      expect((await other.query('SELECT last_value::int FROM tries')).rows).toEqual([{ last_value: 6 }]);
    });

    test('rehearse, undone each time, rejects with STORE_UNAVAILABLE for that reason', async () => {
      const other = await openRepository();
      await other.query(`
        CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE EXCEPTION 'undone' USING ERRCODE = '40001'; END $$;
        CREATE TRIGGER undo BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION undo()`);
      await expect(repository.rehearse([anOrder()])).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        cause: { code: '40001' },
      });
    });

    test('saveAll and rehearse, while the whole table is locked, reject with STORE_UNAVAILABLE', async () => {
      const other = await openRepository({ statementTimeoutMs: 200 });
      await other.query('BEGIN; LOCK TABLE orders');
      for (const call of ['saveAll', 'rehearse'] as const)
        await expect(repository[call]([anOrder()])).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
      await other.query('COMMIT');
      expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
    });

    test('rehearse, where a trigger refuses at the end of the transaction, is refused as a save is', async () => {
      await openRepository();
      await server.sql(
        `CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'late'; END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION late()`,
        database,
      );
      const refused = { code: 'ORDER_REFUSED', refusal: 'P0001' };
      await expect(repository.saveAll([anOrder()])).rejects.toMatchObject(refused);
      await expect(repository.rehearse([anOrder()])).rejects.toMatchObject(refused);
      expect(repository.pool()).toMatchObject({ waiting: 0 });
    });

    test('rehearse, while COMMIT waits for a standby that is gone, rejects with STORE_UNAVAILABLE, and leaves no connection waiting', async () => {
      await openRepository({ poolSize: 1, statementTimeoutMs: 200 });
      const waiting = async () =>
        Number((await server.sql(`SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`))[0]);
      try {
        await loseStandby();
        for (let i = 0; i < 2; i++)
          await expect(repository.rehearse([anOrder()])).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
        expect(await waiting()).toBe(0);
      } finally {
        await regainStandby();
      }
      await expect(repository.rehearse([anOrder()])).resolves.toBeUndefined();
      expect(await server.sql('SELECT count(*) FROM orders', database)).toEqual(['0']);
    });
  });

  const loseStandby = async () => {
    await server.sql(`ALTER SYSTEM SET synchronous_standby_names = 'gone'`);
    await server.sql('SELECT pg_reload_conf()');
  };
  const regainStandby = async () => {
    await server.sql('ALTER SYSTEM RESET synchronous_standby_names');
    await server.sql('SELECT pg_reload_conf()');
  };

  async function open(): Promise<Scene> {
    const { name: database, url } = await newDatabase();
    const emulator = await startEmulator({ port: 0 });
    await limitReceives(emulator);
    const pair = await startPair({ ...ENV, AWS_ENDPOINT_URL: emulator.endpoint, DATABASE_URL: url });
    const queues = await findQueues(emulator.endpoint);
    return {
      pair,
      database,
      url,
      queues,
      place: async (order) => {
        const request = anOrderRequest({ orderId: randomUUID(), ...order });
        expect((await post(`${pair.producerUrl}/orders`, request)).status).toBe(202);
        return request.orderId as string;
      },
      deadLetters: async () =>
        (await new DeadLetterQueue(queues.client, queues.urls).peek(100)).map(
          ({ deadLetter }) => deadLetter?.reason,
        ),
      timesOpened: () => pair.lines.filter(({ message }) => message === 'breaker opened').length,
      ready: async () => (await fetch(`${pair.consumerUrl}/readyz`)).status,
      [Symbol.asyncDispose]: async () => {
        queues[Symbol.dispose]();
        await pair[Symbol.asyncDispose]();
        await emulator.stop();
      },
    };
  }

  async function limitReceives({ endpoint }: Emulator): Promise<void> {
    const client = sqsClient({ AWS_ENDPOINT_URL: endpoint });
    const names = { queue: 'order-queue', deadLetterQueue: 'order-dlq' };
    const { queue } = await ensureQueues(client, 'dev', names);
    const { Attributes } = await client.send(
      new GetQueueAttributesCommand({ QueueUrl: queue.url, AttributeNames: ['RedrivePolicy'] }),
    );
    const RedrivePolicy = JSON.stringify({
      ...JSON.parse(Attributes?.['RedrivePolicy'] ?? '{}'),
      maxReceiveCount: MAX_RECEIVE_COUNT,
    });
    await client.send(new SetQueueAttributesCommand({ QueueUrl: queue.url, Attributes: { RedrivePolicy } }));
    client.destroy();
  }

  const queueIsEmpty = ({ queues }: Scene) =>
    eventually(async () =>
      expect(await depthOf(queues.client, queues.urls.queueUrl)).toEqual({ visible: 0, inFlight: 0 }),
    );

  const BLOCKED = { customerId: 'blocked' };
  test.each([
    [
      'a trigger with an SQLSTATE of its own refuses',
      `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'blocked' USING ERRCODE = 'CR001'; END $$;
       CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW
         WHEN (NEW.customer_id = 'blocked') EXECUTE FUNCTION refuse()`,
    ],
    [
      'a trigger swallows',
      `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
       CREATE TRIGGER swallow BEFORE INSERT ON orders FOR EACH ROW
         WHEN (NEW.customer_id = 'blocked') EXECUTE FUNCTION swallow()`,
    ],
    [
      'a second unique index refuses',
      `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
         VALUES (gen_random_uuid(), 'blocked', 0, '', '', '{}');
       CREATE UNIQUE INDEX one_blocked ON orders (customer_id) WHERE customer_id = 'blocked'`,
    ],
    [
      'a foreign key refuses, beside a second unique index',
      `CREATE TABLE customers (id text PRIMARY KEY);
       INSERT INTO customers SELECT DISTINCT customer_id FROM orders;
       ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers (id);
       CREATE UNIQUE INDEX one_trace ON orders (trace_id)`,
      'ORDER_NOT_STORABLE',
    ],
  ])(
    'consumer, with orders among others that %s, stores the others, rejects these with a reason, and sees no outage',
    async (_, rule, reason = 'MAX_FAILURES') => {
      await using scene = await open();
      await allStored(scene.pair.consumerUrl, [await scene.place()]);
      await server.sql(rule, scene.database);
      const placed = await Promise.all(
        Array.from({ length: 100 }, (_, n) => scene.place(n % 5 === 0 ? BLOCKED : {})),
      );
      await allStored(
        scene.pair.consumerUrl,
        placed.filter((_, n) => n % 5 !== 0),
        20_000,
      );
      await eventually(async () => expect(await scene.deadLetters()).toEqual(Array(20).fill(reason)));
      await queueIsEmpty(scene);
      expect(scene.timesOpened()).toBe(0);
      expect(await scene.ready()).toBe(200);
    },
  );

  test.each([
    [
      'a column that every order lacks',
      `ALTER TABLE orders ADD region text NOT NULL DEFAULT ''; ALTER TABLE orders ALTER region DROP DEFAULT`,
      'ALTER TABLE orders DROP region',
    ],
    ['no right to read', 'REVOKE SELECT ON orders FROM orders', 'GRANT SELECT ON orders TO orders'],
    [
      'no column that every order has',
      'ALTER TABLE orders RENAME trace_id TO away',
      'ALTER TABLE orders RENAME away TO trace_id',
    ],
    [
      'a trigger that refuses all',
      `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'closed'; END $$;
       CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse()`,
      'DROP TRIGGER refuse ON orders',
    ],
  ])(
    'consumer, with %s, waits for somebody to mend it: nothing dead-lettered, not ready, and all stored afterwards',
    async (_, begin, end) => {
      await using scene = await open();
      await allStored(scene.pair.consumerUrl, [await scene.place()]);
      await server.sql(begin, scene.database);
      const placed = await Promise.all(Array.from({ length: 50 }, () => scene.place()));
      await eventually(() => expect(scene.timesOpened()).toBeGreaterThan(10));
      expect(await scene.deadLetters()).toEqual([]);
      expect(await scene.ready()).toBe(503);

      await server.sql(end, scene.database);
      await allStored(scene.pair.consumerUrl, placed);
      await eventually(async () => expect(await scene.ready()).toBe(200));
      expect(await scene.deadLetters()).toEqual([]);
    },
  );

  /** Long enough for SQS to give up on a message that is received again after each trial. */
  const outageIsLong = async ({ timesOpened }: Scene): Promise<void> => {
    const since = performance.now();
    const opened = timesOpened();
    await eventually(() => {
      expect(timesOpened() - opened).toBeGreaterThan(2 * MAX_RECEIVE_COUNT);
      expect(performance.now() - since).toBeGreaterThan(2_000 * MAX_RECEIVE_COUNT);
    });
  };

  test('consumer, while every COMMIT waits for a standby that is gone, is steadily not ready, spends no receives and holds few connections', async () => {
    await using scene = await open();
    await allStored(scene.pair.consumerUrl, [await scene.place()]);
    try {
      await loseStandby();
      const placed = await Promise.all(Array.from({ length: 10 }, () => scene.place()));
      await eventually(() => expect(scene.timesOpened()).toBeGreaterThan(0));
      await eventually(async () => expect(await scene.ready()).toBe(503));
      const inSyncRep = async () =>
        Number(
          (
            await server.sql(
              `SELECT count(*) FROM pg_stat_activity WHERE datname = '${scene.database}' AND wait_event = 'SyncRep'`,
            )
          )[0],
        );
      const ofSaves = await inSyncRep();
      const answers = new Set<number>();
      const asking = setInterval(async () => answers.add(await scene.ready()), 100);
      await outageIsLong(scene);
      clearInterval(asking);
      expect([...answers]).toEqual([503]);
      expect(await scene.deadLetters()).toEqual([]);
      // A trial under way is one more.
      expect(await inSyncRep()).toBeLessThanOrEqual(ofSaves + 1);

      await regainStandby();
      await allStored(scene.pair.consumerUrl, placed);
      await eventually(async () => expect(await scene.ready()).toBe(200));
      await queueIsEmpty(scene);
      expect(await scene.deadLetters()).toEqual([]);
      const [rows] = await server.sql('SELECT count(*) FROM orders', scene.database);
      expect(rows).toBe('11');
    } finally {
      await regainStandby();
    }
  });

  test('consumer, while somebody holds a stored row, stores the others, and knows its duplicate when the row is free', async () => {
    await using scene = await open();
    const held = await scene.place();
    await allStored(scene.pair.consumerUrl, [held]);
    const somebody = new Client(scene.url);
    await somebody.connect();
    try {
      await somebody.query('BEGIN');
      await somebody.query('UPDATE orders SET trace_id = trace_id WHERE order_id = $1', [held]);
      const placed = await Promise.all([
        scene.place({ orderId: held }),
        ...Array.from({ length: 20 }, () => scene.place()),
      ]);
      await allStored(scene.pair.consumerUrl, placed.slice(1));
      const released = { message: 'message released', cause: 'order-locked' };
      await eventually(() => expect(scene.pair.lines).toContainEqual(expect.objectContaining(released)));
      expect(scene.timesOpened()).toBe(0);
      expect(await scene.ready()).toBe(200);
      await somebody.query('COMMIT');
      await queueIsEmpty(scene);
      expect(await scene.deadLetters()).toEqual([]);
    } finally {
      await somebody.end();
    }
  });
});
