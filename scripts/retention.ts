import path from 'node:path';
import { parseArgs } from 'node:util';
import { type OldOrders, openOldOrders } from '@orders/consumer/adapters/old-orders.ts';
import { archiveOfRun, readArchive, writeArchive } from './retention/archive.ts';
import { parseAppEnv, runTool, UsageError } from './sqs-tool.ts';
import { storeUrl } from './store-url.ts';

const USAGE = `usage: scripts/retention.sh --keep-days=N --archive=FILE [--dry-run]

  Moves the orders that were stored more than N days ago out of the store of DATABASE_URL into an archive: one line of
  JSON per order, under gzip. Each run writes a file of its own and tells its name: --archive=old.gz makes
  old-20261127T001500123Z.gz, a folder orders-20261127T001500123Z.ndjson.gz. Only when that file is on the disk, and was
  read back whole, the orders leave the store. Stopped half-way, and run again, some may be in two archives, and none is
  lost. A file that ends in .part is of a run that was killed: nothing was removed for it, delete it.

  N is at least 30. For as long as an order is in the store, the same id or key finds it: docs/recovery.md.
  Another run at the same store is refused. Outside of dev (APP_ENV) DATABASE_URL must be set. Needs SELECT and DELETE on
  the table of orders.`;

const MIN_KEEP_DAYS = 30;
const MAX_KEEP_DAYS = 36_500;
const DAY_MS = 24 * 60 * 60 * 1_000;
const PAGE_ORDERS = 1_000;

await runTool(async () => {
  const { keepDays, archive, dryRun } = parse();
  const databaseUrl = storeUrl(parseAppEnv(process.env['APP_ENV'] || 'dev', USAGE), process.env);
  const beganAt = new Date();
  const before = new Date(beganAt.getTime() - keepDays * DAY_MS);
  const old = await openOldOrders(databaseUrl, before);
  try {
    console.log(await moveOrTell(old, archiveOfRun(archive, beganAt), before, dryRun));
  } finally {
    await old.close();
  }
  return 0;
});

async function moveOrTell(old: OldOrders, file: string, before: Date, dryRun: boolean): Promise<string> {
  const which = `orders of before ${before.toISOString()}`;
  if (dryRun) {
    let count = 0;
    for await (const orders of old.pages(PAGE_ORDERS)) count += orders.length;
    return `${count} ${which} would be moved`;
  }
  const archived = await writeArchive(file, old.pages(PAGE_ORDERS)).catch((cause) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`cannot archive: ${reason}; nothing was removed. Mend that, then run it again`, {
      cause,
    });
  });
  if (archived === 0) return `0 ${which}: nothing to move`;
  let removed = 0;
  try {
    // What leaves the store is what the archive names.
    for await (const lines of readArchive(file))
      removed += await old.remove(lines.map((line) => JSON.parse(line).order.orderId));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `${archived} ${which} are in ${file}, and ${removed} of them removed: ${reason}. Run it again: the others will be ` +
        'in its archive, too',
      { cause },
    );
  }
  return `${archived} ${which} moved to ${file}`;
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
    if (!Number.isInteger(keepDays) || keepDays < MIN_KEEP_DAYS || keepDays > MAX_KEEP_DAYS)
      throw new Error(
        `--keep-days must be a whole number of at least ${MIN_KEEP_DAYS}, at most ${MAX_KEEP_DAYS}`,
      );
    if (!values.archive) throw new Error('which --archive?');
    // npm runs scripts in the package's folder; the file was named from where the user stands.
    const archive = path.resolve(process.env['INIT_CWD'] ?? '.', values.archive);
    return { keepDays, archive, dryRun: values['dry-run'] };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), USAGE);
  }
}
