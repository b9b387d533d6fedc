import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readOrderIds, type StoredOrderId } from '@orders/consumer/adapters/order-ids.ts';
import { type DeadLetteredMessage, DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { sqsEndpoint } from '@orders/shared/config.ts';
import { PACKED_TYPE } from '@orders/shared/message.ts';
import { contentHash } from '@orders/shared/order.ts';
import { MAX_PACKED_ORDERS, readableOrders, unpackMessages } from '@orders/shared/packed-message.ts';
import { messagesIn, resolveQueues } from '@orders/shared/queue-admin.ts';
import { z } from 'zod';
import { readJournal } from './reconcile/journal-lines.ts';
import { type Archives, type DeadLetterRef, reconcile } from './reconcile/reconciliation.ts';
import { describeReport, type Verdict, verdictOf } from './reconcile/report.ts';
import { archivesOf, salvageArchive } from './retention/archive.ts';
import { createTool, parseAppEnv, runTool, UsageError } from './sqs-tool.ts';
import { storeUrl } from './store-url.ts';

const USAGE = `usage: scripts/reconcile.sh [dev|staging|production] JOURNAL... [options]

  Is every order that was accepted (202) stored, archived, or in the dead-letter queue? A JOURNAL is a file that
  order-producer writes with ACCEPTANCE_JOURNAL, a log that holds its lines among others, or - for standard input; gzip
  is unpacked. More than a few lines that cannot be read are never "all well".

  --since=TIME --until=TIME   only orders accepted from, before: 2026-11-22T09:00:00Z
  --archive=FILE              also looks into archives, named as scripts/retention.sh was told (once or more)
  --keep-days=N               without archives: what was accepted more than N days ago, and is nowhere, may be archived
  --no-dlq                    does not look into the dead-letter queue, only counts it
  --strict                    orders that are stored and were never accepted are a fault too
  --list=N                    names at most so many orders of each kind (20)
  --json                      the report for machines

  exit status: 0 all well; 1 missing, or stored twice; 2 could not be checked, or there was nothing to check;
               3 unresolved: orders are missing, but not everything is worked off, or was looked at

  The environment is dev unless named; the others need DATABASE_URL. It, AWS_ENDPOINT_URL, AWS_REGION, ORDER_QUEUE_NAME and ORDER_DLQ_NAME
  are respected. Needs SELECT on the store; sqs:GetQueueUrl and GetQueueAttributes on both queues; without --no-dlq
  sqs:ReceiveMessage and ChangeMessageVisibility on the dead-letter queue. Changes and deletes nothing.`;

/** SQS says that its counts may be behind by a minute. Those of emulators are not. */
const SETTLE_MS = 60_000;

const DAY_MS = 24 * 60 * 60 * 1_000;
const EXIT_STATUS: Record<Verdict, number> = { ok: 0, wrong: 1, unresolved: 3 };

let status: number | undefined;
await runTool(async () => {
  status = await main();
  return status;
});
// 1 means that something is missing, and is not said when nobody looked.
if (status === undefined) process.exitCode = 2;

async function main(): Promise<number> {
  const { values, positionals } = parse();
  const [first] = positionals;
  const named = first === 'dev' || first === 'staging' || first === 'production';
  const journals = positionals.slice(named ? 1 : 0).map(resolveJournal);
  if (journals.length === 0) throw new UsageError('which journal?', USAGE);
  const range = { sinceMs: time('since', values.since), untilMs: time('until', values.until) };
  const { sinceMs = Number.NEGATIVE_INFINITY, untilMs = Number.POSITIVE_INFINITY } = range;
  if (untilMs <= sinceMs) throw new UsageError('--until must be after --since', USAGE);
  const list = wholeNumber('list', values.list) ?? 20;
  const keepDays = wholeNumber('keep-days', values['keep-days']);
  if (keepDays !== undefined && values.archive)
    throw new UsageError('--keep-days is for when no --archive is named', USAGE);
  const archives = values.archive && openArchives(values.archive);

  const appEnv = parseAppEnv(named ? first : 'dev', USAGE);
  const { client, config } = createTool(appEnv, process.env);
  const databaseUrl = storeUrl(appEnv, process.env);
  const urls = await resolveQueues(client, config, { createMissing: false });
  const deadLetterQueue = new DeadLetterQueue(client, urls);
  const report = await reconcile(
    {
      journal: readAll(journals),
      stored: () => readOrderIds(databaseUrl),
      archives: archives || undefined,
      deadLetters: values['no-dlq'] ? undefined : () => readDeadLetters(deadLetterQueue),
      depths: async () => ({
        queue: await messagesIn(client, urls.queueUrl),
        deadLetterQueue: await messagesIn(client, urls.deadLetterQueueUrl),
      }),
    },
    {
      ...range,
      list,
      settleMs: sqsEndpoint(config) ? 0 : SETTLE_MS,
      keptSinceMs: keepDays === undefined ? undefined : Date.now() - keepDays * DAY_MS,
    },
  );
  const { lines, other, garbled, outsideRange } = report.journal;
  if (lines === other + garbled)
    throw new Error(`no accepted order in ${lines} lines: is this a journal (ACCEPTANCE_JOURNAL)?`);
  if (report.accepted === 0)
    throw new Error(`no order was accepted in that time: ${outsideRange} lines are of another`);
  const options = { strict: values.strict ?? false };
  const verdict = verdictOf(report, options);
  console.log(values.json ? JSON.stringify({ verdict, ...report }) : describeReport(report, options));
  return EXIT_STATUS[verdict];
}

async function* readAll(journals: string[]): AsyncGenerator<string[]> {
  for (const journal of journals) yield* readJournal(journal);
}

/** @throws {UsageError} there is none of that name, which is the one of retention or of a file */
function openArchives(names: string[]): Archives {
  const paths = names.map((name) => path.resolve(process.env['INIT_CWD'] ?? '', name));
  for (const [index, each] of paths.entries()) {
    if (filesOf(each).length === 0) throw new UsageError(`no archive at ${names[index]}`, USAGE);
  }
  const counts = { files: 0, orders: 0, garbled: 0, unreadableBytes: 0 };
  return {
    counts,
    async *orders() {
      // What was archived since then is among them.
      for (const file of new Set(paths.flatMap(filesOf))) {
        counts.files++;
        const lines = salvageArchive(file, (bytes) => {
          counts.unreadableBytes += bytes;
        });
        for await (const some of lines) {
          const orders = some.map(parseArchived).filter((order) => order !== undefined);
          counts.orders += orders.length;
          counts.garbled += some.length - orders.length;
          yield orders;
        }
      }
    },
  };
}

function filesOf(archive: string): string[] {
  try {
    return archivesOf(archive);
  } catch {
    return [];
  }
}

function parseArchived(line: string): StoredOrderId | undefined {
  try {
    const { order, contentHash, storedAt } = JSON.parse(line);
    return {
      orderId: String(order.orderId),
      contentHash: String(contentHash),
      storedAtMs: Date.parse(storedAt),
    };
  } catch {
    return undefined;
  }
}

async function* readDeadLetters(deadLetterQueue: DeadLetterQueue): AsyncGenerator<DeadLetterRef[]> {
  for await (const messages of deadLetterQueue.readAll()) yield messages.map(toRef);
}

function toRef({ message, deadLetter }: DeadLetteredMessage): DeadLetterRef {
  const orders = readableOrders(message.body).map((order) => ({
    orderId: order.orderId,
    contentHash: contentHash(order),
  }));
  return {
    orders,
    messageId: deadLetter?.messageId ?? message.messageId,
    unreadable: unreadableIn(message.body, orders.length),
    reason: deadLetter?.reason,
  };
}

/** How many orders may be in it besides those that can be read. */
function unreadableIn(body: string, readable: number): number {
  if (readable === 0 && body.includes(PACKED_TYPE)) return MAX_PACKED_ORDERS;
  return unpackMessages(body).length - readable;
}

/** Relative to where the tool was called, which npm keeps for it. */
function resolveJournal(name: string): string {
  if (name === '-') return name;
  const file = path.resolve(process.env['INIT_CWD'] ?? '', name);
  try {
    accessSync(file, constants.R_OK);
    return file;
  } catch (error) {
    throw new UsageError(`cannot read ${name}: ${error instanceof Error ? error.message : error}`, USAGE);
  }
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        since: { type: 'string' },
        until: { type: 'string' },
        archive: { type: 'string', multiple: true },
        'keep-days': { type: 'string' },
        'no-dlq': { type: 'boolean' },
        strict: { type: 'boolean' },
        list: { type: 'string' },
        json: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), USAGE);
  }
}

function time(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const parsed = z.iso.datetime({ offset: true }).safeParse(text);
  if (!parsed.success) throw new UsageError(`--${name} must be a time such as 2026-11-22T09:00:00Z`, USAGE);
  return Date.parse(text);
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw new UsageError(`--${name} must be a whole number from 0 on`, USAGE);
  return value;
}
