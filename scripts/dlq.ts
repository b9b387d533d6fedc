import {
  type DeadLetteredMessage,
  DeadLetterQueue,
  ofRelease,
} from '@orders/consumer/dlq/dead-letter-queue.ts';
import { readableOrders } from '@orders/shared/order/packed-message.ts';
import { queueDepth, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import { defineCommand, flag, runCommand, time, UsageError, type ValuesOf, wholeNumber } from './command.ts';
import { createTool, environment, rightsText, SQS_VARIABLES, type SqsRights } from './sqs-tool.ts';

/** Held to what is called by a test. SQS itself does the rest of a move task, with the rights of who starts it. */
export const RIGHTS = {
  status: { both: ['GetQueueUrl'], deadLetterQueue: ['GetQueueAttributes'] },
  peek: { both: ['GetQueueUrl'], deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'] },
  redrive: {
    both: ['GetQueueUrl'],
    queue: ['SendMessage'],
    deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility', 'DeleteMessage'],
  },
  'redrive --move-task': {
    both: ['GetQueueUrl', 'GetQueueAttributes'],
    queue: ['SendMessage'],
    deadLetterQueue: ['StartMessageMoveTask', 'ReceiveMessage', 'DeleteMessage'],
  },
} as const satisfies Record<string, SqsRights>;

export const command = defineCommand({
  name: 'scripts/dlq.sh',
  summary: 'Shows the dead-letter queue, and moves messages back to the order queue.',
  positionals: {
    action: {
      schema: z.enum(['status', 'peek', 'redrive']),
      description: {
        status: 'how many messages are in the dead-letter queue',
        peek: 'shows messages and their reasons, and leaves them in the queue',
        redrive:
          'moves messages back to the order queue; messages dead-lettered after it started are left for the next run; several may run at the same time',
      },
    },
    environment: { schema: environment.default('dev'), description: 'dev by default' },
  },
  options: {
    limit: {
      takes: 'N',
      only: ['peek', 'redrive'],
      description: 'maximum number of messages; by default peek shows 10 and redrive moves all',
      schema: wholeNumber(1).optional(),
    },
    rate: {
      takes: 'N',
      only: ['redrive'],
      description: 'messages per second; by default as fast as possible',
      schema: wholeNumber(1).optional(),
    },
    'dry-run': flag('says what would be moved, and moves nothing', { only: ['redrive'] }),
    'code-version': {
      takes: 'V',
      only: ['redrive'],
      description: 'only messages that this release dead-lettered',
      schema: z.string().optional(),
    },
    since: {
      takes: 'TIME',
      only: ['redrive'],
      description:
        'with --code-version: only messages dead-lettered since then, such as 2026-11-22T09:00:00Z',
      schema: time.optional(),
    },
    conflicts: flag(
      'also messages with reason CONFLICT: they come back while the other order with their id is stored, and are stored under its id once that order has been archived',
      { only: ['redrive'] },
    ),
    'move-task': flag(
      'lets SQS move everything by itself; requires --conflicts, and accepts only --rate besides (AWS only)',
      { only: ['redrive'] },
    ),
  },
  changes:
    'redrive takes messages out of the dead-letter queue and sends them to the order queue; status and peek change nothing.',
  needs: `${SQS_VARIABLES} ${rightsText(RIGHTS)}`,
  exitStatuses: { 0: 'done', 1: 'not done, with the reason' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const { limit, rate: ratePerSecond, 'dry-run': dryRun, 'code-version': codeVersion, since } = values;
  if (since && codeVersion === undefined) throw new UsageError('--since goes with --code-version');
  if (values['move-task'] && (limit || dryRun || codeVersion || since || !values.conflicts))
    throw new UsageError('a move task moves everything: say --conflicts, and no other option but --rate');
  const { client, config } = createTool(values.environment, process.env);
  // Looks the queues up and creates none, also in dev: a tool that looks must not change what it looks at.
  const urls = await resolveQueues(client, config, { createMissing: false });
  const deadLetterQueue = new DeadLetterQueue(client, urls);
  switch (values.action) {
    case 'status': {
      const { visible, inFlight } = await queueDepth(client, urls.deadLetterQueueUrl);
      console.log(`${config.ORDER_DLQ_NAME}: ${visible} waiting, ${inFlight} in flight`);
      return 0;
    }
    case 'peek': {
      const messages = await deadLetterQueue.peek(limit ?? 10);
      for (const message of messages) console.log(describe(message));
      console.log(`${messages.length} shown`);
      return 0;
    }
    case 'redrive': {
      if (values['move-task']) {
        await deadLetterQueue.startMoveTask(ratePerSecond);
        console.log('move task started');
        return 0;
      }
      const left = { LATER: 0, CONFLICT: 0 };
      const moved = await deadLetterQueue.redrive({
        dryRun,
        ...(codeVersion === undefined ? {} : { where: ofRelease(codeVersion, since) }),
        ...(limit ? { limit } : {}),
        ...(ratePerSecond ? { ratePerSecond } : {}),
        conflicts: values.conflicts,
        onLeft: (_, because) => {
          left[because]++;
        },
        onMoved: ({ message, deadLetter }) =>
          console.log(`${message.messageId} ${deadLetter?.reason ?? 'MOVED_BY_SQS'}`),
      });
      console.log(`${moved} ${dryRun ? 'would be moved' : 'moved'}`);
      if (left.LATER > 0) console.log(`${left.LATER} left: dead-lettered since this began`);
      if (left.CONFLICT > 0)
        console.log(
          `${left.CONFLICT} left: CONFLICT, compare them with what is stored (--conflicts moves them)`,
        );
      return 0;
    }
  }
}

function describe({ message, deadLetter }: DeadLetteredMessage): string {
  const orderIds = readableOrders(message.body).map(({ orderId }) => orderId);
  const why = deadLetter
    ? `${deadLetter.reason} (${deadLetter.detail}) after ${deadLetter.attempts} receives, since ${deadLetter.firstSeenAt}, trace ${deadLetter.traceId}`
    : 'moved by SQS: it was received too often, most likely it kills its consumer';
  return `${message.messageId} order ${orderIds.join(', ') || 'unreadable'}: ${why}`;
}
