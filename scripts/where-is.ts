import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { rejectionsIn } from '@orders/consumer/dlq/diagnosis.ts';
import { currentFate } from '@orders/consumer/domain/order-fate.ts';
import { queueDepth } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import { defineCommand, flag, fromCaller, runCommand, type ValuesOf } from './command.ts';
import { printable } from './dlq/describe.ts';
import { parseJournalLine, readJournal } from './reconcile/journal-lines.ts';
import {
  createTool,
  environment,
  FIND_QUEUES,
  findQueues,
  rightsText,
  SQS_VARIABLES,
  type SqsRights,
} from './sqs-tool.ts';
import { openStore } from './store-url.ts';
import { type Findings, sentenceOf } from './where-is/sentence.ts';

export const RIGHTS = {
  'all of it': {
    both: [...FIND_QUEUES, 'GetQueueAttributes'],
    deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'],
  },
} as const satisfies Record<string, SqsRights>;

export const command = defineCommand({
  name: 'npm run where-is --',
  summary:
    'Says in one sentence what became of an order and what to do next: asks the store, its record of rejections, the dead-letter queue, the depth of the order queue and, where they are named, acceptance journals.',
  positionals: {
    id: { schema: z.uuid().toLowerCase(), description: 'of the order' },
    environment: { schema: environment.default('dev'), description: 'dev by default' },
  },
  options: {
    journal: {
      takes: 'FILE',
      repeated: true,
      description: 'of order-producer, as for scripts/reconcile.sh (may be repeated)',
      schema: z.array(z.string()).default([]),
    },
    json: flag('prints what was found as JSON'),
  },
  changes: 'nothing. While it looks, messages in the dead-letter queue are hidden from other readers.',
  needs: `DATABASE_URL and DATABASE_CA_FILE, required outside dev, with SELECT on orders and order_fates. ${SQS_VARIABLES} ${rightsText(RIGHTS)}`,
  exitStatuses: { 0: 'said', 1: 'could not look, with the reason' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const { id: orderId, environment: appEnv } = values;
  const accepted = await acceptedAt(orderId, values.journal);
  const store = await openStore(appEnv, process.env);
  try {
    const { client, config } = createTool(appEnv, process.env);
    const urls = await findQueues({ client, config });
    const deadLetters = [];
    for await (const letters of new DeadLetterQueue(client, urls).readAll())
      for (const letter of letters)
        if (rejectionsIn(letter).some((fate) => fate.orderId.toLowerCase() === orderId))
          deadLetters.push(letter);
    const [order, depth] = await Promise.all([
      queueDepth(client, urls.queueUrl),
      queueDepth(client, urls.deadLetterQueueUrl),
    ]);
    // Last, since an order moves from the queues to the store.
    const fates = await store.findFates(orderId);
    const stored = await store.findById(orderId);
    const findings: Findings = {
      orderId,
      environment: appEnv,
      storedAt: stored?.storedAt.toISOString(),
      fate: currentFate(fates),
      deadLetters: deadLetters.map(({ message, deadLetter }) => ({
        messageId: message.messageId,
        reason: deadLetter?.reason,
      })),
      queued: order.visible + order.inFlight,
      deadLettersHeld: depth.inFlight,
      accepted,
    };
    console.log(
      printable(values.json ? JSON.stringify({ ...findings, fates }, null, 2) : sentenceOf(findings)),
    );
    return 0;
  } finally {
    await store.close();
  }
}

/** @returns false where journals do not name the order, undefined where none was read */
async function acceptedAt(orderId: string, journals: readonly string[]): Promise<Findings['accepted']> {
  for (const name of journals)
    for await (const lines of readJournal(name === '-' ? name : fromCaller(name)))
      for (const line of lines) {
        if (!line.toLowerCase().includes(orderId)) continue;
        const accepted = parseJournalLine(line);
        if (typeof accepted === 'object' && accepted.orderId.toLowerCase() === orderId)
          return new Date(accepted.acceptedAtMs).toISOString();
      }
  return journals.length > 0 ? false : undefined;
}
