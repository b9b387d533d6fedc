import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import {
  getContainerRuntimeClient,
  RandomPortGenerator,
  type StartedTestContainer,
  Wait,
} from 'testcontainers';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { containersAvailable, LoopbackContainer } from '../../../test/support/containers.ts';
import { RELEASED_STORES } from '../../testing/released-stores.ts';
import { StoreUnavailableError } from '../domain/errors.ts';
import type { OrderToStore } from '../domain/order-repository.ts';
import { openOrderRepository } from './open-order-repository.ts';
import {
  aFate,
  anOrder,
  describeOrderRepository,
  POSTGRES_RULES,
  resultsOf,
  withOtherContent,
} from './order-repository.contract.ts';
import { toRows } from './order-row.ts';
import {
  openPostgresOrderRepository,
  type PostgresOptions,
  type PostgresOrderRepository,
} from './postgres-order-repository.ts';

const PASSWORD = 's3cret-p4ssword';
const OPTIONS: PostgresOptions = { poolSize: 4, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 };
const END_CONNECTIONS = `
  SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND application_name = 'order-consumer'`;
const UNAVAILABLE = { code: 'STORE_UNAVAILABLE', cause: expect.any(Error) };

const engine = await containersAvailable();

describe.skipIf(!engine.available)(`PostgreSQL 17 (${engine.reason})`, () => {
  let container: StartedTestContainer;
  let server: string;
  const closing: { close: () => Promise<void> }[] = [];

  beforeAll(async () => {
    // A port of its own choice stays the same over a stop and a start.
    const port = await new RandomPortGenerator().generatePort();
    container = await new LoopbackContainer('postgres:17')
      .withEnvironment({ POSTGRES_PASSWORD: PASSWORD })
      .withExposedPorts({ container: 5432, host: port })
      .withWaitStrategy(Wait.forSuccessfulCommand('pg_isready -h 127.0.0.1 -U postgres'))
      .start();
    server = `postgres://postgres:${PASSWORD}@127.0.0.1:${port}`;
  }, 120_000);
  afterAll(async () => container?.stop());
  afterEach(async () => {
    await Promise.all(closing.splice(0).map((each) => each.close()));
  });

  /** A connection beside the repository's, to look at the server and to get in the way. */
  async function connect(url: string): Promise<Client> {
    const client = new Client({ connectionString: url, application_name: 'test' });
    client.on('error', () => {});
    await client.connect();
    closing.push({ close: () => client.end() });
    return client;
  }
  async function newDatabase(): Promise<string> {
    const name = `orders_${randomUUID().replaceAll('-', '')}`;
    const client = new Client(`${server}/postgres`);
    await client.connect();
    await client.query(`CREATE DATABASE ${name}`);
    await client.end();
    return `${server}/${name}`;
  }
  async function open(url: string, options?: Partial<PostgresOptions>): Promise<PostgresOrderRepository> {
    const repository = await openPostgresOrderRepository(url, { ...OPTIONS, ...options });
    closing.push(repository);
    return repository;
  }
  /** One that may do what the service needs, and no more. */
  async function newRole(owner: Client): Promise<string> {
    const role = `app_${randomUUID().replaceAll('-', '')}`;
    await owner.query(`
      CREATE ROLE ${role} LOGIN PASSWORD '${PASSWORD}';
      GRANT SELECT ON order_pipeline_migrations TO ${role};
      GRANT SELECT, INSERT ON orders TO ${role}`);
    return role;
  }
  const asRole = (url: string, role: string): string => Object.assign(new URL(url), { username: role }).href;
  const alterDatabase = async (client: Client, setting: string): Promise<void> => {
    const { rows } = await client.query('SELECT current_database() AS name');
    await client.query(`ALTER DATABASE ${rows[0].name} SET ${setting}`);
  };
  /** Resolves when as many statements in the database wait for a lock. */
  const waitingForLock = (client: Client, statements = 1): Promise<void> =>
    vi.waitFor(async () => {
      const { rows } = await client.query(`
        SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`);
      expect(rows[0].n).toBe(statements);
    }, 30_000);
  const insert = (client: Client, { order, contentHash }: OrderToStore) =>
    client.query(
      `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
       VALUES ($1, 'c', 0, $2, 't', '{}')`,
      [order.orderId, contentHash],
    );

  describeOrderRepository(
    'PostgreSQL',
    async () => {
      const url = await newDatabase();
      return {
        repository: await openPostgresOrderRepository(url, OPTIONS),
        reopen: () => openPostgresOrderRepository(url, OPTIONS),
        exec: async (sql) => (await connect(url)).query(sql),
      };
    },
    POSTGRES_RULES,
  );

  it.each(RELEASED_STORES)(
    'release $release and this one, on one database, read what the other stores',
    async ({ postgres }) => {
      const url = await newDatabase();
      const old = await connect(url);
      await old.query(postgres.schema);
      const storeByOld = (order: OrderToStore) =>
        old.query(postgres.store, [JSON.stringify(toRows([order]))]);
      const [before, beside, ours] = [anOrder(), anOrder(), anOrder({}, 'shop')];
      await storeByOld(before);
      const repository = await open(url);
      await storeByOld(beside);
      expect(resultsOf(await repository.saveAll([ours, before]))).toEqual(['stored', 'duplicate']);
      const ids = [before, beside].map(({ order }) => order.orderId);
      expect(await repository.findByIds(ids)).toHaveLength(2);
      expect((await old.query(postgres.read, [[ours.order.orderId]])).rows).toEqual([
        expect.objectContaining({ data: JSON.stringify(ours.order), content_hash: ours.contentHash }),
      ]);
    },
  );

  it('saveAll, while another transaction inserts the same ids, waits and compares with what that one commits', async () => {
    const url = await newDatabase();
    const repository = await open(url);
    const other = await connect(url);
    const [same, taken, fresh] = [anOrder(), anOrder(), anOrder()];
    await other.query('BEGIN');
    await insert(other, same);
    await insert(other, taken);
    const saving = repository.saveAll([fresh, same, withOtherContent(taken)]);
    await waitingForLock(await connect(url));
    await other.query('COMMIT');
    expect(resultsOf(await saving)).toEqual(['stored', 'duplicate', 'conflict']);
  });

  it('saveAll, while another transaction inserts the same id and rolls back, stores it', async () => {
    const url = await newDatabase();
    const repository = await open(url);
    const other = await connect(url);
    const order = anOrder();
    await other.query('BEGIN');
    await insert(other, order);
    const saving = repository.saveAll([order]);
    await waitingForLock(await connect(url));
    await other.query('ROLLBACK');
    expect(resultsOf(await saving)).toEqual(['stored']);
  });

  it('saveAll, chosen as the victim of a deadlock, retries and succeeds', async () => {
    const url = await newDatabase();
    const other = await connect(url);
    await alterDatabase(other, "deadlock_timeout = '50ms'");
    const repository = await open(url);
    const [first, second, third] = ['1', '2', '3'].map((digit) =>
      anOrder({ orderId: `${digit}${randomUUID().slice(1)}` }),
    ) as [OrderToStore, OrderToStore, OrderToStore];
    const [blocker, observer] = [await connect(url), await connect(url)];
    await blocker.query('BEGIN');
    await insert(blocker, second);
    await other.query('BEGIN');
    await insert(other, third);
    const saving = repository.saveAll([first, second, third]);
    await waitingForLock(observer);
    // Who closes the circle finds it. The other one has looked for none by then: it does so once, after a minute.
    await other.query("SET LOCAL deadlock_timeout = '60s'");
    const inserting = insert(other, first);
    await waitingForLock(observer, 2);
    await blocker.query('ROLLBACK');
    await inserting;
    await other.query('COMMIT');
    expect(resultsOf(await saving)).toEqual(['duplicate', 'stored', 'duplicate']);
  });

  it('saveAll, of the same batches in opposite order over many connections, meets no deadlock', async () => {
    const url = await newDatabase();
    const observer = await connect(url);
    await alterDatabase(observer, "deadlock_timeout = '10ms'");
    const [first, second] = [await open(url), await open(url)];
    for (let round = 0; round < 40; round++) {
      const batch = Array.from({ length: 50 }, () => anOrder());
      const saves = [first, second, first, second].map((each, i) =>
        each.saveAll(i % 2 ? batch : batch.toReversed()),
      );
      const results = resultsOf((await Promise.all(saves)).flat());
      expect(results.filter((result) => result === 'stored')).toHaveLength(batch.length);
    }
    // Connections report to the statistics when they end at the latest.
    await Promise.all([first.close(), second.close()]);
    await vi.waitFor(async () => {
      const { rows } = await observer.query(`
        SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'order-consumer'`);
      expect(rows[0].n).toBe(0);
    }, 30_000);
    const { rows } = await observer.query(
      'SELECT deadlocks::int, xact_commit > 0 AS counted FROM pg_stat_database WHERE datname = current_database()',
    );
    expect(rows[0]).toEqual({ deadlocks: 0, counted: true });
  });

  it.each([
    ['a value that PostgreSQL has no text for', { customerId: 'a\u0000b' }],
    ['half a character', { customerId: 'a\ud800b' }],
    ['an id that is none', { orderId: 'order-1' }],
    [
      'a customer id too long for the index',
      { customerId: Array.from({ length: 500 }, () => randomUUID()).join() },
    ],
  ])(
    'saveAll, with %s, rejects with ORDER_NOT_STORABLE, says no personal data and keeps its connection',
    async (_, poison) => {
      const repository = await open(await newDatabase(), { poolSize: 1 });
      await repository.ping();
      const good = anOrder();
      const poisoned = { ...good, order: { ...anOrder().order, ...poison } };
      const saving = repository.saveAll([good, poisoned]);
      await expect(saving).rejects.toMatchObject({
        code: 'ORDER_NOT_STORABLE',
        cause: { detail: undefined },
      });
      expect(repository.pool()).toEqual({ total: 1, idle: 1, waiting: 0 });
      expect(resultsOf(await repository.saveAll([good]))).toEqual(['stored']);
    },
  );

  it('saveAll, with an order that a trigger refuses, rejects with ORDER_REFUSED, and stores it without the trigger', async () => {
    const url = await newDatabase();
    const repository = await open(url);
    const other = await connect(url);
    const [good, refused] = [anOrder(), anOrder({ customerId: 'blocked' })];
    await other.query(`
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'blocked'; END $$;
      CREATE TRIGGER blocked BEFORE INSERT ON orders FOR EACH ROW
      WHEN (NEW.customer_id = 'blocked') EXECUTE FUNCTION refuse()`);
    await expect(repository.saveAll([good, refused])).rejects.toMatchObject({ code: 'ORDER_REFUSED' });
    await other.query('DROP TRIGGER blocked ON orders');
    expect(resultsOf(await repository.saveAll([good, refused]))).toEqual(['stored', 'stored']);
  });

  it('saveAll, with a lock that outlasts the statement timeout, rejects with STORE_UNAVAILABLE and stores nothing', async () => {
    const url = await newDatabase();
    const repository = await open(url, { statementTimeoutMs: 100 });
    const other = await connect(url);
    const order = anOrder();
    await other.query('BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
    await expect(repository.saveAll([order])).rejects.toMatchObject({
      ...UNAVAILABLE,
      cause: { code: '57014' },
    });
    await other.query('COMMIT');
    expect(resultsOf(await repository.saveAll([order]))).toEqual(['stored']);
  });

  it('saveAll, with all connections taken, rejects with STORE_UNAVAILABLE and shows who waits', async () => {
    const url = await newDatabase();
    const repository = await open(url, { poolSize: 1, connectTimeoutMs: 300 });
    const other = await connect(url);
    await other.query('BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
    const working = repository.saveAll([anOrder()]);
    await waitingForLock(await connect(url));
    const waiting = repository.saveAll([anOrder()]);
    expect(repository.pool()).toEqual({ total: 1, idle: 0, waiting: 1 });
    await expect(waiting).rejects.toMatchObject(UNAVAILABLE);
    await other.query('COMMIT');
    expect(resultsOf(await working)).toEqual(['stored']);
    expect(repository.pool()).toEqual({ total: 1, idle: 1, waiting: 0 });
  });

  it('saveAll, while look-ups take as many connections as they may, stores, and they are answered later', async () => {
    const url = await newDatabase();
    const repository = await open(url, { poolSize: 4 });
    const other = await connect(url);
    // A look-up of this customer takes as long as somebody holds the lock.
    await other.query(`
      ALTER TABLE orders RENAME TO data;
      CREATE FUNCTION wait() RETURNS boolean LANGUAGE sql AS
        $$ SELECT pg_advisory_xact_lock_shared(1) IS NOT NULL $$;
      CREATE VIEW orders AS SELECT * FROM data WHERE customer_id <> 'slow' OR wait();
      SELECT pg_advisory_lock(1)`);
    const slow = anOrder({ customerId: 'slow' });
    expect(resultsOf(await repository.saveAll([slow]))).toEqual(['stored']);
    const lookUps = Array.from({ length: 8 }, () => repository.findByCustomer('slow', { limit: 1 }));
    await waitingForLock(await connect(url));
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
    await expect(repository.ping()).resolves.toBeUndefined();
    expect(repository.pool()).toMatchObject({ waiting: 7 });
    await other.query('SELECT pg_advisory_unlock(1)');
    expect((await Promise.all(lookUps)).flat()).toEqual(Array(8).fill(expect.objectContaining(slow)));
    expect(repository.pool().total).toBeLessThanOrEqual(4);
  });

  it('saveAll, when its connection is ended at work, rejects with STORE_UNAVAILABLE and takes a new one next', async () => {
    const url = await newDatabase();
    const repository = await open(url, { poolSize: 1 });
    const [other, observer] = [await connect(url), await connect(url)];
    await other.query('BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
    const saving = expect(repository.saveAll([anOrder()])).rejects.toMatchObject(UNAVAILABLE);
    await waitingForLock(observer);
    await observer.query(END_CONNECTIONS);
    await saving;
    await other.query('COMMIT');
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
  });

  it('repository, when an idle connection is ended, says so in the log and takes a new one', async () => {
    const url = await newDatabase();
    const warn = vi.fn();
    const repository = await open(url, { logger: { warn } });
    await repository.ping();
    const other = await connect(url);
    await other.query(END_CONNECTIONS);
    await vi.waitFor(
      () => expect(warn).toHaveBeenCalledWith({ err: expect.any(Error) }, 'idle database connection lost'),
      { timeout: 30_000 },
    );
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
  });

  it('repository, on a database that became read-only, rejects ping and saveAll, finds orders, and works after it', async () => {
    const url = await newDatabase();
    const repository = await open(url);
    const saved = anOrder();
    await repository.saveAll([saved]);
    const other = await connect(`${server}/postgres`);
    const database = new URL(url).pathname.slice(1);
    const endConnections = () =>
      other.query(
        `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '${database}'`,
      );
    await other.query(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
    await endConnections();
    await vi.waitFor(() => expect(repository.pool().total).toBe(0), { timeout: 30_000 });

    await expect(repository.ping()).rejects.toBeInstanceOf(StoreUnavailableError);
    await expect(repository.saveAll([anOrder()])).rejects.toMatchObject({
      ...UNAVAILABLE,
      cause: { code: '25006' },
    });
    expect(await repository.findById(saved.order.orderId)).toMatchObject(saved);
    expect((await open(url)).pool().total).toBe(0);

    await other.query(`ALTER DATABASE ${database} RESET default_transaction_read_only`);
    await endConnections();
    await vi.waitFor(() => expect(repository.pool().total).toBe(0), { timeout: 30_000 });
    await expect(repository.ping()).resolves.toBeUndefined();
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
  });

  it.each([
    [
      'has no room left',
      `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$;
       CREATE TRIGGER full_disk BEFORE INSERT ON orders EXECUTE FUNCTION full_disk()`,
      'DROP TRIGGER full_disk ON orders',
    ],
    ['takes no inserts of its role', 'REVOKE INSERT ON orders FROM app', 'GRANT INSERT ON orders TO app'],
    ['shows its role nothing', 'REVOKE SELECT ON orders FROM app', 'GRANT SELECT ON orders TO app'],
    ['has lost its table', 'ALTER TABLE orders RENAME TO away', 'ALTER TABLE away RENAME TO orders'],
    ['is locked', 'BEGIN; LOCK TABLE orders IN SHARE MODE', 'COMMIT'],
  ])(
    'repository, on a server that answers and %s, rejects a rehearsal as it does a save, and works after it',
    async (_, begin, end) => {
      const url = await newDatabase();
      await (await open(url)).close();
      const owner = await connect(url);
      const role = await newRole(owner);
      const repository = await open(asRole(url, role), { statementTimeoutMs: 200 });
      await owner.query(begin.replace('app', role));
      const refusal = await repository.saveAll([anOrder()]).catch(({ refusal, code }) => refusal ?? code);
      for (let i = 0; i < 2; i++)
        expect(await repository.rehearse([anOrder()]).catch(({ refusal, code }) => refusal ?? code)).toBe(
          refusal,
        );
      expect(refusal).toMatch(/./);

      await owner.query(end.replace('app', role));
      await expect(repository.rehearse([anOrder()])).resolves.toBeUndefined();
      expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
      expect((await owner.query('SELECT count(*)::int AS n FROM orders')).rows).toEqual([{ n: 1 }]);
    },
  );

  it('repository, whatever the database and the URL say, commits synchronously and reads what is committed', async () => {
    const url = await newDatabase();
    const other = await connect(url);
    await alterDatabase(other, 'synchronous_commit = off');
    await alterDatabase(other, "default_transaction_isolation = 'repeatable read'");
    const repository = await open(`${url}?options=-c%20synchronous_commit=off%20-c%20work_mem=1234kB`);
    for (const table of ['orders', 'order_fates'])
      await other.query(`
        ALTER TABLE ${table} ADD settings text DEFAULT concat_ws(', ', current_setting('synchronous_commit'),
          current_setting('transaction_isolation'), current_setting('work_mem'))`);
    await repository.saveAll([anOrder()]);
    await repository.recordFates([aFate()]);
    for (const table of ['orders', 'order_fates'])
      expect((await other.query(`SELECT settings FROM ${table}`)).rows, table).toEqual([
        { settings: 'on, read committed, 1234kB' },
      ]);
  });

  it('open, of a new database by five at once, migrates once and lets all five store', async () => {
    const url = await newDatabase();
    const repositories = await Promise.all(Array.from({ length: 5 }, () => open(url)));
    const results = await Promise.all(
      repositories.map(async (each) => resultsOf(await each.saveAll([anOrder()]))),
    );
    expect(results).toEqual(Array(5).fill(['stored']));
    const { rows } = await (await connect(url)).query('SELECT version FROM order_pipeline_migrations');
    expect(rows).toEqual([{ version: 1 }, { version: 2 }, { version: 3 }]);
  });

  it('open, by a role that may only read and write orders, needs no more once the schema is there', async () => {
    const url = await newDatabase();
    await (await open(url)).close();
    const owner = await connect(url);
    const repository = await open(asRole(url, await newRole(owner)));
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
    await expect(repository.ping()).resolves.toBeUndefined();
    await expect(repository.rehearse([anOrder()])).resolves.toBeUndefined();
  });

  it('openOrderRepository, with a wrong password, fails with a StartupError that keeps it to itself', async () => {
    const url = `${server}/postgres`.replace(PASSWORD, 'wr0ng-p4ssword');
    const error = await openOrderRepository(url, OPTIONS).catch((error) => error);
    expect(error).toMatchObject({
      code: 'STARTUP',
      message: expect.stringMatching(/^DATABASE_URL: cannot open .*password authentication failed/),
    });
    expect(error.message).not.toContain('wr0ng');
  });

  it('openOrderRepository, with a schema that cannot be made, fails with a StartupError and changes nothing', async () => {
    const url = await newDatabase();
    const other = await connect(url);
    await other.query('CREATE TABLE orders (something_else text)');
    await expect(openOrderRepository(url, OPTIONS)).rejects.toMatchObject({
      code: 'STARTUP',
      message: expect.stringMatching(/^DATABASE_URL: .*already exists/),
    });
    expect((await other.query("SELECT to_regclass('order_pipeline_migrations') AS made")).rows).toEqual([
      { made: null },
    ]);
  });

  it('repository, when the server dies at work, rejects with STORE_UNAVAILABLE, and works when it is back', async () => {
    const url = await newDatabase();
    const repository = await open(url, { connectTimeoutMs: 1_000 });
    const saved = anOrder();
    await repository.saveAll([saved]);
    const other = await connect(url);
    await other.query('BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
    const lost = anOrder();
    const saving = expect(repository.saveAll([lost])).rejects.toMatchObject(UNAVAILABLE);
    await waitingForLock(await connect(url));
    const runtime = await getContainerRuntimeClient();
    const handle = runtime.container.getById(container.getId());

    await handle.kill();
    await saving;
    for (const call of [
      () => repository.saveAll([anOrder()]),
      () => repository.findById(saved.order.orderId),
      () => repository.findByCustomer('c', { limit: 1 }),
      () => repository.ping(),
    ]) {
      await expect(call()).rejects.toMatchObject(UNAVAILABLE);
    }

    await handle.start();
    await vi.waitFor(() => repository.ping(), 30_000);
    expect(resultsOf(await repository.saveAll([saved, lost]))).toEqual(['duplicate', 'stored']);
  });

  it('repository, while the server hangs, rejects in time with STORE_UNAVAILABLE, and works when it goes on', async () => {
    const repository = await open(await newDatabase(), {
      poolSize: 1,
      connectTimeoutMs: 300,
      statementTimeoutMs: 100,
    });
    await repository.ping();
    const runtime = await getContainerRuntimeClient();
    const handle = runtime.container.getById(container.getId());

    await handle.pause();
    try {
      // The first call is on an open connection, the second needs a new one.
      await expect(repository.saveAll([anOrder()])).rejects.toMatchObject(UNAVAILABLE);
      await expect(repository.saveAll([anOrder()])).rejects.toMatchObject(UNAVAILABLE);
    } finally {
      await handle.unpause();
    }
    await vi.waitFor(() => repository.ping(), 30_000);
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
  });
});
