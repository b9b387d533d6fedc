import { parseArgs } from 'node:util';
import {
  type DeadLetteredMessage,
  DeadLetterQueue,
  ofRelease,
} from '@orders/consumer/dlq/dead-letter-queue.ts';
import { readableOrders } from '@orders/shared/packed-message.ts';
import { queueDepth, resolveQueues } from '@orders/shared/queue-admin.ts';
import { createTool, parseAppEnv, runTool, UsageError } from './sqs-tool.ts';

const USAGE = `usage: scripts/dlq.sh status|peek|redrive [dev|staging|production] [options]

  status    how many messages are in the dead-letter queue
  peek      shows messages and why they are there, without taking them out     --limit=N (10)
  redrive   moves messages back to the order queue                             --limit=N (all) --rate=N a second --dry-run
            --code-version=V: only what that release sent there; --since=TIME (RFC 3339): not before
            --conflicts: those of reason CONFLICT too. They come back while the other order with their id is stored, and
            are stored under its id once that one has been archived
            --move-task: lets SQS move everything by itself, so needs --conflicts, and takes --rate alone (AWS only)
            What is dead-lettered after it began stays for the next time. Several may run at once.

  The environment is dev unless named. AWS_ENDPOINT_URL, AWS_REGION, ORDER_QUEUE_NAME and ORDER_DLQ_NAME are respected.`;

await runTool(async () => {
  const { values, positionals } = parse();
  const [command, environment = 'dev'] = positionals;
  const limit = positive('limit', values.limit);
  const ratePerSecond = positive('rate', values.rate);
  const { client, config } = createTool(parseAppEnv(environment, USAGE), process.env);
  // Looks the queues up and creates none, also in dev: a tool that looks must not change what it looks at.
  const urls = await resolveQueues(client, config, { createMissing: false });
  const deadLetterQueue = new DeadLetterQueue(client, urls);
  switch (command) {
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
        if (limit || values['dry-run'] || values['code-version'] || values.since || !values.conflicts)
          throw new UsageError(
            'a move task moves everything: say --conflicts, and no other option but --rate',
            USAGE,
          );
        await deadLetterQueue.startMoveTask(ratePerSecond);
        console.log('move task started');
        return 0;
      }
      const dryRun = values['dry-run'] ?? false;
      const left = { LATER: 0, CONFLICT: 0 };
      const moved = await deadLetterQueue.redrive({
        dryRun,
        ...filter(values['code-version'], values.since),
        ...(limit ? { limit } : {}),
        ...(ratePerSecond ? { ratePerSecond } : {}),
        conflicts: values.conflicts ?? false,
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
    default:
      throw new UsageError(`what to do? ${command ?? 'nothing'} is not status, peek or redrive`, USAGE);
  }
});

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        limit: { type: 'string' },
        rate: { type: 'string' },
        'dry-run': { type: 'boolean' },
        'move-task': { type: 'boolean' },
        conflicts: { type: 'boolean' },
        'code-version': { type: 'string' },
        since: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), USAGE);
  }
}

function positive(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`--${name} must be a whole number above 0`, USAGE);
  return value;
}

function filter(codeVersion: string | undefined, since: string | undefined) {
  if (since !== undefined && (codeVersion === undefined || Number.isNaN(Date.parse(since))))
    throw new UsageError('--since is a time as 2026-11-22T09:00:00Z, and goes with --code-version', USAGE);
  return codeVersion === undefined
    ? {}
    : { where: ofRelease(codeVersion, since ? new Date(since) : undefined) };
}

function describe({ message, deadLetter }: DeadLetteredMessage): string {
  const orderIds = readableOrders(message.body).map(({ orderId }) => orderId);
  const why = deadLetter
    ? `${deadLetter.reason} (${deadLetter.detail}) after ${deadLetter.attempts} receives, since ${deadLetter.firstSeenAt}, trace ${deadLetter.traceId}`
    : 'moved by SQS: it was received too often, most likely it kills its consumer';
  return `${message.messageId} order ${orderIds.join(', ') || 'unreadable'}: ${why}`;
}
