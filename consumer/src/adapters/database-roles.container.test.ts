import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { PostgresServer } from '../../../dev/postgres-server.ts';
import { postgresPrograms } from '../../../test/support/postgres-programs.ts';
import { toStore } from '../../testing/orders.ts';
import { migrateDatabase } from './migrate-database.ts';
import { openOrderRepository } from './open-order-repository.ts';

const programs = postgresPrograms();

/** As docs/first-deployment.md has them: an owner, who migrates for it, who runs; and a clone of either, by a rotation. */
const ROLES = `
  CREATE ROLE orders_owner NOLOGIN;
  CREATE ROLE orders_migrator LOGIN IN ROLE orders_owner;
  CREATE ROLE orders_migrator_clone LOGIN IN ROLE orders_migrator;
  CREATE ROLE orders_1 LOGIN;
  CREATE ROLE orders_1_clone LOGIN IN ROLE orders_1`;
const RIGHTS = `
  GRANT CREATE ON SCHEMA public TO orders_owner;
  ALTER DEFAULT PRIVILEGES FOR ROLE orders_owner GRANT SELECT, INSERT ON TABLES TO orders_1`;
const LIMITS = { poolSize: 1, connectTimeoutMs: 10_000, statementTimeoutMs: 10_000 };

describe.skipIf(!programs.available)(`two roles of the database (${programs.reason})`, () => {
  let server: PostgresServer;
  let databases = 0;
  beforeAll(async () => {
    server = await PostgresServer.start(programs.postgres);
    await server.sql(ROLES);
  });
  afterAll(() => server?.stop());

  async function newDatabase() {
    const name = `roles_${++databases}`;
    const url = await server.createDatabase(name);
    await server.sql(RIGHTS, name);
    const as = (role: string) => Object.assign(new URL(url), { username: role }).href;
    const warnings: unknown[][] = [];
    const logger = { warn: (...line: unknown[]) => void warnings.push(line) };
    return {
      warnings,
      sql: (statements: string) => server.sql(statements, name),
      migrate: (role = 'orders_migrator') =>
        migrateDatabase(as(role), { owner: 'orders_owner', logger: { warn: () => {} } }),
      open: async (role: string) => {
        const repository = await openOrderRepository(as(role), { ...LIMITS, migrations: 'off', logger });
        onTestFinished(() => repository.close());
        return repository;
      },
    };
  }

  it('the one that runs, on an empty database, does not start, says what to do, and makes nothing', async () => {
    const { open, sql } = await newDatabase();
    await expect(open('orders_1')).rejects.toThrow(
      /the schema is of version 0, and this release needs \d+: run npm run migrate/,
    );
    expect(await sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")).toEqual([]);
  });

  it('the owner migrates; then the one that runs stores, by its clone too, and can change no table', async () => {
    const { migrate, open, sql, warnings } = await newDatabase();
    await migrate();
    await migrate();
    for (const role of ['orders_1', 'orders_1_clone']) {
      const repository = await open(role);
      expect((await repository.saveAll([toStore()]))[0]?.[1]).toBe('stored');
      await repository.ping();
      await expect(sql(`SET ROLE ${role}; ALTER TABLE orders ADD COLUMN mine text`)).rejects.toThrow(
        /must be owner/,
      );
      await expect(sql(`SET ROLE ${role}; DROP TABLE orders`)).rejects.toThrow(/must be owner/);
    }
    expect(warnings).toEqual([]);
  });

  it('whoever migrates, a clone too, everything belongs to the owner, and later steps can be made by either', async () => {
    const { migrate, open, sql } = await newDatabase();
    await migrate('orders_migrator_clone');
    // As the release before left it.
    await sql('DROP TABLE order_fates; DELETE FROM order_pipeline_migrations WHERE version > 2');
    await expect(open('orders_1')).rejects.toThrow(/the schema is of version 2, and this release needs \d+/);
    await migrate();
    await open('orders_1');
    const owners = await sql(
      "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    );
    expect(owners).toEqual(['orders_owner']);
  });

  it('a schema that is newer than the release knows, is worked with, and said', async () => {
    const { migrate, open, sql, warnings } = await newDatabase();
    await migrate();
    await sql('INSERT INTO order_pipeline_migrations (version) VALUES (1000)');
    const repository = await open('orders_1');
    expect((await repository.saveAll([toStore()]))[0]?.[1]).toBe('stored');
    expect(warnings).toEqual([
      [
        { schemaVersion: 1000, knownVersion: expect.any(Number) },
        expect.stringContaining('newer than this release knows'),
      ],
    ]);
  });

  it('one that may not act as the owner, migrates nothing', async () => {
    const { migrate, sql } = await newDatabase();
    await expect(migrate('orders_1')).rejects.toThrow(/permission denied to set role "orders_owner"/);
    expect(await sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")).toEqual([]);
  });
});
