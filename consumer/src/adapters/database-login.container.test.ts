import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { PostgresServer } from '../../../dev/postgres-server.ts';
import { postgresPrograms } from '../../../test/support/postgres-programs.ts';
import { toStore } from '../../testing/orders.ts';
import { databaseUrl } from '../config.ts';
import { openOrderRepository } from './open-order-repository.ts';
import { readOrderIds } from './order-ids.ts';

const programs = postgresPrograms();
const ODD_PASSWORD = 'p w/@:?#%25+&=é';

describe.skipIf(!programs.available)(`login by files (${programs.reason})`, () => {
  let server: PostgresServer;
  let url: string;
  let folder: string;
  beforeAll(async () => {
    server = await PostgresServer.start(programs.postgres);
    url = await server.createDatabase('rotation');
    await server.requirePasswords();
  });
  afterAll(() => server?.stop());
  beforeEach(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'login-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    await setPassword('orders', 'first');
    writeSecret('password', 'first\n');
  });

  const setPassword = (role: string, password: string) =>
    server.sql(`ALTER ROLE ${role} PASSWORD '${password}'`);
  const fileOf = (name: string) => path.join(folder, name);
  const writeSecret = (name: 'user' | 'password', text: string) => writeFileSync(fileOf(name), text);
  const cutConnections = () =>
    server.sql(
      `SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = 'order-consumer'`,
    );
  const urlWithFiles = (files: { user?: boolean } = {}) => {
    const withoutUser = new URL(url);
    if (files.user) withoutUser.username = '';
    return databaseUrl({
      DATABASE_URL: withoutUser.href,
      DATABASE_PASSWORD_FILE: fileOf('password'),
      DATABASE_USER_FILE: files.user ? fileOf('user') : undefined,
    });
  };

  async function open(files?: { user?: boolean }) {
    const lines: unknown[][] = [];
    let errors = 0;
    const repository = await openOrderRepository(urlWithFiles(files), {
      poolSize: 2,
      connectTimeoutMs: 10_000,
      statementTimeoutMs: 10_000,
      loginFiles: {
        logger: { info: () => {}, error: (...line: unknown[]) => void lines.push(line) },
        errors: { inc: () => errors++ },
      },
    });
    onTestFinished(() => repository.close());
    return { repository, lines, errors: () => errors };
  }

  it('that changes in place, is used for the next connection', async () => {
    const { repository, errors } = await open();
    await setPassword('orders', ODD_PASSWORD);
    writeSecret('password', ODD_PASSWORD);
    await cutConnections();
    expect((await repository.saveAll([toStore()]))[0]?.[1]).toBe('stored');
    expect(errors()).toBe(0);
  });

  it('that PostgreSQL knows before the file has it, is an outage until the file has it', async () => {
    const { repository, lines, errors } = await open();
    await setPassword('orders', 'second');
    await cutConnections();
    for (let times = 0; times < 2; times++)
      await expect(repository.ping()).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        cause: { code: '28P01' },
      });
    expect(errors()).toBe(1);
    expect(lines).toHaveLength(1);
    writeSecret('password', 'second');
    await repository.ping();
  });

  it('that the file has before PostgreSQL knows it, waits while the one before stays in force', async () => {
    const { repository, lines, errors } = await open();
    await repository.ping();
    writeSecret('password', 'second');
    for (let times = 0; times < 3; times++) {
      await cutConnections();
      await repository.ping();
    }
    expect(errors()).toBe(1);
    expect(JSON.stringify(lines)).toContain('the last one that it accepted stays in force');
    expect(JSON.stringify(lines)).not.toContain('second');
    await setPassword('orders', 'second');
    await cutConnections();
    await repository.ping();
    await setPassword('orders', 'third');
    writeSecret('password', 'third');
    await cutConnections();
    await repository.ping();
    expect(errors()).toBe(1);
  });

  it.each([
    ['is half-written', () => writeSecret('password', 'fir')],
    ['is empty', () => writeSecret('password', '')],
    ['has NUL', () => writeSecret('password', 'first\0')],
    ['has 1 MB', () => writeSecret('password', 'x'.repeat(1_000_000))],
    ['is gone', () => rmSync(fileOf('password'))],
    [
      'cannot be read',
      () => {
        rmSync(fileOf('password'));
        mkdirSync(fileOf('password'));
      },
    ],
  ])('whose file %s for a while, stays in force, with one error', async (_what, spoil) => {
    const { repository, lines, errors } = await open();
    await repository.ping();
    spoil();
    for (let times = 0; times < 2; times++) {
      await cutConnections();
      await repository.ping();
    }
    expect(errors()).toBe(1);
    expect(lines).toHaveLength(1);
    await setPassword('orders', 'second');
    rmSync(fileOf('password'), { recursive: true, force: true });
    writeSecret('password', 'second');
    await cutConnections();
    await repository.ping();
    expect(errors()).toBe(1);
  });

  it('of alternating users, is used with its user, and both users store', async () => {
    await server.sql("CREATE ROLE orders_clone LOGIN PASSWORD 'of the clone' IN ROLE orders");
    writeSecret('user', 'orders\n');
    const { repository } = await open({ user: true });
    const saved = toStore();
    await repository.saveAll([saved]);
    writeSecret('user', 'orders_clone\n');
    writeSecret('password', 'of the clone\n');
    await cutConnections();
    expect((await repository.saveAll([saved]))[0]?.[1]).toBe('duplicate');
    await repository.saveAll([toStore()]);
    const users = await server.sql(
      `SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'order-consumer'`,
    );
    expect(users).toEqual(['orders_clone']);
  });

  it('of many connections at once, is refused once for each and then the one before is used', async () => {
    const { repository, errors } = await open();
    await repository.ping();
    writeSecret('password', 'fir');
    await cutConnections();
    await Promise.all(Array.from({ length: 20 }, () => repository.saveAll([toStore()])));
    expect(errors()).toBe(1);
  });

  it('of a tool, is read from the file', async () => {
    const { repository } = await open();
    const saved = toStore();
    await repository.saveAll([saved]);
    const ids: string[] = [];
    for await (const page of readOrderIds(urlWithFiles())) ids.push(...page.map(({ orderId }) => orderId));
    expect(ids).toContain(saved.order.orderId);
  });

  it('that is wrong at start, keeps the service from starting, and is not shown', async () => {
    writeSecret('password', 'hunter2');
    const opening = open();
    await expect(opening).rejects.toThrow(/DATABASE_URL: .*password authentication failed/);
    await expect(opening).rejects.not.toThrow(/hunter2|passwordfile/);
    rmSync(fileOf('password'));
    await expect(open()).rejects.toThrow(/DATABASE_PASSWORD_FILE: .*ENOENT/);
  });
});
