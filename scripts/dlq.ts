import { type DeadLetteredMessage, DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { Groups, MOVED_BY_SQS, read, rejectionsIn } from '@orders/consumer/dlq/diagnosis.ts';
import { isParked, MAX_REDRIVES } from '@orders/consumer/queue/redrive-mark.ts';
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
import { createProgress } from '../dev/progress.ts';
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
import { chosen } from './dlq/choose.ts';
import { asLine, asText, factsOf, groupAsText, oneLine, printable } from './dlq/describe.ts';
import { discardPlan } from './dlq/discard-plan.ts';
import { Journal } from './dlq/journal.ts';
import { makePlan, plannedAsText, readRepair } from './dlq/make-plan.ts';
import { type Plan, PlanWriter, readPlan } from './dlq/plan-file.ts';
import { RedriveMarks } from './dlq/redrive-marks.ts';
import { type Account, isClosed, isMoved, runPlan } from './dlq/run-plan.ts';
import {
  createTool,
  environment,
  FIND_QUEUES,
  findQueues,
  rightsText,
  SQS_VARIABLES,
  type SqsRights,
} from './sqs-tool.ts';
import { isStoreKnown, openStore } from './store-url.ts';

const DEFAULT_RATE = 50;
/** Options that say which messages a plan is for. */
const CHOICES = [
  ...['reason', 'fingerprint', 'code-version', 'since', 'until', 'schema-version', 'client', 'customer'],
  'readable',
] as const;

/** Held to what is called by a test. SQS itself does the rest of a move task, with the rights of who starts it. */
export const RIGHTS = {
  status: { both: FIND_QUEUES, deadLetterQueue: ['GetQueueAttributes'] },
  'summary, list, show, parked or plan': {
    both: FIND_QUEUES,
    deadLetterQueue: ['GetQueueAttributes', 'ReceiveMessage', 'ChangeMessageVisibility'],
  },
  peek: { both: FIND_QUEUES, deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'] },
  redrive: {
    both: FIND_QUEUES,
    queue: ['SendMessage'],
    deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility', 'DeleteMessage'],
  },
  run: {
    both: FIND_QUEUES,
    queue: ['SendMessage'],
    deadLetterQueue: ['GetQueueAttributes', 'ReceiveMessage', 'ChangeMessageVisibility', 'DeleteMessage'],
  },
  discard: {
    both: FIND_QUEUES,
    deadLetterQueue: ['GetQueueAttributes', 'ReceiveMessage', 'ChangeMessageVisibility', 'DeleteMessage'],
  },
  record: { both: FIND_QUEUES, deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'] },
  'redrive --move-task': {
    both: [...FIND_QUEUES, 'GetQueueAttributes'],
    queue: ['SendMessage'],
    deadLetterQueue: ['StartMessageMoveTask', 'ReceiveMessage', 'DeleteMessage'],
  },
} as const satisfies Record<string, SqsRights>;

export const command = defineCommand({
  name: 'scripts/dlq.sh',
  summary: 'Shows the dead-letter queue, and moves messages back to the order queue.',
  positionals: {
    action: {
      schema: z.enum([
        ...['status', 'summary', 'list', 'show', 'peek', 'plan', 'run', 'discard', 'parked'],
        ...['redrive', 'record'],
      ] as const),
      description: {
        status: 'how many messages are in the dead-letter queue',
        summary:
          'counts the messages by what is wrong with them, and says for each kind whether this release reads them and what to do next',
        list: 'all messages, one per line: why they are there, and whether this release reads them',
        show: 'the messages of an ID, which is that of a message or of an order: all that is known, and the order',
        peek: 'shows messages and their reasons, and leaves them in the queue',
        plan: 'writes down which messages to move back, repaired or as they are, or to discard; touches nothing',
        run: `moves the messages of a PLAN back, 1, 2, 5 and 20 at first, says of each what became of it, and stops by itself when too many fail again; called again it goes on. What it did is in PLAN.journal.ndjson. After ${MAX_REDRIVES} redrives a message is parked: plans leave it`,
        discard: 'deletes the messages of a PLAN that was made with --discard, each once it is in an archive',
        parked: `all messages that plans redrove ${MAX_REDRIVES} times, one per line`,
        redrive:
          'moves messages back to the order queue; messages dead-lettered after it started are left for the next run; several may run at the same time. Where DATABASE_URL names the store, it records there that the orders are on their way again',
        record:
          'records in the store, for every message, that its order was rejected and why, where the consumer could not; what is recorded stays as it is',
      },
    },
    environment: { schema: environment.default('dev'), description: 'dev by default' },
    plan: { only: ['run', 'discard'], schema: z.string().optional(), description: 'a file that plan wrote' },
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
      only: ['redrive', 'run'],
      description: `messages per second; by default redrive goes as fast as possible, and run ${DEFAULT_RATE}`,
      schema: wholeNumber(1).optional(),
    },
    'dry-run': flag('says what would be moved, and moves nothing', { only: ['redrive'] }),
    reason: {
      takes: 'CODE',
      only: ['list', 'redrive', 'plan'],
      description: `only messages with this reason; ${MOVED_BY_SQS} stands for those without one`,
      schema: z.string().optional(),
    },
    readable: flag('only messages that this release reads', { only: ['list', 'redrive', 'plan'] }),
    json: flag('prints JSON; list and show one object per line', {
      only: ['summary', 'list', 'show', 'parked'],
    }),
    'code-version': {
      takes: 'V',
      only: ['redrive', 'plan'],
      description: 'only messages that this release dead-lettered',
      schema: z.string().optional(),
    },
    since: {
      takes: 'TIME',
      only: ['redrive', 'plan'],
      description:
        'only messages dead-lettered since then, such as 2026-11-22T09:00:00Z; redrive takes it with --code-version',
      schema: time.optional(),
    },
    until: {
      takes: 'TIME',
      only: ['plan'],
      description: 'only messages dead-lettered until then',
      schema: time.optional(),
    },
    fingerprint: {
      takes: 'ID',
      only: ['plan'],
      description: 'only messages of the kind that summary shows with it',
      schema: z.string().optional(),
    },
    'schema-version': {
      takes: 'N',
      only: ['plan'],
      description: 'only messages of this version',
      schema: wholeNumber(1).optional(),
    },
    client: {
      takes: 'ID',
      only: ['plan'],
      description: 'only orders that this client placed',
      schema: z.string().optional(),
    },
    customer: {
      takes: 'ID',
      only: ['plan'],
      description: 'only orders of this customer',
      schema: z.string().optional(),
    },
    all: flag('all messages; without it, plan wants at least one of the options that say which', {
      only: ['plan'],
    }),
    out: {
      takes: 'FILE',
      only: ['plan'],
      description: 'where the plan is written; orders are in it, so only you may read it',
      schema: z.string().optional(),
    },
    repair: {
      takes: 'FILE',
      only: ['plan'],
      description:
        'applied to every order: a JSON Patch (RFC 6902) in a .json file, or a module whose default export maps an order; messages of which it makes no good order are left',
      schema: z.string().optional(),
    },
    identity: flag('the repair may change orderId and customerId', { only: ['plan'] }),
    unreadable: flag('also redrives what this release cannot read, for a release that can', {
      only: ['plan'],
    }),
    discard: flag('the messages are to be discarded', { only: ['plan'] }),
    expires: {
      takes: 'HOURS',
      only: ['plan'],
      description: 'how long the plan can be run',
      schema: wholeNumber(1, 24 * 14).default(24),
    },
    'max-failing': {
      takes: 'PERCENT',
      only: ['run'],
      description: 'stops when more of the last 50 messages fail again',
      schema: wholeNumber(0, 100).default(10),
    },
    wait: {
      takes: 'SECONDS',
      only: ['run'],
      description: 'stops when nothing is heard of the messages that were sent for so long',
      schema: wholeNumber(1, 86_400).default(300),
    },
    because: {
      takes: 'TEXT',
      only: ['discard'],
      description: 'why; written into the journal',
      schema: z.string().optional(),
    },
    archive: {
      takes: 'FILE',
      only: ['discard'],
      description: 'where the messages are kept; by default PLAN.discarded.ndjson',
      schema: z.string().optional(),
    },
    conflicts: flag(
      'also messages with reason CONFLICT: they come back while the other order with their id is stored, and are stored under its id once that order has been archived',
      { only: ['redrive', 'plan'] },
    ),
    'move-task': flag(
      'lets SQS move everything by itself; requires --conflicts, and accepts only --rate besides (AWS only)',
      { only: ['redrive'] },
    ),
  },
  changes:
    'redrive and run take messages out of the dead-letter queue and send them to the order queue; discard deletes them there. run and record add to the store. summary, list, show, peek, parked, plan and record hide messages from other readers while they look, and raise their receive counts. status changes nothing.',
  needs: `DATABASE_URL and DATABASE_CA_FILE, required by run and record outside dev, with SELECT and INSERT on order_fates, and for run SELECT on orders. ${SQS_VARIABLES} With the MESSAGE_ENCRYPTION variables of the consumer, encrypted messages are read too; without them they are counted, listed and moved. redrive uses the key for --readable, and to record in the store what it moves. ${rightsText(RIGHTS)}`,
  exitStatuses: {
    0: 'done; of run: every message was sent and has its outcome',
    1: 'not done, not all of it, or interrupted, with the reason',
  },
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

  function refuseRedrivePolicy({ RedrivePolicy }: { RedrivePolicy?: string | undefined }): void {
    if (RedrivePolicy)
      throw new StartupError(
        `${config.ORDER_DLQ_NAME} has a redrive policy: SQS would move on what is looked at too often`,
      );
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
      case 'run':
      case 'discard': {
        const attributes = await queueAttributes(client, urls.deadLetterQueueUrl);
        refuseRedrivePolicy(attributes);
        const depth = () => queueDepth(client, urls.deadLetterQueueUrl);
        const plan = await planOf(values, String(attributes.QueueArn));
        try {
          const journal = await Journal.open(plan);
          try {
            const using = { deadLetterQueue, depth, plan, journal, signal };
            return await (values.action === 'run' ? runPlanned(using, values) : discard(using, values));
          } finally {
            journal.close();
          }
        } finally {
          plan.close();
        }
      }
      default: {
        const attributes = await queueAttributes(client, urls.deadLetterQueueUrl);
        refuseRedrivePolicy(attributes);
        const { visible, inFlight } = depthIn(attributes);
        const retentionSeconds = Number(attributes.MessageRetentionPeriod);
        const queue = { name: config.ORDER_DLQ_NAME, waiting: visible, inFlight, retentionSeconds };
        if (values.action === 'plan')
          return plan(deadLetterQueue, { ...queue, arn: String(attributes.QueueArn) }, values, signal);
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
  if (action !== 'redrive') return !['status', 'parked', 'discard'].includes(action);
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
    plan,
    because,
    limit,
    'dry-run': dryRun,
    'code-version': codeVersion,
    since,
    reason,
    readable,
  } = values;
  if (action === 'show' && id === undefined) throw new UsageError('show: which id?');
  if (['run', 'discard'].includes(action) && plan === undefined)
    throw new UsageError(`${action}: which plan?`);
  if (action === 'discard' && because === undefined) throw new UsageError('discard: --because=TEXT says why');
  if (action === 'plan') checkPlan(values);
  else if (since && codeVersion === undefined) throw new UsageError('--since goes with --code-version');
  const some = limit || dryRun || codeVersion || since || reason || readable;
  if (values['move-task'] && (some || !values.conflicts))
    throw new UsageError('a move task moves everything: say --conflicts, and no other option but --rate');
}

/** What nobody chose would be everything: that must be typed. @throws {UsageError} */
function checkPlan(values: Values): void {
  const isChosen = CHOICES.some((name) => values[name as keyof Values]);
  if (values.out === undefined) throw new UsageError('plan: --out=FILE says where it is written');
  if (isChosen === values.all)
    throw new UsageError(
      isChosen
        ? '--all goes with no option that says which messages'
        : 'plan: which messages? All of them are --all',
    );
  if (values.discard && (values.repair || values.unreadable || values.conflicts))
    throw new UsageError('--discard takes no option that says how messages are redriven');
  if (values.identity && !values.repair) throw new UsageError('--identity goes with --repair');
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
  const isWanted =
    action === 'parked'
      ? ({ message }: DeadLetteredMessage) => isParked(message)
      : isShow
        ? (letter: DeadLetteredMessage) => hasId(letter, id)
        : chosen(values);
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

/** Writes a plan, and leaves the queue as it was. */
async function plan(
  deadLetterQueue: DeadLetterQueue,
  queue: Queue & { arn: string },
  values: Values,
  signal: AbortSignal,
): Promise<number> {
  const { environment, discard, identity, unreadable, conflicts } = values;
  const repair = values.repair === undefined ? undefined : await readRepair(fromCaller(values.repair));
  const file = fromCaller(String(values.out));
  const now = Date.now();
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== false);
  const writer = new PlanWriter(file, {
    purpose: discard ? 'discard' : 'redrive',
    environment,
    queue: queue.arn,
    createdAt: new Date(now).toISOString(),
    expiresAt: new Date(now + values.expires * 3_600_000).toISOString(),
    chosen: JSON.stringify(Object.fromEntries(given)),
  });
  let isWritten = false;
  try {
    const options = { repair, identity, unreadable, conflicts, discard, signal };
    const planned = await makePlan(deadLetterQueue, writer, chosen(values), options);
    console.log(`${planned.chosen} chosen, ${account(queue, planned.seen)}`);
    if (planned.chosen === 0 || signal.aborted) return 1;
    writer.finish();
    isWritten = true;
    console.log(plannedAsText(planned));
    const next = discard
      ? `discard ${environment} ${values.out} --because=...`
      : `run ${environment} ${values.out}`;
    console.log(`next, within ${values.expires} hours: scripts/dlq.sh ${next}`);
    return 0;
  } finally {
    if (!isWritten) writer.discard();
  }
}

/** @throws {StartupError} it is another environment's, another queue's, or for something else */
async function planOf({ action, environment, plan: file }: Values, queueArn: string): Promise<Plan> {
  const plan = await readPlan(fromCaller(String(file)));
  const wrong =
    plan.environment !== environment
      ? `is of ${plan.environment}`
      : plan.queue !== queueArn
        ? `is of another queue, ${plan.queue}`
        : (plan.purpose === 'discard') !== (action === 'discard')
          ? `is to ${plan.purpose}`
          : undefined;
  if (wrong === undefined) return plan;
  plan.close();
  throw new StartupError(oneLine(`${file} ${wrong}: nothing was done`));
}

type Running = {
  deadLetterQueue: DeadLetterQueue;
  depth: () => ReturnType<typeof queueDepth>;
  plan: Plan;
  journal: Journal;
  signal: AbortSignal;
};

async function runPlanned(running: Running, values: Values): Promise<number> {
  const { environment, rate = DEFAULT_RATE } = values;
  if (!isStoreKnown(environment, process.env))
    throw new StartupError('DATABASE_URL is not set: only the store knows what becomes of the orders');
  const store = await openStore(environment, process.env);
  const moved = [...running.plan.letters.values()].filter(isMoved).length;
  const progress = createProgress('with an outcome', moved);
  try {
    const account = await runPlan({
      ...running,
      store,
      ratePerSecond: rate,
      maxFailingShare: values['max-failing'] / 100,
      waitMs: values.wait * 1_000,
      onProgress: progress.update,
    });
    progress.stop();
    console.log(accountAsText(account, running.plan, running.journal));
    return isClosed(account) ? 0 : 1;
  } finally {
    progress.stop();
    await store.close();
  }
}

function accountAsText(account: Account, { plan, letters }: Plan, { file }: Journal): string {
  const { messages, stored, duplicate, rejected, onTheWay, notSent, missing, stopped } = account;
  const again = Object.values(rejected).reduce((sum, count) => sum + count, 0);
  const reasons = Object.entries(rejected).map(([reason, count]) => `${count} ${reason}`);
  return [
    `plan ${plan}: ${messages} messages to move${letters.size > messages ? `, ${letters.size - messages} left as planned` : ''}`,
    ...(stopped === undefined ? [] : [`stopped: ${stopped}`]),
    `${messages} = ${stored} stored + ${duplicate} duplicate + ${again} rejected again${again > 0 ? ` (${reasons.join(', ')})` : ''} + ${onTheWay} still on the way + ${notSent} not sent + ${missing} not found in the dead-letter queue`,
    isClosed(account)
      ? `The account is closed. What was done is in ${file}`
      : `The account is NOT closed. Run the plan again to go on, or make a new one. What was done is in ${file}`,
  ]
    .map(oneLine)
    .join('\n');
}

async function discard(running: Running, values: Values): Promise<number> {
  const archive = fromCaller(values.archive ?? `${values.plan}.discarded.ndjson`);
  const { messages, missing } = await discardPlan({
    ...running,
    archive,
    because: String(values.because),
  });
  console.log(`${messages - missing} of ${messages} discarded; they are in ${archive}`);
  if (missing > 0)
    console.log(`${missing} not discarded: not found in the dead-letter queue, or held by others`);
  return missing > 0 ? 1 : 0;
}
