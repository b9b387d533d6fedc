import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readOrderIds } from '@orders/consumer/adapters/order-ids.ts';
import { consumerConfigSchema } from '@orders/consumer/config.ts';
import { type DeadLetteredMessage, DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { loadConfig, sqsEndpoint } from '@orders/shared/config.ts';
import { PACKED_TYPE } from '@orders/shared/message.ts';
import { MAX_PACKED_ORDERS, readableOrders, unpackMessages } from '@orders/shared/packed-message.ts';
import { messagesIn, resolveQueues } from '@orders/shared/queue-admin.ts';
import { z } from 'zod';
import { readJournal } from './reconcile/journal-lines.ts';
import { type DeadLetterRef, reconcile } from './reconcile/reconciliation.ts';
import { describeReport, type Verdict, verdictOf } from './reconcile/report.ts';
import { createTool, parseAppEnv, runTool, UsageError } from './sqs-tool.ts';

const USAGE = `usage: scripts/reconcile.sh [dev|staging|production] JOURNAL... [options]

  Is every order that was accepted (202) stored, or in the dead-letter queue? A JOURNAL is a file that order-producer
  writes with ACCEPTANCE_JOURNAL, a log that holds its lines among others, or - for standard input; gzip is unpacked.

  --since=TIME --until=TIME   only orders accepted from, before: 2026-11-22T09:00:00Z
  --no-dlq                    does not look into the dead-letter queue, only counts it
  --strict                    orders that are stored and were never accepted are a fault too
  --list=N                    names at most so many orders of each kind (20)
  --json                      the report for machines

  exit status: 0 all well; 1 missing, or stored twice; 2 could not be checked;
               3 unresolved: orders are missing, but not everything is worked off yet

  The environment is dev unless named. DATABASE_URL, AWS_ENDPOINT_URL, AWS_REGION, ORDER_QUEUE_NAME and ORDER_DLQ_NAME
  are respected. Needs SELECT on the store; sqs:GetQueueUrl and GetQueueAttributes on both queues; without --no-dlq
  sqs:ReceiveMessage and ChangeMessageVisibility on the dead-letter queue. Changes and deletes nothing.`;

/** SQS says that its counts may be behind by a minute. Those of emulators are not. */
const SETTLE_MS = 60_000;

const storeSchema = z.object({ DATABASE_URL: consumerConfigSchema.shape.DATABASE_URL });
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
  const list = wholeNumber('list', values.list) ?? 20;

  const { client, config } = createTool(parseAppEnv(named ? first : 'dev', USAGE), process.env);
  const { DATABASE_URL } = loadConfig(storeSchema, process.env);
  const urls = await resolveQueues(client, config, { createMissing: false });
  const deadLetterQueue = new DeadLetterQueue(client, urls);
  const report = await reconcile(
    {
      journal: readAll(journals),
      stored: () => readOrderIds(DATABASE_URL),
      deadLetters: values['no-dlq'] ? undefined : () => readDeadLetters(deadLetterQueue),
      depths: async () => ({
        queue: await messagesIn(client, urls.queueUrl),
        deadLetterQueue: await messagesIn(client, urls.deadLetterQueueUrl),
      }),
    },
    { ...range, list, settleMs: sqsEndpoint(config) ? 0 : SETTLE_MS },
  );
  const { lines, other, garbled } = report.journal;
  if (lines === other + garbled)
    throw new Error(`no accepted order in ${lines} lines: is this a journal (ACCEPTANCE_JOURNAL)?`);
  const options = { strict: values.strict ?? false };
  const verdict = verdictOf(report, options);
  console.log(values.json ? JSON.stringify({ verdict, ...report }) : describeReport(report, options));
  return EXIT_STATUS[verdict];
}

async function* readAll(journals: string[]): AsyncGenerator<string[]> {
  for (const journal of journals) yield* readJournal(journal);
}

async function* readDeadLetters(deadLetterQueue: DeadLetterQueue): AsyncGenerator<DeadLetterRef[]> {
  for await (const messages of deadLetterQueue.readAll()) yield messages.map(toRef);
}

function toRef({ message, deadLetter }: DeadLetteredMessage): DeadLetterRef {
  const orderIds = readableOrders(message.body).map(({ orderId }) => orderId);
  return {
    orderIds,
    messageId: deadLetter?.messageId ?? message.messageId,
    unreadable: unreadableIn(message.body, orderIds.length),
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
