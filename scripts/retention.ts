import { open } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import zlib from 'node:zlib';
import { openOldOrders } from '@orders/consumer/adapters/old-orders.ts';
import { consumerConfigSchema } from '@orders/consumer/config.ts';
import type { StoredOrder } from '@orders/consumer/domain/order-repository.ts';
import { loadConfig } from '@orders/shared/config.ts';
import { z } from 'zod';
import { runTool, UsageError } from './sqs-tool.ts';

const USAGE = `usage: scripts/retention.sh --keep-days=N --archive=FILE [--dry-run]

  Moves the orders that were stored more than N days ago out of the store of DATABASE_URL, into FILE: a line of JSON an
  order, under gzip, appended to what is there. Orders leave the store a thousand at a time, and only when they are on the
  disk: stopped half-way, and run again, some may be in FILE twice, and none is lost.

  N is at least 30. For as long as SQS keeps messages (4 days, 14 in the dead-letter queue), the row of an order is what
  finds its duplicates. Needs SELECT and DELETE on the table of orders.`;

const MIN_KEEP_DAYS = 30;
const DAY_MS = 24 * 60 * 60 * 1_000;
const PAGE_ORDERS = 1_000;

const storeSchema = z.object({ DATABASE_URL: consumerConfigSchema.shape.DATABASE_URL });
const compress = promisify(zlib.gzip);

await runTool(async () => {
  const { keepDays, archive, dryRun } = parse();
  const { DATABASE_URL } = loadConfig(storeSchema, process.env);
  const before = new Date(Date.now() - keepDays * DAY_MS);
  const old = await openOldOrders(DATABASE_URL, before);
  let moved = 0;
  try {
    for await (const orders of old.pages(PAGE_ORDERS)) {
      if (!dryRun) {
        await append(archive, orders);
        await old.remove(orders.map(({ order }) => order.orderId));
      }
      moved += orders.length;
    }
  } finally {
    console.log(
      `${moved} orders of before ${before.toISOString()} ${dryRun ? 'would be moved' : `moved to ${archive}`}`,
    );
    await old.close();
  }
  return 0;
});

/** Resolves when the orders are on the disk. Each page is a gzip member: they may follow one another (RFC 1952, 2.2). */
async function append(file: string, orders: readonly StoredOrder[]): Promise<void> {
  const lines = orders.map((order) => `${JSON.stringify(order)}\n`);
  await using archive = await open(file, 'a');
  await archive.writeFile(await compress(lines.join('')));
  await archive.sync();
}

function parse(): { keepDays: number; archive: string; dryRun: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        'keep-days': { type: 'string' },
        archive: { type: 'string' },
        'dry-run': { type: 'boolean', default: false },
      },
    });
    const keepDays = Number(values['keep-days']);
    if (!Number.isInteger(keepDays) || keepDays < MIN_KEEP_DAYS)
      throw new Error(`--keep-days must be a whole number of at least ${MIN_KEEP_DAYS}`);
    if (values.archive === undefined) throw new Error('which --archive?');
    // npm runs scripts in the package's folder; the file was named from where the user stands.
    const archive = path.resolve(process.env['INIT_CWD'] ?? '.', values.archive);
    return { keepDays, archive, dryRun: values['dry-run'] };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), USAGE);
  }
}
