import { existsSync } from 'node:fs';
import path from 'node:path';
import { type OldOrders, openOldOrders } from '@orders/consumer/adapters/old-orders.ts';
import { z } from 'zod';
import { defineCommand, flag, runCommand, UsageError, type ValuesOf, wholeNumber } from './command.ts';
import { archiveOfRun, readArchive, writeArchive } from './retention/archive.ts';
import { environment } from './sqs-tool.ts';
import { storeUrl } from './store-url.ts';

const MIN_KEEP_DAYS = 30;
const MAX_KEEP_DAYS = 36_500;
const PAGE_ORDERS = 1_000;

export const command = defineCommand({
  name: 'scripts/retention.sh',
  summary:
    'Moves the orders that were stored more than N days ago out of the store into an archive: one line of JSON per order, under gzip. Each run writes a file of its own and tells its name. Only when that file is on the disk, and was read back whole, the orders leave the store. Stopped half-way, and run again, some may be in two archives, and none is lost. A file that ends in .part is of a run that was killed: nothing was removed for it, delete it. Another run at the same store is refused.',
  positionals: {},
  options: {
    'keep-days': {
      takes: 'N',
      description: `at least ${MIN_KEEP_DAYS}; for as long as an order is in the store, the same id or key finds it: docs/recovery.md`,
      schema: wholeNumber(MIN_KEEP_DAYS, MAX_KEEP_DAYS),
    },
    archive: {
      takes: 'FILE',
      description:
        'old.gz makes old-20261127T001500123Z.gz, a folder orders-20261127T001500123Z.ndjson.gz in it',
      schema: z.string(),
    },
    'dry-run': flag('says how many would be moved'),
  },
  changes: 'writes an archive, and deletes from the store what is in it.',
  needs:
    'DATABASE_URL, which must be set outside of dev (APP_ENV); SELECT and DELETE on the table of orders.',
  exitStatuses: { 0: 'done', 1: 'not done, and why' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const appEnv = environment.safeParse(process.env['APP_ENV'] || 'dev');
  if (!appEnv.success) throw new UsageError('APP_ENV must be dev, staging or production');
  const databaseUrl = storeUrl(appEnv.data, process.env);
  // npm runs scripts in the package's folder; the file was named from where the user stands.
  const archive = path.resolve(process.env['INIT_CWD'] ?? '.', values.archive);
  // Else it would be a file beside the folder that is meant, and the next run's be in that.
  if (/[\\/]$/.test(values.archive) && !existsSync(archive))
    throw new UsageError(`--archive: there is no folder ${archive}`);
  const beganAt = new Date();
  const old = await openOldOrders(databaseUrl, values['keep-days']);
  try {
    console.log(await moveOrTell(old, archiveOfRun(archive, beganAt), values['dry-run']));
  } finally {
    await old.close();
  }
  return 0;
}

async function moveOrTell(old: OldOrders, file: string, dryRun: boolean): Promise<string> {
  const which = `orders of before ${old.before.toISOString()}`;
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
