import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { PgBouncer } from '../../../dev/pgbouncer.ts';
import { PostgresServer } from '../../../dev/postgres-server.ts';
import { postgresPrograms } from '../../../test/support/postgres-programs.ts';
import { openOldOrders } from './old-orders.ts';
import { readOrderIds } from './order-ids.ts';
import { anOrder, describeOrderRepository, POSTGRES_RULES, resultsOf } from './order-repository.contract.ts';
import { openPostgresOrderRepository, type PostgresOptions } from './postgres-order-repository.ts';

const DATABASE = 'orders';
const OPTIONS: PostgresOptions = { poolSize: 4, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 };
/** All that an administrator may have chosen for other applications. */
const DEFAULTS_AGAINST_US = [
  'synchronous_commit = off',
  "default_transaction_isolation = 'serializable'",
  "datestyle = 'German'",
  'statement_timeout = 0',
  'standard_conforming_strings = off',
];

const programs = postgresPrograms();

describe.skipIf(!programs.available)(`PostgreSQL behind PgBouncer (${programs.reason})`, () => {
  let server: PostgresServer;
  let direct: string;
  const closing: { close: () => Promise<void> }[] = [];

  beforeAll(async () => {
    server = await PostgresServer.start(programs.postgres, { durable: true });
    direct = await server.createDatabase(DATABASE);
    // Nothing writes the log of an asynchronous commit but the commit after it: what is not flushed is lost in a crash.
    await server.sql("ALTER SYSTEM SET wal_writer_delay = '10s'");
    await server.sql('SELECT pg_reload_conf()');
    for (const setting of DEFAULTS_AGAINST_US) await server.sql(`ALTER DATABASE ${DATABASE} SET ${setting}`);
  });
  afterAll(() => server?.stop());
  afterEach(async () => {
    await Promise.all(closing.splice(0).map((each) => each.close()));
  });
  const emptyDatabase = () =>
    server.sql(
      'DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO orders',
      DATABASE,
    );

  describe.each(['session', 'transaction'] as const)('%s pooling', (poolMode) => {
    let pooler: PgBouncer;
    beforeAll(async () => {
      pooler = await PgBouncer.start(programs.pgbouncer, { url: direct, poolMode });
    });
    afterAll(() => pooler?.stop());
    const openPooled = async (options: Partial<PostgresOptions> = {}) => {
      const repository = await openPostgresOrderRepository(pooler.through(direct), {
        ...OPTIONS,
        ...options,
      });
      closing.push(repository);
      return repository;
    };

    describeOrderRepository(
      `PostgreSQL, ${poolMode} pooling and every default against us`,
      async () => {
        await emptyDatabase();
        const open = () => openPostgresOrderRepository(pooler.through(direct), OPTIONS);
        return { repository: await open(), reopen: open, exec: (sql) => server.sql(sql, DATABASE) };
      },
      POSTGRES_RULES,
    );

    describe('limits and guarantees', () => {
      beforeEach(emptyDatabase);

      it('saveAll, whatever the defaults are, commits synchronously, reads what is committed and has a limit', async () => {
        const repository = await openPooled();
        await server.sql(
          `ALTER TABLE orders ADD settings text DEFAULT concat_ws(', ', current_setting('synchronous_commit'),
             current_setting('transaction_isolation'), current_setting('statement_timeout'))`,
          DATABASE,
        );
        // The settings in force when the transaction commits: those of its end, not of its first row.
        await server.sql(
          `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             UPDATE orders SET settings = concat_ws(', ', current_setting('synchronous_commit'),
               current_setting('transaction_isolation'), current_setting('statement_timeout'))
             WHERE order_id = NEW.order_id;
             RETURN NULL; END $$;
           CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION tell()`,
          DATABASE,
        );
        expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
        expect(await server.sql('SELECT settings FROM orders', DATABASE)).toEqual(['on, read committed, 5s']);
      });

      it('saveAll, when the server crashes right after it answered, has lost nothing', async () => {
        const repository = await openPooled();
        const readCheckpointer = () =>
          server.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
        for (let crash = 0; crash < 3; crash++) {
          const before = await readCheckpointer();
          // Through the pooler, which tells of the crash before, or comes back late.
          const order = anOrder();
          await vi.waitFor(() => repository.saveAll([order]), { timeout: 30_000, interval: 100 });
          expect(await server.crashBackend(DATABASE)).toBe(1);
          await vi.waitFor(async () => expect(await readCheckpointer()).not.toEqual(before), 30_000);
          expect(await server.sql(`SELECT count(*) FROM orders`, DATABASE)).toEqual([String(crash + 1)]);
        }
      });

      it('saveAll and look-ups, behind a lock on the table, are ended by the server, so that none waits on', async () => {
        const repository = await openPooled({ statementTimeoutMs: 200 });
        const locker = new Client(direct);
        await locker.connect();
        closing.push({ close: () => locker.end() });
        await locker.query('BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
        const ended = { code: 'STORE_UNAVAILABLE', cause: { code: '57014' } };
        for (let round = 0; round < 3; round++) {
          await expect(repository.saveAll([anOrder()])).rejects.toMatchObject(ended);
          await expect(repository.rehearse([anOrder()])).rejects.toMatchObject(ended);
          await expect(repository.findById(anOrder().order.orderId)).rejects.toMatchObject(ended);
        }
        const waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        expect(await server.sql(waiting)).toEqual(['0']);
        await locker.query('ROLLBACK');
        expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
      });
    });
  });

  it('retention, behind a lock on the table and a pooler that drops its settings, is ended by the server', async () => {
    const pooler = await PgBouncer.start(programs.pgbouncer, { url: direct, poolMode: 'transaction' });
    closing.push({ close: () => pooler.stop() });
    await emptyDatabase();
    await (await openPostgresOrderRepository(direct, OPTIONS)).close();
    const orders = await openOldOrders(pooler.through(direct), 30, { statementTimeoutMs: 300 });
    closing.push(orders);
    const locker = new Client(direct);
    await locker.connect();
    closing.push({ close: () => locker.end() });
    await locker.query('BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
    const ended = { code: '57014', message: expect.stringContaining('statement timeout') };
    await expect(orders.remove([randomUUID()])).rejects.toMatchObject(ended);
    await expect(orders.pages(10).next()).rejects.toMatchObject(ended);
  });

  it('reconcile, behind a pooler that drops its settings, reads with a limit', async () => {
    const pooler = await PgBouncer.start(programs.pgbouncer, { url: direct, poolMode: 'transaction' });
    closing.push({ close: () => pooler.stop() });
    await emptyDatabase();
    await server.sql(
      `CREATE VIEW orders AS SELECT gen_random_uuid() AS order_id, now() AS stored_at,
         current_setting('statement_timeout') AS content_hash;
       GRANT SELECT ON orders TO orders`,
      DATABASE,
    );
    const { value: page } = await readOrderIds(pooler.through(direct)).next();
    expect(page).toMatchObject([{ contentHash: '1min' }]);
  });

  it('saveAll, over a connection that keeps its settings, is one statement: no BEGIN goes before it', async () => {
    await emptyDatabase();
    const repository = await openPostgresOrderRepository(direct, OPTIONS);
    closing.push(repository);
    await repository.saveAll([anOrder()]);
    const sent = vi.spyOn(Client.prototype, 'query');
    await repository.saveAll([anOrder()]);
    expect(sent.mock.calls).toEqual([[expect.stringContaining('INSERT INTO orders'), expect.any(Array)]]);
    sent.mockRestore();
  });

  it('saveAll and look-ups, over connections that all died while they were idle, are answered over new ones', async () => {
    await emptyDatabase();
    const repository = await openPostgresOrderRepository(direct, OPTIONS);
    closing.push(repository);
    const [first, second] = [anOrder(), anOrder()];
    await Promise.all(Array.from({ length: OPTIONS.poolSize }, () => repository.saveAll([first])));
    await repository.findById(first.order.orderId);
    // The event loop stands still meanwhile, so that the next use is what finds out.
    execFileSync(`${programs.postgres}/psql`, [
      ...['-h', '127.0.0.1', '-p', new URL(direct).port, '-U', 'postgres', '-c'],
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'orders'`,
    ]);
    const [saved, found] = await Promise.all([
      repository.saveAll([first, second]),
      repository.findById(first.order.orderId),
    ]);
    expect(resultsOf(saved)).toEqual(['duplicate', 'stored']);
    expect(found).toMatchObject(first);
  });
});
