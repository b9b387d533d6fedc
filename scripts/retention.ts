import { existsSync } from 'node:fs';
import { type OldOrders, openOldOrders } from '@orders/consumer/adapters/old-orders.ts';
import { z } from 'zod';
import {
  defineCommand,
  flag,
  fromCaller,
  runCommand,
  UsageError,
  type ValuesOf,
  wholeNumber,
} from './command.ts';
import { archiveOfRun, readArchive, writeArchive } from './retention/archive.ts';
import { storeOfAppEnv } from './store-url.ts';

const MIN_KEEP_DAYS = 30;
const MAX_KEEP_DAYS = 36_500;
const PAGE_ORDERS = 1_000;

export const command = defineCommand({
  name: 'scripts/retention.sh',
  summary:
    'Moves orders stored more than N days ago from the store to an archive: one line of JSON per order, compressed with gzip. Each run writes its own file and prints its name. The orders leave the store only after that file is on disk and has been read back completely. If a run is stopped half-way and repeated, some orders may be in two archives, but none is lost. A file ending in .part comes from a killed run: nothing was removed for it, so delete it. A second run on the same store is refused.',
  positionals: {},
  options: {
    'keep-days': {
      takes: 'N',
      description: `at least ${MIN_KEEP_DAYS}; an order is recognised by its id or key only while it is in the store: docs/recovery.md`,
      schema: wholeNumber(MIN_KEEP_DAYS, MAX_KEEP_DAYS),
    },
    archive: {
      takes: 'FILE',
      description:
        'old.gz becomes old-20261127T001500123Z.gz; in a folder, the file is named orders-20261127T001500123Z.ndjson.gz',
      schema: z.string(),
    },
    'dry-run': flag('says how many orders would be moved'),
  },
  changes:
    'writes an archive, and deletes its orders from the store, and with them what it recorded of orders that were rejected or redriven before then.',
  needs:
    'DATABASE_URL and DATABASE_CA_FILE, required outside dev (APP_ENV); SELECT and DELETE on orders and order_fates.',
  exitStatuses: { 0: 'done', 1: 'not done, with the reason' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const { databaseUrl } = storeOfAppEnv(process.env);
  // npm runs scripts in the package's folder; the file was named from where the user stands.
  const archive = fromCaller(values.archive);
  // Else it would be a file beside the folder that is meant, and the next run's be in that.
  if (/[\\/]$/.test(values.archive) && !existsSync(archive))
    throw new UsageError(`--archive: there is no folder ${archive}`);
  const beganAt = new Date();
  const old = await openOldOrders(databaseUrl, values['keep-days']);
  try {
    console.log(await moveOrTell(old, archiveOfRun(archive, beganAt), values['dry-run']));
    if (values['dry-run']) return 0;
    const fates = await old.removeFates();
    if (fates > 0) console.log(`${fates} records of rejected orders of before then removed`);
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
