import { DatabaseSync } from 'node:sqlite';
import { openPostgresOrderRepository } from '@orders/consumer/adapters/postgres-order-repository.ts';
import { openSqliteOrderRepository } from '@orders/consumer/adapters/sqlite-order-repository.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { Client } from 'pg';
import { orderIds, orderOf } from '../orders.ts';
import { count, ready } from '../probe.ts';

/**
 * Fills a store up to so many rows, then saves orders in batches of 50 and looks up one after each. Arguments: a file of
 * SQLite or the URL of a PostgreSQL, the rows.
 */
const [place = '', rows = '0'] = process.argv.slice(2);
const BATCH = 50;
const LIMITS = { poolSize: 5, connectTimeoutMs: 5_000, statementTimeoutMs: 30_000 };

const [open, fill] = place.startsWith('postgres:')
  ? [() => openPostgresOrderRepository(place, LIMITS), fillPostgres]
  : [() => openSqliteOrderRepository(place), fillSqlite];
await (await open()).close();
await fill(Number(rows), contentHash(orderOf(idOf(0))), JSON.stringify(orderOf(idOf(0))));

const repository = await open();
const nextId = orderIds();
const hash = contentHash(orderOf(nextId()));
const lookups: number[] = [];
const told: Record<string, number> = {};
ready();
for (;;) {
  const orders = Array.from({ length: BATCH }, () => {
    const order = orderOf(nextId());
    return { order, contentHash: hash, traceId: '' };
  });
  await repository.saveAll(orders);
  count('handled', BATCH);
  const some = idOf(Math.floor(Math.random() * Math.max(1, Number(rows))));
  const startedAt = performance.now();
  await repository.findById(some);
  lookups.push(performance.now() - startedAt);
  if (lookups.length % 50 === 0) tell();
  await new Promise(setImmediate);
}

function tell(): void {
  const sorted = lookups.toSorted((a, b) => a - b);
  for (const [name, share] of [
    ['p50Us', 0.5],
    ['p99Us', 0.99],
  ] as const) {
    const value = Math.round((sorted[Math.floor(sorted.length * share)] ?? 0) * 1_000);
    count(name, value - (told[name] ?? 0));
    told[name] = value;
  }
}

/** Spread over the whole range, so that neighbours in time are none in the tree. */
function idOf(n: number): string {
  const spread = (Math.imul(n, 0x9e3779b1) >>> 0).toString(16).padStart(8, '0');
  return `${spread}-0000-7000-8000-${n.toString(16).padStart(12, '0')}`;
}

function fillSqlite(wanted: number, hash: string, data: string): void {
  const db = new DatabaseSync(place);
  db.exec('PRAGMA synchronous = OFF');
  db.function('id_of', { deterministic: true }, (n) => idOf(Number(n)));
  const has = Number(
    db.prepare("SELECT count(*) AS count FROM orders WHERE trace_id = 'filled'").get()?.['count'],
  );
  if (has < wanted) {
    db.prepare(
      `WITH RECURSIVE counted(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM counted WHERE n + 1 < ?)
       INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
       SELECT id_of(n), 'C-' || (n % 100000), 1700000000000 + n, ?, 'filled', ? FROM counted`,
    ).run(has, wanted, hash, data);
  }
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  db.close();
}

/** The same rows: the id is that of `idOf`. */
async function fillPostgres(wanted: number, hash: string, data: string): Promise<void> {
  const client = new Client({ connectionString: place });
  await client.connect();
  const { rows } = await client.query("SELECT count(*)::int AS has FROM orders WHERE trace_id = 'filled'");
  await client.query(
    `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
     SELECT (lpad(to_hex(n * ${0x9e3779b1} % ${2 ** 32}), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
            'C-' || n % 100000, 1700000000000 + n, $3, 'filled', $4::json
     FROM generate_series($1::bigint, $2::bigint - 1) AS n`,
    [rows[0].has, wanted, hash, data],
  );
  await client.query('VACUUM ANALYZE orders');
  await client.end();
}
