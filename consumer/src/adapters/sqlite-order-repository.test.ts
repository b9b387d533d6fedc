import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { RELEASED_STORES } from '../../testing/released-stores.ts';
import type { OrderToStore, Saved } from '../domain/order-repository.ts';
import { openOrderRepository } from './open-order-repository.ts';
import { anOrder, describeOrderRepository, resultsOf } from './order-repository.contract.ts';
import { type OrderRow, toRows } from './order-row.ts';
import { openSqliteOrderRepository, type SqliteOptions } from './sqlite-order-repository.ts';

const folder = mkdtempSync(join(tmpdir(), 'orders-'));
afterAll(() => rmSync(folder, { recursive: true }));
const newFile = (): string => join(folder, randomUUID(), 'orders.db');

describeOrderRepository('SQLite in memory', async () => ({
  repository: openSqliteOrderRepository(':memory:'),
}));

const trigger = (body: string) =>
  `CREATE TRIGGER blocked BEFORE INSERT ON orders WHEN NEW.customer_id = 'blocked' BEGIN SELECT ${body}; END`;

describeOrderRepository(
  'SQLite in a file',
  async () => {
    const path = newFile();
    return {
      repository: openSqliteOrderRepository(path),
      reopen: async () => openSqliteOrderRepository(path),
      exec: (sql) => {
        using db = new DatabaseSync(path, { timeout: 5_000 });
        db.exec(sql);
      },
    };
  },
  {
    refusing: {
      'a trigger aborts the statement': trigger(`RAISE(ABORT, 'blocked')`),
      'a trigger fails the statement': trigger(`RAISE(FAIL, 'blocked')`),
      'a trigger rolls the transaction back': trigger(`RAISE(ROLLBACK, 'blocked')`),
      'a second unique index is in the way': `
        INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
        VALUES ('other', 'blocked', 0, '', '', '{}');
        CREATE UNIQUE INDEX blocked ON orders (customer_id) WHERE customer_id = 'blocked'`,
    },
    swallowing: { 'a trigger ignores the row': trigger('RAISE(IGNORE)') },
  },
);

describe('SQLite', () => {
  const closing: { close: () => unknown }[] = [];
  afterEach(async () => {
    vi.restoreAllMocks();
    for (const each of closing.splice(0)) await each.close();
  });
  const open = (path: string, options?: SqliteOptions) => {
    const repository = openSqliteOrderRepository(path, options);
    closing.push(repository);
    return repository;
  };
  const openRaw = (path: string): DatabaseSync => {
    const db = new DatabaseSync(path, { timeout: 5_000 });
    closing.push(db);
    return db;
  };
  const count = (db: DatabaseSync): unknown => db.prepare('SELECT count(*) AS n FROM orders').get()?.['n'];

  const UNAVAILABLE = { code: 'STORE_UNAVAILABLE', cause: expect.any(Error) };
  const MAX_PAGES = 40;
  const largeOrders = (count: number): OrderToStore[] =>
    Array.from({ length: count }, () => anOrder({ metadata: { filler: 'x'.repeat(5_000) } }));

  /** Saves until the store says that it is full. */
  async function fill(save: (orders: OrderToStore[]) => Promise<Saved[]>): Promise<OrderToStore[]> {
    const stored: OrderToStore[] = [];
    for (let i = 0; i < MAX_PAGES; i++) {
      const batch = largeOrders(2);
      try {
        await save(batch);
      } catch (error) {
        expect(error).toMatchObject({ ...UNAVAILABLE, cause: { errcode: 13 } });
        return stored;
      }
      stored.push(...batch);
    }
    throw new Error('the store never was full');
  }

  it('saveAll, on a full disk, rejects with STORE_UNAVAILABLE, stores no half and works again after room was made', async () => {
    const path = newFile();
    const repository = open(path, { maxPageCount: MAX_PAGES });
    const stored = await fill((orders) => repository.saveAll(orders));
    const raw = openRaw(path);
    expect(count(raw)).toBe(stored.length);
    await expect(repository.ping()).rejects.toMatchObject(UNAVAILABLE);
    await expect(repository.rehearse([anOrder()])).rejects.toMatchObject(UNAVAILABLE);
    expect(await repository.findById(stored[0]?.order.orderId ?? '')).toMatchObject(
      stored[0] as OrderToStore,
    );

    raw.exec('DELETE FROM orders');
    await expect(repository.ping()).resolves.toBeUndefined();
    await expect(repository.rehearse([anOrder()])).resolves.toBeUndefined();
    expect(resultsOf(await repository.saveAll(largeOrders(2)))).toEqual(['stored', 'stored']);
  });

  it('saveAll, with several callers on a full disk, rejects each and stores nothing of any', async () => {
    const path = newFile();
    const repository = open(path, { maxPageCount: MAX_PAGES });
    const stored = await fill((orders) => repository.saveAll(orders));
    const saves = await Promise.allSettled([
      repository.saveAll([anOrder()]),
      repository.saveAll(largeOrders(3)),
    ]);
    expect(saves).toMatchObject([
      { status: 'rejected', reason: UNAVAILABLE },
      { status: 'rejected', reason: UNAVAILABLE },
    ]);
    await repository.close();
    const reopened = open(path);
    expect(count(openRaw(path))).toBe(stored.length);
    expect(resultsOf(await reopened.saveAll(largeOrders(2)))).toEqual(['stored', 'stored']);
  });

  it('saveAll, called by several in one turn with one bad order, commits once and fails its caller alone', async () => {
    const path = newFile();
    const repository = open(path);
    const raw = openRaw(path);
    const exec = vi.spyOn(DatabaseSync.prototype, 'exec');
    const shared = anOrder();
    const undone = anOrder();
    const saves = await Promise.allSettled([
      repository.saveAll([anOrder(), shared]),
      repository.saveAll([undone, anOrder({ customerId: null as unknown as string })]),
      repository.saveAll([anOrder({ customerId: undefined as unknown as string })]),
      repository.saveAll([shared, undone]),
    ]);
    expect(saves).toMatchObject([
      {
        status: 'fulfilled',
        value: [
          [{}, 'stored'],
          [{}, 'stored'],
        ],
      },
      { status: 'rejected', reason: { code: 'ORDER_NOT_STORABLE', cause: expect.any(Error) } },
      { status: 'rejected', reason: { code: 'ORDER_NOT_STORABLE', cause: expect.any(Error) } },
      {
        status: 'fulfilled',
        value: [
          [shared, 'duplicate'],
          [undone, 'stored'],
        ],
      },
    ]);
    expect(exec.mock.calls.filter(([sql]) => sql === 'COMMIT')).toHaveLength(1);
    expect(count(raw)).toBe(3);
  });

  it('saveAll and ping, while another process writes for too long, reject with STORE_UNAVAILABLE, and work after it', async () => {
    const path = newFile();
    const repository = open(path, { busyTimeoutMs: 20 });
    const raw = openRaw(path);
    raw.exec('BEGIN IMMEDIATE');
    await expect(repository.saveAll([anOrder()])).rejects.toMatchObject(UNAVAILABLE);
    await expect(repository.ping()).rejects.toMatchObject(UNAVAILABLE);
    raw.exec('COMMIT');
    await expect(repository.ping()).resolves.toBeUndefined();
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
  });

  it('saveAll, when the commit itself fails, rejects with STORE_UNAVAILABLE, stores nothing and works again', async () => {
    const path = newFile();
    const repository = open(path);
    const raw = openRaw(path);
    raw.exec(`
      CREATE TABLE parent (id INTEGER PRIMARY KEY);
      CREATE TABLE child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
      CREATE TRIGGER fails_at_commit AFTER INSERT ON orders BEGIN INSERT INTO child VALUES (1); END`);
    await expect(repository.saveAll([anOrder()])).rejects.toMatchObject(UNAVAILABLE);
    expect(count(raw)).toBe(0);
    raw.exec('DROP TRIGGER fails_at_commit');
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
  });

  it('saveAll, with an order that a trigger refuses, rejects with ORDER_REFUSED, and stores it without the trigger', async () => {
    const path = newFile();
    const repository = open(path);
    const raw = openRaw(path);
    const [good, refused] = [anOrder(), anOrder({ customerId: 'blocked' })];
    raw.exec(`CREATE TRIGGER blocked BEFORE INSERT ON orders WHEN NEW.customer_id = 'blocked'
              BEGIN SELECT RAISE(ABORT, 'blocked'); END`);
    await expect(repository.saveAll([good, refused])).rejects.toMatchObject({ code: 'ORDER_REFUSED' });
    expect(count(raw)).toBe(0);
    raw.exec('DROP TRIGGER blocked');
    expect(resultsOf(await repository.saveAll([good, refused]))).toEqual(['stored', 'stored']);
  });

  it('file, written by a repository, is in WAL mode with synced commits', async () => {
    const path = newFile();
    await open(path).saveAll([anOrder()]);
    expect(openRaw(path).prepare('PRAGMA journal_mode').get()).toMatchObject({ journal_mode: 'wal' });
    expect(existsSync(`${path}-wal`)).toBe(true);
  });

  it('open, of a new file by five threads at once, migrates once and lets all five store', async () => {
    const path = newFile();
    const module = new URL('./sqlite-order-repository.ts', import.meta.url).href;
    const worker = `
      import { parentPort, workerData } from 'node:worker_threads';
      const { openSqliteOrderRepository } = await import(workerData.module);
      Atomics.add(workerData.gate, 0, 1);
      Atomics.notify(workerData.gate, 0);
      for (let n; (n = Atomics.load(workerData.gate, 0)) < 5; ) Atomics.wait(workerData.gate, 0, n, 1000);
      const repository = openSqliteOrderRepository(workerData.path);
      parentPort.postMessage((await repository.saveAll(workerData.orders)).map(([, result]) => result));
      await repository.close();`;
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const results = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const workerData = { module, gate, path, orders: [anOrder()] };
        const thread = new Worker(new URL(`data:text/javascript,${encodeURIComponent(worker)}`), {
          workerData,
        });
        const [[result]] = await Promise.all([once(thread, 'message'), once(thread, 'exit')]);
        return result;
      }),
    );
    expect(results).toEqual(Array(5).fill(['stored']));
    const raw = openRaw(path);
    expect(count(raw)).toBe(5);
    expect(raw.prepare('SELECT version FROM order_pipeline_migrations').all()).toEqual([
      { version: 1 },
      { version: 2 },
      { version: 3 },
    ]);
  });

  it.each(RELEASED_STORES)(
    'release $release and this one, on one file, read what the other stores',
    async ({ sqlite }) => {
      const path = newFile();
      mkdirSync(dirname(path), { recursive: true });
      const old = openRaw(path);
      old.exec(sqlite.schema);
      const storeByOld = (order: OrderToStore) => {
        const { client_id: _unknownThen, ...row } = toRows([order])[0] as OrderRow;
        old.prepare(sqlite.store).run(...(Object.values(row) as string[]));
      };
      const [before, beside, ours] = [anOrder(), anOrder(), anOrder({}, 'shop')];
      storeByOld(before);
      const repository = open(path);
      storeByOld(beside);
      expect(resultsOf(await repository.saveAll([ours, before]))).toEqual(['stored', 'duplicate']);
      const ids = [before, beside].map(({ order }) => order.orderId);
      expect(await repository.findByIds(ids)).toHaveLength(2);
      expect(old.prepare(sqlite.read).all(JSON.stringify([ours.order.orderId]))).toEqual([
        expect.objectContaining({ data: JSON.stringify(ours.order), content_hash: ours.contentHash }),
      ]);
    },
  );

  it('open, of a file with the schema_migrations of something else, makes the schema and leaves that alone', async () => {
    const path = newFile();
    mkdirSync(dirname(path), { recursive: true });
    const raw = openRaw(path);
    raw.exec(
      'CREATE TABLE schema_migrations (version integer PRIMARY KEY); INSERT INTO schema_migrations VALUES (12)',
    );
    expect(resultsOf(await open(path).saveAll([anOrder()]))).toEqual(['stored']);
    expect(raw.prepare('SELECT version FROM schema_migrations').all()).toEqual([{ version: 12 }]);
  });

  it('open, of a file with a newer schema, leaves it as it is', async () => {
    const path = newFile();
    await open(path).close();
    openRaw(path).exec('INSERT INTO order_pipeline_migrations VALUES (99)');
    expect(resultsOf(await open(path).saveAll([anOrder()]))).toEqual(['stored']);
  });
});

describe('openOrderRepository', () => {
  const options = { poolSize: 1, connectTimeoutMs: 500, statementTimeoutMs: 500 };

  it.each([
    ['memory', 'sqlite::memory:'],
    ['a file', `sqlite:${newFile()}`],
  ])('openOrderRepository, with %s, stores', async (_, url) => {
    const repository = await openOrderRepository(url, options);
    expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
    await repository.close();
  });

  it.each([
    'sqlite:',
    'sqlite://orders.db',
    'mysql://user:s3cret@host/db',
    'postgres://user:s3cret@[bad/db',
    'orders.db',
  ])(
    'openOrderRepository, with %s, fails with a StartupError that names the variable and keeps the secret',
    async (url) => {
      const error = await openOrderRepository(url, options).catch((error: unknown) => error);
      expect(error).toMatchObject({ code: 'STARTUP', message: expect.stringContaining('DATABASE_URL') });
      expect(String((error as Error).message)).not.toContain('s3cret');
    },
  );

  it.each([
    'postgres://orders:2024/s3cret@127.0.0.1:1/orders',
    'postgres://orders:20?s3cret@127.0.0.1:1/orders',
    'postgres://orders:20#s3cret@127.0.0.1:1/orders',
    'postgres://orders:50%s3cret@127.0.0.1:1/orders',
    'postgres://orders:x/s3cret@127.0.0.1:1/orders',
  ])(
    'openOrderRepository, with a password that is not encoded for a URL (%s), says so and keeps it',
    async (url) => {
      const error = await openOrderRepository(url, options).catch((error: unknown) => error);
      expect(error).toMatchObject({
        code: 'STARTUP',
        message: expect.stringContaining('must be percent-encoded'),
      });
      expect(String((error as Error).message)).not.toContain('s3cret');
    },
  );

  it('openOrderRepository, with a file that is no database, fails with a StartupError that says so', async () => {
    const path = join(folder, 'no-database');
    writeFileSync(path, 'not a database, but long enough to be looked at '.repeat(100));
    await expect(openOrderRepository(`sqlite:${path}`, options)).rejects.toMatchObject({
      code: 'STARTUP',
      message: expect.stringMatching(/DATABASE_URL.*not a database/),
    });
  });

  it('openOrderRepository, with a file whose schema cannot be made, fails with a StartupError', async () => {
    const path = join(folder, 'other-schema.db');
    const raw = new DatabaseSync(path);
    raw.exec('CREATE TABLE orders (something_else TEXT)');
    raw.close();
    await expect(openOrderRepository(`sqlite:${path}`, options)).rejects.toMatchObject({
      code: 'STARTUP',
      message: expect.stringMatching(/DATABASE_URL.*already exists/),
    });
  });

  it('openOrderRepository, with a server that is not there, fails with a StartupError that keeps the secret', async () => {
    const error = await openOrderRepository('postgres://user:s3cret@127.0.0.1:1/orders', options).catch(
      (error) => error,
    );
    expect(error).toMatchObject({
      code: 'STARTUP',
      message: expect.stringMatching(
        /^DATABASE_URL: cannot open postgres:\/\/127\.0\.0\.1:1\/orders: .*ECONNREFUSED/,
      ),
    });
    expect(error.message).not.toContain('s3cret');
  });

  it('openOrderRepository, with a server that says nothing, fails with a StartupError in time', async () => {
    const silent = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const opening = openOrderRepository(`postgres://user:s3cret@127.0.0.1:${port}/orders`, options);
    await expect(opening).rejects.toMatchObject({
      code: 'STARTUP',
      message: expect.stringContaining('timeout'),
    });
    silent.close();
    await once(silent, 'close');
  });
});
