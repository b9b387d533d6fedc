import {
  type DeadLetteredMessage,
  DeadLetterQueue,
  ofRelease,
} from '@orders/consumer/dlq/dead-letter-queue.ts';
import { Groups, isReadable, MOVED_BY_SQS, read, rejectionsIn } from '@orders/consumer/dlq/diagnosis.ts';
import { KeyUnavailableError } from '@orders/shared/encryption/errors.ts';
import {
  type Guard,
  hasCipher,
  type MessageCipher,
  openMessageCipher,
} from '@orders/shared/encryption/message-cipher.ts';
import { MAX_ORDER_BYTES } from '@orders/shared/order/message.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { depthIn, queueAttributes, queueDepth } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import { defineCommand, flag, runCommand, time, UsageError, type ValuesOf, wholeNumber } from './command.ts';
import { asLine, asText, factsOf, groupAsText, oneLine, printable } from './dlq/describe.ts';
import { RedriveMarks } from './dlq/redrive-marks.ts';
import {
  createTool,
  environment,
  findQueues,
  rightsText,
  SQS_VARIABLES,
  type SqsRights,
} from './sqs-tool.ts';
import { isStoreKnown, openStore } from './store-url.ts';

const FIND = ['GetQueueUrl', 'ListQueueTags'];
/** Held to what is called by a test. SQS itself does the rest of a move task, with the rights of who starts it. */
export const RIGHTS = {
  status: { both: FIND, deadLetterQueue: ['GetQueueAttributes'] },
  'summary, list or show': {
    both: FIND,
    deadLetterQueue: ['GetQueueAttributes', 'ReceiveMessage', 'ChangeMessageVisibility'],
  },
  peek: { both: FIND, deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'] },
  redrive: {
    both: FIND,
    queue: ['SendMessage'],
    deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility', 'DeleteMessage'],
  },
  record: { both: FIND, deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'] },
  'redrive --move-task': {
    both: [...FIND, 'GetQueueAttributes'],
    queue: ['SendMessage'],
    deadLetterQueue: ['StartMessageMoveTask', 'ReceiveMessage', 'DeleteMessage'],
  },
} as const satisfies Record<string, SqsRights>;

export const command = defineCommand({
  name: 'scripts/dlq.sh',
  summary: 'Shows the dead-letter queue, and moves messages back to the order queue.',
  positionals: {
    action: {
      schema: z.enum(['status', 'summary', 'list', 'show', 'peek', 'redrive', 'record']),
      description: {
        status: 'how many messages are in the dead-letter queue',
        summary:
          'counts the messages by what is wrong with them, and says for each kind whether this release reads them and what to do next',
        list: 'all messages, one per line: why they are there, and whether this release reads them',
        show: 'the messages of an ID, which is that of a message or of an order: all that is known, and the order',
        peek: 'shows messages and their reasons, and leaves them in the queue',
        redrive:
          'moves messages back to the order queue; messages dead-lettered after it started are left for the next run; several may run at the same time. Where DATABASE_URL names the store, it records there that the orders are on their way again',
        record:
          'records in the store, for every message, that its order was rejected and why, where the consumer could not; what is recorded stays as it is',
      },
    },
    environment: { schema: environment.default('dev'), description: 'dev by default' },
    id: { only: ['show'], schema: z.string().optional(), description: 'show: of a message or an order' },
  },
  options: {
    limit: {
      takes: 'N',
      only: ['list', 'peek', 'redrive'],
      description: 'maximum number of messages; by default peek shows 10, and list and redrive take all',
      schema: wholeNumber(1).optional(),
    },
    rate: {
      takes: 'N',
      only: ['redrive'],
      description: 'messages per second; by default as fast as possible',
      schema: wholeNumber(1).optional(),
    },
    'dry-run': flag('says what would be moved, and moves nothing', { only: ['redrive'] }),
    reason: {
      takes: 'CODE',
      only: ['list', 'redrive'],
      description: `only messages with this reason; ${MOVED_BY_SQS} stands for those without one`,
      schema: z.string().optional(),
    },
    readable: flag('only messages that this release reads', { only: ['list', 'redrive'] }),
    json: flag('prints JSON; list and show one object per line', { only: ['summary', 'list', 'show'] }),
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
    'redrive takes messages out of the dead-letter queue and sends them to the order queue. record adds to the store. summary, list, show, peek and record hide messages from other readers while they look, and raise their receive counts. status changes nothing.',
  needs: `DATABASE_URL and DATABASE_CA_FILE, required by record outside dev, with SELECT and INSERT on order_fates. ${SQS_VARIABLES} With the MESSAGE_ENCRYPTION variables of the consumer, encrypted messages are read too; without them they are counted, listed and moved. redrive uses the key for --readable, and to record in the store what it moves. ${rightsText(RIGHTS)}`,
  exitStatuses: { 0: 'done', 1: 'not done, or interrupted, with the reason' },
});

if (import.meta.main) await runCommand(command, main);

type Values = ValuesOf<typeof command>;

async function main(values: Values): Promise<number> {
  checkCombination(values);
  const { client, config, logger } = createTool(values.environment, process.env);
  const urls = await findQueues({ client, config });
  const cipher = readsOrders(values) && hasCipher(config) ? await openCipher() : undefined;
  const deadLetterQueue = new DeadLetterQueue(client, urls, cipher);
  const interrupted = new AbortController();
  // So that nothing stays hidden; a second signal ends the process at once.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  const { signal } = interrupted;
  const status = await run().finally(() => cipher?.close());
  if (!signal.aborted) return status;
  console.error('interrupted');
  return 1;

  /** A key that is gone must not keep dead letters from being moved. */
  function openCipher(): Promise<MessageCipher | undefined> {
    const opened = openMessageCipher({
      config,
      logger,
      maxBytes: MAX_ORDER_BYTES,
      guard: untilUnavailable(),
    });
    if (values.action !== 'redrive' || values.readable) return opened;
    return opened.catch((error: Error) => {
      console.error(`encrypted messages are moved without being read: ${error.message}`);
      return undefined;
    });
  }

  async function run(): Promise<number> {
    switch (values.action) {
      case 'status': {
        const { visible, inFlight } = await queueDepth(client, urls.deadLetterQueueUrl);
        console.log(`${config.ORDER_DLQ_NAME}: ${visible} waiting, ${inFlight} in flight`);
        return 0;
      }
      case 'peek': {
        const messages = await deadLetterQueue.peek(values.limit ?? 10);
        for (const message of messages) console.log(asLine(factsOf(message, read(message))));
        console.log(`${messages.length} shown`);
        return 0;
      }
      case 'record':
        return record(deadLetterQueue, values, signal);
      case 'redrive':
        return redrive(deadLetterQueue, values, signal);
      default: {
        const attributes = await queueAttributes(client, urls.deadLetterQueueUrl);
        if (attributes.RedrivePolicy)
          throw new StartupError(
            `${config.ORDER_DLQ_NAME} has a redrive policy: SQS would move on what is looked at too often`,
          );
        const { visible, inFlight } = depthIn(attributes);
        const retentionSeconds = Number(attributes.MessageRetentionPeriod);
        const queue = { name: config.ORDER_DLQ_NAME, waiting: visible, inFlight, retentionSeconds };
        return (values.action === 'summary' ? summarise : list)(deadLetterQueue, queue, values, signal);
      }
    }
  }
}

/** Whether it looks into messages. Others need no key, nor does a redrive that records nothing. */
function readsOrders({
  action,
  readable,
  environment,
  'dry-run': dryRun,
  'move-task': bySqs,
}: Values): boolean {
  if (action !== 'redrive') return action !== 'status';
  return readable || (!dryRun && !bySqs && isStoreKnown(environment, process.env));
}

/** Asks KMS no more once it was unavailable: there may be thousands of letters. */
function untilUnavailable(): Guard {
  let unavailable: KeyUnavailableError | undefined;
  return async (call) => {
    if (unavailable) throw unavailable;
    try {
      return await call();
    } catch (error) {
      if (error instanceof KeyUnavailableError) unavailable = error;
      throw error;
    }
  };
}

/** @throws {UsageError} for options that do not go together */
function checkCombination(values: Values): void {
  const {
    action,
    id,
    limit,
    'dry-run': dryRun,
    'code-version': codeVersion,
    since,
    reason,
    readable,
  } = values;
  if (action === 'show' && id === undefined) throw new UsageError('show: which id?');
  if (since && codeVersion === undefined) throw new UsageError('--since goes with --code-version');
  const some = limit || dryRun || codeVersion || since || reason || readable;
  if (values['move-task'] && (some || !values.conflicts))
    throw new UsageError('a move task moves everything: say --conflicts, and no other option but --rate');
}

type Queue = { name: string; waiting: number; inFlight: number; retentionSeconds: number };

/** Counts the whole queue, and leaves it as it was. */
async function summarise(
  deadLetterQueue: DeadLetterQueue,
  queue: Queue,
  { environment, json }: Values,
  signal: AbortSignal,
): Promise<number> {
  const { name, waiting, inFlight, retentionSeconds } = queue;
  const groups = new Groups(queue);
  let seen = 0;
  for await (const letters of deadLetterQueue.readAll()) {
    seen += letters.length;
    for (const letter of letters) groups.add(letter);
    if (signal.aborted) break;
  }
  if (json) {
    console.log(printable(JSON.stringify({ ...queue, seen, groups: groups.list() }, null, 2)));
    return 0;
  }
  console.log(
    `${name}: ${waiting} waiting, ${inFlight} in flight, kept for ${retentionSeconds / 86_400} days`,
  );
  for (const group of groups.list()) console.log(`\n${groupAsText(group, environment)}`);
  console.log(`\n${account(queue, seen)}`);
  return 0;
}

/** Prints the messages that are asked for, and leaves the queue as it was. */
async function list(
  deadLetterQueue: DeadLetterQueue,
  queue: Queue,
  values: Values,
  signal: AbortSignal,
): Promise<number> {
  const { action, environment, id, json, limit = Number.POSITIVE_INFINITY } = values;
  const isShow = action === 'show';
  const isWanted = isShow ? (letter: DeadLetteredMessage) => hasId(letter, id) : chosen(values);
  let seen = 0;
  let shown = 0;
  for await (const letters of deadLetterQueue.readAll()) {
    seen += letters.length;
    for (const letter of letters.filter(isWanted).slice(0, limit - shown)) {
      shown++;
      const readings = read(letter);
      const facts = factsOf(letter, readings, queue.retentionSeconds);
      if (json)
        console.log(printable(JSON.stringify(isShow ? { ...facts, body: letter.message.body } : facts)));
      else console.log(isShow ? asText(letter, readings, facts, environment) : asLine(facts));
    }
    if (signal.aborted || shown >= limit) break;
  }
  if (!json) console.log(`${shown} shown, ${account(queue, seen)}`);
  return isShow && shown === 0 ? 1 : 0;
}

function account({ waiting, inFlight }: Queue, seen: number): string {
  const all = waiting + inFlight;
  const held = seen < all ? '; others may hold the rest: try again in two minutes' : '';
  return `${seen} of about ${all} seen${held}`;
}

/** What `--reason`, `--readable` and `--code-version` ask for. */
function chosen(values: Values): (letter: DeadLetteredMessage) => boolean {
  const { reason, readable, 'code-version': codeVersion, since } = values;
  const byRelease = codeVersion === undefined ? () => true : ofRelease(codeVersion, since);
  return (letter) =>
    byRelease(letter) &&
    (reason === undefined || (letter.deadLetter?.reason ?? MOVED_BY_SQS) === reason) &&
    (!readable || isReadable(read(letter)));
}

function hasId(letter: DeadLetteredMessage, id: string | undefined): boolean {
  const { message, deadLetter } = letter;
  if (message.messageId === id || deadLetter?.messageId === id) return true;
  return read(letter).some(({ order, encrypted }) => (order ?? encrypted)?.orderId === id);
}

/** Rebuilds what the store should know of the messages that are in the DLQ. */
async function record(
  deadLetterQueue: DeadLetterQueue,
  { environment }: Values,
  signal: AbortSignal,
): Promise<number> {
  const store = await openStore(environment, process.env);
  let seen = 0;
  let orders = 0;
  try {
    for await (const letters of deadLetterQueue.readAll()) {
      const rejections = letters.flatMap(rejectionsIn);
      await store.recordFates(rejections);
      seen += letters.length;
      orders += rejections.length;
      if (signal.aborted) break;
    }
  } finally {
    await store.close();
  }
  console.log(`${orders} orders of ${seen} messages are recorded as rejected`);
  return 0;
}

async function redrive(
  deadLetterQueue: DeadLetterQueue,
  values: Values,
  signal: AbortSignal,
): Promise<number> {
  const { limit, rate: ratePerSecond, 'dry-run': dryRun, conflicts } = values;
  if (values['move-task']) {
    await deadLetterQueue.startMoveTask(ratePerSecond);
    console.log('move task started');
    return 0;
  }
  const left = { LATER: 0, CONFLICT: 0 };
  const marks = new RedriveMarks();
  if (!dryRun) await marks.open(values.environment);
  const moving = deadLetterQueue.redrive({
    dryRun,
    signal,
    where: chosen(values),
    ...(limit ? { limit } : {}),
    ...(ratePerSecond ? { ratePerSecond } : {}),
    conflicts,
    onLeft: (_, because) => {
      left[because]++;
    },
    onMoved: async (letter) => {
      const { message, deadLetter } = letter;
      console.log(oneLine(`${message.messageId} ${deadLetter?.reason ?? MOVED_BY_SQS}`));
      if (!dryRun) await marks.record(letter);
    },
  });
  const moved = await moving.finally(() => marks.close());
  console.log(`${moved} ${dryRun ? 'would be moved' : 'moved'}`);
  if (left.LATER > 0) console.log(`${left.LATER} left: dead-lettered since this began`);
  if (left.CONFLICT > 0)
    console.log(`${left.CONFLICT} left: CONFLICT, compare them with what is stored (--conflicts moves them)`);
  return 0;
}
