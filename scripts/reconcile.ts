import { accessSync, constants } from 'node:fs';
import { readOrderIds, type StoredOrderId } from '@orders/consumer/adapters/order-ids.ts';
import { type DeadLetteredMessage, DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { readableOf } from '@orders/shared/order/encrypted-message.ts';
import {
  decodeOrderMessage,
  PACKED_TYPE,
  type UnreadableMessageError,
} from '@orders/shared/order/message.ts';
import { MAX_PACKED_ORDERS, unpackMessages } from '@orders/shared/order/packed-message.ts';
import { sqsEndpoint } from '@orders/shared/runtime/config.ts';
import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import {
  defineCommand,
  flag,
  fromCaller,
  runCommand,
  time,
  UsageError,
  type ValuesOf,
  wholeNumber,
} from './command.ts';
import { parseObject, readJournal } from './reconcile/journal-lines.ts';
import { type Archives, type DeadLetterRef, reconcile } from './reconcile/reconciliation.ts';
import { describeReport, type Verdict, verdictOf } from './reconcile/report.ts';
import { archivesOf, salvageArchive } from './retention/archive.ts';
import {
  createTool,
  environment,
  FIND_QUEUES,
  findQueues,
  rightsText,
  SQS_VARIABLES,
  type SqsRights,
} from './sqs-tool.ts';
import { storeUrl } from './store-url.ts';

const LOOK = [...FIND_QUEUES, 'GetQueueAttributes'];
/** Held to what is called by a test. */
export const RIGHTS = {
  'a run with --no-dlq': { both: LOOK },
  'one without': { both: LOOK, deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'] },
} as const satisfies Record<string, SqsRights>;

export const command = defineCommand({
  name: 'scripts/reconcile.sh',
  summary:
    'Checks that every accepted order (202) is stored, archived, or in the dead-letter queue. If more than a few lines cannot be read, the result is never "all well".',
  positionals: {
    environment: { schema: environment.default('dev'), description: 'dev by default' },
    journal: {
      schema: z.array(z.string()).min(1),
      description:
        'a file written by order-producer with ACCEPTANCE_JOURNAL, a log that contains its lines among others, or - for standard input; gzip is unpacked',
    },
  },
  options: {
    since: {
      takes: 'TIME',
      description: 'only orders accepted at or after this time, such as 2026-11-22T09:00:00Z',
      schema: time.optional(),
    },
    until: { takes: 'TIME', description: 'only orders accepted before this time', schema: time.optional() },
    archive: {
      takes: 'FILE',
      repeated: true,
      description: 'also reads archives, by the name given to scripts/retention.sh (may be repeated)',
      schema: z.array(z.string()).optional(),
    },
    'keep-days': {
      takes: 'N',
      description: 'without archives: orders accepted more than N days ago and found nowhere may be archived',
      schema: wholeNumber(0, 36_500).optional(),
    },
    'no-dlq': flag('only counts the dead-letter queue, without reading it'),
    strict: flag('stored orders that were never accepted are an error too'),
    list: {
      takes: 'N',
      description: 'maximum number of orders listed per kind',
      schema: wholeNumber(0).default(20),
    },
    json: flag('prints the report as JSON'),
  },
  changes: 'nothing.',
  needs: `DATABASE_URL and DATABASE_CA_FILE, required outside dev. ${SQS_VARIABLES} SELECT on the store. ${rightsText(RIGHTS)}`,
  exitStatuses: {
    0: 'all well',
    1: 'missing, or stored twice',
    2: 'could not check, or there was nothing to check; or wrong usage',
    3: 'unresolved: orders are missing, but not everything is processed, or was read',
  },
  // 1 means that something is missing, and is not said when nobody looked.
  failureStatus: 2,
});

/** SQS says that its counts may be behind by a minute. Those of emulators are not. */
const SETTLE_MS = 60_000;

const DAY_MS = 24 * 60 * 60 * 1_000;
const EXIT_STATUS: Record<Verdict, number> = { ok: 0, wrong: 1, unresolved: 3 };

/** Names an order that is not read. */
const namingEnvelope = z.object({
  type: z.literal('order.placed.v1'),
  id: z.uuid(),
  contenthash: z.string().regex(/^v1:[0-9a-f]{64}$/),
  clientid: z.string().optional(),
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const { environment: appEnv, list, 'keep-days': keepDays } = values;
  const journals = values.journal.map(resolveJournal);
  const range = { sinceMs: values.since?.getTime(), untilMs: values.until?.getTime() };
  const { sinceMs = Number.NEGATIVE_INFINITY, untilMs = Number.POSITIVE_INFINITY } = range;
  if (untilMs <= sinceMs) throw new UsageError('--until must be after --since');
  if (keepDays !== undefined && values.archive)
    throw new UsageError('--keep-days is for when no --archive is named');
  const archives = values.archive && openArchives(values.archive);

  const databaseUrl = storeUrl(appEnv, process.env);
  const { client, config } = createTool(appEnv, process.env);
  const urls = await findQueues({ client, config });
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
  const options = { strict: values.strict };
  const verdict = verdictOf(report, options);
  console.log(values.json ? JSON.stringify({ verdict, ...report }) : describeReport(report, options));
  return EXIT_STATUS[verdict];
}

async function* readAll(journals: string[]): AsyncGenerator<string[]> {
  for (const journal of journals) yield* readJournal(journal);
}

/** @throws {UsageError} there is none of that name, which is the one of retention or of a file */
function openArchives(names: string[]): Archives {
  const paths = names.map(fromCaller);
  for (const [index, each] of paths.entries()) {
    if (filesOf(each).length === 0) throw new UsageError(`no archive at ${names[index]}`);
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
    const { order, contentHash, clientId, storedAt } = JSON.parse(line);
    return {
      orderId: String(order.orderId),
      contentHash: String(contentHash),
      storedAtMs: Date.parse(storedAt),
      clientId,
    };
  } catch {
    return undefined;
  }
}

async function* readDeadLetters(deadLetterQueue: DeadLetterQueue): AsyncGenerator<DeadLetterRef[]> {
  for await (const messages of deadLetterQueue.readAll()) yield messages.map(toRef);
}

function toRef({ message: { messageId, body }, deadLetter }: DeadLetteredMessage): DeadLetterRef {
  const id = deadLetter?.messageId ?? messageId;
  const encrypted = readableOf(body)?.orderIds ?? [];
  if (encrypted.length > 0)
    return { orders: [], messageId: id, encrypted, unreadable: 0, reason: deadLetter?.reason };
  const parts = unpackMessages(body);
  const orders = parts.flatMap((part) => orderIn(part, part !== body));
  const isClosed = orders.length === 0 && body.includes(PACKED_TYPE);
  return {
    orders,
    messageId: id,
    // How many orders may be in it besides.
    unreadable: isClosed ? MAX_PACKED_ORDERS : parts.length - orders.length,
    reason: deadLetter?.reason,
  };
}

/** The order in a message. Where that cannot be read, its envelope names it, also under the new id of a redrive. */
function orderIn(body: string, packed: boolean): DeadLetterRef['orders'] {
  try {
    const { order, contentHash, clientId } = decodeOrderMessage(body, {}, { packed });
    return [{ orderId: order.orderId, contentHash, clientId }];
  } catch (error) {
    // One of both is not what was sent.
    if ((error as Partial<UnreadableMessageError>).code === 'CONTENT_HASH_MISMATCH') return [];
    const { success, data } = namingEnvelope.safeParse(parseObject(body));
    return success ? [{ orderId: data.id, contentHash: data.contenthash, clientId: data.clientid }] : [];
  }
}

function resolveJournal(name: string): string {
  if (name === '-') return name;
  const file = fromCaller(name);
  try {
    accessSync(file, constants.R_OK);
    return file;
  } catch (error) {
    throw new UsageError(`cannot read ${name}: ${error instanceof Error ? error.message : error}`);
  }
}
