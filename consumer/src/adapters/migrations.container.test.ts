import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PostgresServer } from '../../../dev/postgres-server.ts';
import { postgresPrograms } from '../../../test/support/postgres-programs.ts';
import { RELEASED_STORES } from '../../testing/released-stores.ts';
import { openOrderRepository } from './open-order-repository.ts';
import { anOrder, resultsOf } from './order-repository.contract.ts';
import type { PostgresOptions } from './postgres-order-repository.ts';

const OPTIONS: PostgresOptions = { poolSize: 2, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 };

const programs = postgresPrograms();

describe.skipIf(!programs.available)(`schema of PostgreSQL (${programs.reason})`, () => {
  let server: PostgresServer;
  let databases = 0;
  const closing: { close: () => Promise<void> }[] = [];
  beforeAll(async () => {
    server = await PostgresServer.start(programs.postgres);
  });
  afterAll(() => server?.stop());
  afterEach(async () => {
    await Promise.all(closing.splice(0).map((each) => each.close()));
  });

  const newDatabase = async () => {
    const name = `schema_${++databases}`;
    const url = await server.createDatabase(name);
    return { name, url, sql: (statements: string) => server.sql(statements, name) };
  };
  const open = async (url: string) => {
    const repository = await openOrderRepository(url, OPTIONS);
    closing.push(repository);
    return repository;
  };
  const asRole = (url: string, role: string) => Object.assign(new URL(url), { username: role }).href;

  it.each(['LATIN1', 'EUC_KR', 'SQL_ASCII'])(
    'open, of a database in %s, fails and says what to do',
    async (encoding) => {
      const name = `in_${encoding.toLowerCase()}`;
      await server.sql(
        `CREATE DATABASE ${name} OWNER orders ENCODING '${encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`,
      );
      const { url } = await newDatabase();
      await expect(open(Object.assign(new URL(url), { pathname: name }).href)).rejects.toMatchObject({
        code: 'STARTUP',
        message: expect.stringMatching(new RegExp(`${encoding}.*ENCODING 'UTF8'`)),
      });
      expect(await server.sql("SELECT to_regclass('orders')", name)).toEqual([]);
    },
  );

  it.each([
    [
      'Rails',
      "CREATE TABLE schema_migrations (version varchar PRIMARY KEY); INSERT INTO schema_migrations VALUES ('20260101000000')",
    ],
    [
      'golang-migrate',
      'CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL); INSERT INTO schema_migrations VALUES (7, false)',
    ],
    [
      'somebody with a table like ours',
      'CREATE TABLE schema_migrations (version integer PRIMARY KEY); INSERT INTO schema_migrations VALUES (12)',
    ],
  ])(
    'open, beside the schema_migrations of %s, makes the schema and leaves that alone',
    async (_, schema) => {
      const { url, sql } = await newDatabase();
      await sql(schema);
      const before = await sql('SELECT * FROM schema_migrations');
      const repository = await open(url);
      expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
      expect(await sql('SELECT * FROM schema_migrations')).toEqual(before);
      expect(await sql('SELECT version FROM order_pipeline_migrations')).toEqual(['1', '2', '3']);
    },
  );

  it.each(RELEASED_STORES)(
    'open, of a database of release $release, by a role that may read and insert, needs no more once it is migrated',
    async ({ postgres }) => {
      const { url, sql } = await newDatabase();
      await sql(postgres.schema);
      await sql(`ALTER TABLE orders OWNER TO orders; ALTER TABLE schema_migrations OWNER TO orders`);
      await (await open(url)).close();
      const role = `limited_${databases}`;
      await sql(`CREATE ROLE ${role} LOGIN; GRANT SELECT ON order_pipeline_migrations TO ${role};
      GRANT SELECT, INSERT ON orders TO ${role}`);
      const repository = await open(asRole(url, role));
      expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
    },
  );

  it('open, by a role with the rights that README names, works at the first start and at all others', async () => {
    const { name, url, sql } = await newDatabase();
    const [first, later] = [`first_${databases}`, `later_${databases}`];
    await sql(`REVOKE ALL ON DATABASE ${name} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
      CREATE ROLE ${first} LOGIN; CREATE ROLE ${later} LOGIN;
      GRANT CONNECT ON DATABASE ${name} TO ${first}, ${later};
      GRANT USAGE ON SCHEMA public TO ${first}, ${later};
      GRANT CREATE ON SCHEMA public TO ${first}`);
    await (await open(asRole(url, first))).close();
    await sql(
      `GRANT SELECT, INSERT ON orders TO ${later}; GRANT SELECT ON order_pipeline_migrations TO ${later}`,
    );
    const repository = await open(asRole(url, later));
    const order = anOrder();
    expect(resultsOf(await repository.saveAll([order]))).toEqual(['stored']);
    expect(resultsOf(await repository.saveAll([order]))).toEqual(['duplicate']);
    expect(await repository.findById(order.order.orderId)).toMatchObject(order);
    await expect(repository.ping()).resolves.toBeUndefined();
  });

  it.each([
    ['has lost its table', 'DROP TABLE orders', /"orders" does not exist/],
    ['has lost a column', 'ALTER TABLE orders DROP trace_id', /trace_id/],
    [
      'has a column of another type',
      'ALTER TABLE orders ALTER created_at_ms TYPE boolean USING true',
      /created_at_ms/,
    ],
    ['has lost its unique index', 'ALTER TABLE orders DROP CONSTRAINT orders_pkey', /unique/],
    ['lets its role not insert', 'REVOKE INSERT ON orders FROM orders', /permission denied for table orders/],
    ['lets its role not read', 'REVOKE SELECT ON orders FROM orders', /permission denied for table orders/],
  ])('open, of a database that %s, fails with a StartupError that says so', async (_, change, reason) => {
    const { url, sql } = await newDatabase();
    await (await open(url)).close();
    await sql(change);
    await expect(open(url)).rejects.toMatchObject({
      code: 'STARTUP',
      message: expect.stringMatching(reason),
    });
  });

  it('open, while another process holds the lock of migrations, says who, and goes on when it is free', async () => {
    const { url } = await newDatabase();
    const holder = new Client({ connectionString: url, application_name: 'somebody' });
    await holder.connect();
    closing.push({ close: () => holder.end() });
    await holder.query('BEGIN; SELECT pg_advisory_xact_lock(7203615004)');
    const said = Promise.withResolvers<unknown[]>();
    const opening = openOrderRepository(url, {
      ...OPTIONS,
      logger: { warn: (...line: unknown[]) => said.resolve(line) },
    });
    expect(await said.promise).toEqual([
      {
        holder: { pid: expect.any(Number), user: 'orders', application: 'somebody' },
        waitedMs: expect.any(Number),
      },
      'waiting for another process that holds the lock of migrations',
    ]);
    await holder.query('COMMIT');
    const repository = await opening;
    closing.push(repository);
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
  });

  it('open, while a long transaction reads the orders, migrates after it, and keeps nobody waiting meanwhile', async () => {
    const { url, sql } = await newDatabase();
    await sql(RELEASED_STORES[0]?.postgres.schema ?? '');
    await sql(`ALTER TABLE orders OWNER TO orders; ALTER TABLE schema_migrations OWNER TO orders`);
    const [reader, writer] = [new Client(url), new Client(url)];
    await Promise.all([reader.connect(), writer.connect()]);
    closing.push({ close: () => reader.end() }, { close: () => writer.end() });
    await reader.query('BEGIN; SELECT count(*) FROM orders');
    const said = Promise.withResolvers<string>();
    const opening = openOrderRepository(url, {
      ...OPTIONS,
      logger: { warn: (_: unknown, message?: string) => said.resolve(message ?? '') },
    });
    expect(await said.promise).toMatch(/^a long transaction uses the orders/);
    // Behind a change that waited without a limit, this would wait for the reader, too.
    await writer.query(
      `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
       VALUES (gen_random_uuid(), 'C', 0, '', '', '{}')`,
    );
    await reader.query('COMMIT');
    const repository = await opening;
    closing.push(repository);
    expect(resultsOf(await repository.saveAll([anOrder({}, 'shop')]))).toEqual(['stored']);
  });

  it('open, of a large table, leaves the index of clients to operators, says how, and says it no more once it is there', async () => {
    const { url, sql } = await newDatabase();
    await sql(RELEASED_STORES[0]?.postgres.schema ?? '');
    await sql(`ALTER TABLE orders OWNER TO orders; ALTER TABLE schema_migrations OWNER TO orders;
      ALTER TABLE orders ALTER data SET STORAGE EXTERNAL;
      INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
      SELECT gen_random_uuid(), repeat('x', 1900), 0, '', '', '{}' FROM generate_series(1, 36000)`);
    const said: { statements?: string[] }[] = [];
    const openAloud = async () => {
      const logger = { warn: (line: unknown) => said.push(line as { statements?: string[] }) };
      await (await openOrderRepository(url, { ...OPTIONS, logger })).close();
    };
    await openAloud();
    await openAloud();
    expect(said).toHaveLength(2);
    for (const statement of said[0]?.statements ?? []) await sql(statement);
    await openAloud();
    expect(said).toHaveLength(2);
    expect(
      await sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'orders_by_client'::regclass"),
    ).toEqual(['t']);
  });

  it("a look-up of a client's own orders reads no others, however many there are of the customer", async () => {
    const { url, sql } = await newDatabase();
    await (await open(url)).close();
    await sql(`INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, client_id, data)
      SELECT gen_random_uuid(), 'guest', n, '', '', CASE n % 1000 WHEN 0 THEN 'small' ELSE 'large' END, '{}'
      FROM generate_series(1, 20000) AS n; ANALYZE orders`);
    const plan = await sql(`EXPLAIN SELECT * FROM orders WHERE customer_id = 'guest' AND client_id = 'small'
      ORDER BY created_at_ms DESC, order_id DESC LIMIT 1`);
    expect(plan.join('\n')).toContain('Index Scan using orders_by_client');
  });

  it('open, of a database that is up to date, waits for nobody who migrates', async () => {
    const { url } = await newDatabase();
    await (await open(url)).close();
    const holder = new Client(url);
    await holder.connect();
    closing.push({ close: () => holder.end() });
    await holder.query('BEGIN; SELECT pg_advisory_xact_lock(7203615004)');
    expect(resultsOf(await (await open(url)).saveAll([anOrder()]))).toEqual(['stored']);
  });
});
