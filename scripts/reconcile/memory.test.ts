import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { openSqliteOrderRepository } from '@orders/consumer/adapters/sqlite-order-repository.ts';
import { resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { expect, it } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { createTool } from '../sqs-tool.ts';

/** The nightly run takes RECONCILE_LINES=10000000. */
const COUNT = Number(process.env['RECONCILE_LINES'] ?? 1_000_000);
const MAX_MEGABYTES = 256;
const SCRIPT = path.join(import.meta.dirname, '..', 'reconcile.ts');
/** Says the peak as its last line, in kB. */
const PEAK = `process.on('exit', () => console.error(process.resourceUsage().maxRSS))`;

const CONTENT = `v1:${'0123456789abcdef'.repeat(4)}`;
/** As `printf('%08x-…', n)` of SQLite makes them. */
const idOf = (n: number) => `${n.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`;

function* journal(): Generator<string> {
  for (let from = 0; from < COUNT; from += 1_000) {
    let lines = '';
    for (let n = from; n < Math.min(from + 1_000, COUNT); n++)
      lines += `{"journal":"accepted","orderId":"${idOf(n)}","acceptedAt":"2026-11-22T09:00:00.000Z","messageId":"${idOf(n)}","traceId":"0af7651916cd43dd8448eb211c80319c","content":"${CONTENT.slice(0, 19)}"}\n`;
    yield lines;
  }
}

it(`reconcile, of ${COUNT} orders that are accepted and stored but for one, finds it in less than ${MAX_MEGABYTES} MB`, {
  timeout: 60_000 + COUNT / 4,
}, async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'reconcile-memory-'));
  const emulator = await startEmulator({ port: 0 });
  const env = {
    AWS_ENDPOINT_URL: emulator.endpoint,
    DATABASE_URL: `sqlite:${path.join(folder, 'orders.db')}`,
  };
  try {
    const { client, config } = createTool('dev', env);
    await resolveQueues(client, config);
    client.destroy();
    await openSqliteOrderRepository(path.join(folder, 'orders.db')).close();
    using db = new DatabaseSync(path.join(folder, 'orders.db'));
    db.prepare(
      `INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
       WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
       SELECT printf('%08x-0000-4000-8000-000000000000', n), '', 0, '${CONTENT}', '', '' FROM numbers`,
    ).run(COUNT);

    // As `npm run reconcile` starts it.
    const flags = ['--max-semi-space-size=2', `--import=data:text/javascript,${encodeURIComponent(PEAK)}`];
    const tool = spawn(process.execPath, [...flags, SCRIPT, '-', '--json'], {
      env: { PATH: process.env['PATH'], ...env },
    });
    Readable.from(journal()).pipe(tool.stdin);
    const [stdout, stderr, [status]] = await Promise.all([
      text(tool.stdout),
      text(tool.stderr),
      once(tool, 'close'),
    ]);
    const megabytes = Number(stderr) / 1_024;
    expect({ status, megabytes }).toEqual({ status: 1, megabytes: expect.any(Number) });
    expect(megabytes).toBeLessThan(MAX_MEGABYTES);
    expect(JSON.parse(stdout)).toMatchObject({
      accepted: COUNT,
      stored: COUNT - 1,
      missing: 1,
      journal: { lines: COUNT },
      orders: { missing: [{ orderId: idOf(0) }] },
    });
    console.log(`${COUNT} orders, peak ${Math.round(megabytes)} MB`);
  } finally {
    await emulator.stop();
    await rm(folder, { recursive: true });
  }
});
