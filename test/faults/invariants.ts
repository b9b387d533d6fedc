import { isDeepStrictEqual } from 'node:util';
import { MAX_FAILURES } from './settings.ts';

/** What the campaign knows of one order that it sent, perhaps several times. */
export type SentOrder = {
  /** Travels in the order's metadata: whatever is found anywhere is traced back by it. */
  tag: string;
  /** As it was posted. */
  order: Readonly<Record<string, unknown>>;
  /** Ids it has, or was told to have. Empty while none is known. */
  orderIds: ReadonlySet<string>;
  /**
   * accepted: answered with 202, once at least. unknown: answered with 5xx or 429, or not at all; it may be stored.
   * refused: must never be found anywhere. none: was not sent.
   */
  answer: 'accepted' | 'unknown' | 'refused' | 'none';
  /** How often it was answered with 202. */
  confirmed: number;
  /** By a rule in the database: `once` until a failure of it was counted. */
  refused?: 'for ever' | 'once';
  /** Statuses that no client should have seen. */
  oddAnswers: readonly number[];
  /** Of the one message that it was sent in, past the producer. */
  carrier?: string;
  /** Was a row before the services ran. */
  storedLongAgo?: true;
  /** Who posted it, where clients have keys. */
  clientId?: string | undefined;
};

/** A message that can never be stored, sent straight to the queue and confirmed. */
export type Poison = {
  body: string;
  reason: string;
  /** Of the one message that it was sent in, where it is known. */
  carrier?: string;
};

/** An order as it was found: in a row of the table, in an answer of the look-up, in a message. */
export type FoundOrder = {
  tag: string | undefined;
  orderId: string;
  order: Readonly<Record<string, unknown>>;
  /** Of rows and messages: whose it is said to be. */
  clientId?: string | undefined;
};

/** A line of the acceptance journal. */
export type Journaled = { orderId: string; messageId?: string | undefined; clientId?: string | undefined };

/** An order as an answer of the look-up has it. */
export type LookedUp = FoundOrder & { storedAt: string };

/** A message in the DLQ; without `found` it holds no order that can be read. */
export type DeadLettered = {
  body: string;
  reason: string | undefined;
  /** Counted by the consumer that gave up. */
  failures?: number | undefined;
  /** How often SQS delivered it. */
  attempts?: number | undefined;
  /** Of the message that it is a copy of. */
  messageId?: string | undefined;
  found: FoundOrder | undefined;
};

/** What the store says became of a message that was not stored. */
export type RecordedFate = { kind: string; orderId: string; messageId: string; reason: string };

/** A failure of a message that a consumer counted. */
export type CountedFailure = { orderId: string | undefined; messageId: string };

/** Everything that can be seen from outside after a trial. */
export type Evidence = {
  sent: readonly SentOrder[];
  poison: readonly Poison[];
  /** Rows of the table, all of them. */
  stored: readonly FoundOrder[];
  /** What GET answered for the accepted ids, before the last orders were sent. */
  lookedUp: readonly LookedUp[];
  /** Ids that GET was asked for. */
  askedFor: readonly string[];
  /** What it answered for the same ids to each client that sees its own orders only. */
  seenBy: Readonly<Record<string, readonly FoundOrder[]>>;
  deadLettered: readonly DeadLettered[];
  fates: readonly RecordedFate[];
  /** A consumer died before it had recorded a fate, or says that it could not. */
  fatesMayBeMissing: boolean;
  /** How many second copies in the DLQ the mishaps of a message explain. */
  explainedCopies: (messageId: string) => number;
  /** The same of any message: consumers that died or stood still, SQS away, redrives. */
  interruptions: number;
  /** By all consumers. Those that led to the DLQ at once are not among them. */
  failures: readonly CountedFailure[];
  /** The lines of the producer's acceptance journal. */
  journaled: readonly Journaled[];
  /** Orders that the producer says it accepted without a line: a write to the journal took longer than its limit. */
  unjournaled: number;
  /** Still in the order queue when the services had stopped: only the last orders may be. */
  queued: readonly FoundOrder[];
  /** Messages in flight right after the consumers had stopped in good health. */
  inFlightAfterStop: number;
  /** What never settled within the limit, in words: messages in the queue, leases. */
  unsettled: readonly string[];
  /** Services that were not ready within the limit. */
  notReady: readonly string[];
  /** Crashes, unhandled rejections and FATAL lines. */
  crashes: readonly string[];
  /** SIGTERM answered by anything but status 0 in time. */
  badEnds: readonly string[];
  /** By consumer, the most messages that it had in work at once, and by how many that may be at most. */
  inWork: Readonly<Record<string, number>>;
  maxInWork: number;
  /** The most memory that each process had at once, in bytes. */
  peakBytes: Readonly<Record<string, number>>;
  /** Good orders that were not stored so long after the faults had ended, by their tags. */
  starved: readonly string[];
  /** What retention wrote, as far as it can be read, and archives that cannot be read whole. */
  archived: readonly FoundOrder[];
  unreadableArchives: readonly string[];
  /** Tools of operators that did not do what they promise, and requests without an answer, in words. */
  toolFailures: readonly string[];
  unanswered: readonly string[];
  /** Growth of open files, sockets among them, of each process that lived long enough, as `ProcessWatch` has it. */
  openFilesGrowth: Readonly<Record<string, number>>;
};

export type ViolationCode =
  | 'LOST'
  | 'NOT_JOURNALED'
  | 'STORED_TWICE'
  | 'NOT_SENT'
  | 'ALTERED'
  | 'WRONGLY_DEAD_LETTERED'
  | 'WRONGLY_FAILED'
  | 'LOOK_UP_DIFFERS'
  | 'WRONG_CLIENT'
  | 'CLIENTS_MIXED'
  | 'WRONG_FATE'
  | 'NOT_SETTLED'
  | 'NOT_READY'
  | 'NOT_DRAINED'
  | 'CRASHED'
  | 'BAD_STOP'
  | 'LEAK'
  | 'ODD_ANSWER'
  | 'UNANSWERED'
  | 'DEAD_LETTERED_TWICE'
  | 'OVER_LIMIT'
  | 'TOO_MUCH_MEMORY'
  | 'STARVED'
  | 'ARCHIVE_UNREADABLE'
  | 'TOOL_FAILED';

export type Violation = { code: ViolationCode; detail: string };

/**
 * More than this is a leak. A process that ends while SQS does not answer holds a socket for each batch in flight (10) and
 * for each client that waits: 21 at most in 1,200 trials, 13 where that was not so.
 */
const MAX_OPEN_FILES_GROWTH = 30;

/** The containers' limit is 512 MiB, and what the kernel counts for one is more than its process has. */
const MAX_PEAK_BYTES = 420_000_000;
/** From the end of the last fault. */
export const STARVED_AFTER_MS = 30_000;
/** Clocks that jump, jump by less; a time that was misread is further off. */
const STORED_WITHIN_MS = 3 * 24 * 60 * 60 * 1_000;

/** What is promised, by the code of its violation. The report prints it. */
export const INVARIANTS: Record<ViolationCode, string> = {
  LOST: 'every order answered with 202 is stored, or in the DLQ with the reason; every unreadable message is in the DLQ',
  NOT_JOURNALED:
    'each 202 has a line in the acceptance journal, whatever happens to the producer afterwards, except for those that the producer itself reports as not written',
  STORED_TWICE: 'an order has one row, whatever was sent or delivered twice',
  NOT_SENT: 'every stored or dead-lettered order was sent, and was not refused',
  ALTERED: 'every stored, dead-lettered or queued order equals what was sent, field by field',
  WRONGLY_DEAD_LETTERED: `the DLQ holds unreadable messages, conflicts, and messages that failed ${MAX_FAILURES} times through their own fault, each with its own reason; no outage puts anything there`,
  WRONGLY_FAILED: 'failures are counted for every order that the database refuses, and for no other',
  LOOK_UP_DIFFERS: 'GET returns what the table holds, and when it was stored',
  WRONG_FATE:
    'an order in the DLQ has its rejection recorded, with the same reason, unless its consumer died or says that it could not; an order that nothing is wrong with has none',
  WRONG_CLIENT:
    'every stored, archived, queued, dead-lettered or journaled order is the one of the client that placed it; each client looks up all of its own orders, and no other',
  CLIENTS_MIXED: 'no message holds orders of different clients',
  NOT_SETTLED: 'the queue empties, nothing stays in flight, all leases are released',
  NOT_READY: 'both services are ready again within 120 s after the faults end',
  NOT_DRAINED: 'a consumer that was stopped while healthy leaves nothing in flight',
  CRASHED: 'no crash, no unhandled rejection, no FATAL line',
  BAD_STOP: 'SIGTERM ends a service with exit status 0 within the grace period',
  LEAK: `open files and sockets of a process grow by at most ${MAX_OPEN_FILES_GROWTH} from ready to the end`,
  ODD_ANSWER:
    'orders are answered with 202, 429 or 503; contradictory ones with 422, or with 429 before they are read',
  UNANSWERED:
    'a request is answered within PUBLISH_TIMEOUT_MS and 7 s, unless the producer dies or is suspended',
  DEAD_LETTERED_TWICE:
    'a message has one copy in the DLQ; a second one only if its consumer died or was suspended, SQS was away, or a request about the message failed',
  OVER_LIMIT: 'at most MAX_IN_WORK messages are received and not settled, besides deletes in flight (100)',
  TOO_MUCH_MEMORY: `resident memory of a process, with the flags of the images, peaks at ${MAX_PEAK_BYTES / 1e6} MB at most`,
  STARVED: `a good order is stored within ${STARVED_AFTER_MS / 1_000} s after the faults end, whatever bad orders are around it`,
  ARCHIVE_UNREADABLE:
    'orders that retention removed from the store are in archives that can be read completely, whatever happened to its runs',
  TOOL_FAILED: 'redrives and retention finish, even two at a time',
};

/** Judges what was found. Empty when every promise was kept. */
export function checkInvariants(evidence: Evidence): Violation[] {
  const violations: Violation[] = [];
  const report = (code: ViolationCode, detail: string) => violations.push({ code, detail });
  const sentByTag = new Map(evidence.sent.map((sent) => [sent.tag, sent]));
  const storedByTag = Map.groupBy(evidence.stored, ({ tag }) => tag);
  const deadByTag = Map.groupBy(
    evidence.deadLettered.filter(({ found }) => found),
    ({ found }) => found?.tag,
  );
  const elsewhere = new Set([...evidence.queued, ...evidence.archived].map(({ tag }) => tag));
  const rivals = Map.groupBy(
    evidence.sent.flatMap((sent) => [...sent.orderIds].map((orderId) => ({ orderId, sent }))),
    ({ orderId }) => orderId,
  );
  const mayConflict = (sent: SentOrder) => [...sent.orderIds].some((id) => (rivals.get(id)?.length ?? 0) > 1);

  for (const sent of evidence.sent) {
    const name = `order ${[...sent.orderIds].join(', ') || '(id unknown)'} (${sent.tag})`;
    const rows = storedByTag.get(sent.tag) ?? [];
    const dead = deadByTag.get(sent.tag) ?? [];
    if (rows.length > 1) report('STORED_TWICE', `${name} has ${rows.length} rows`);
    if (sent.answer === 'accepted' && rows.length === 0 && dead.length === 0 && !elsewhere.has(sent.tag))
      report('LOST', `${name} was accepted and is nowhere`);
    const rightly = (letter: DeadLettered) =>
      sent.refused === 'for ever'
        ? failedTooOften(letter)
        : mayConflict(sent) && letter.reason === 'CONFLICT';
    if (dead.length > 0 && (rows.length > 0 || !dead.every(rightly)))
      report(
        'WRONGLY_DEAD_LETTERED',
        `${name}${sent.refused ? `, refused ${sent.refused},` : ''} is in the DLQ: ${dead.map(describe).join(', ')}${rows.length > 0 ? '; it is stored as well' : ''}`,
      );
    for (const status of sent.oddAnswers) report('ODD_ANSWER', `${name} was answered with ${status}`);
  }

  const unjournaled = answersWithoutLine(evidence);
  if (unjournaled.length > evidence.unjournaled)
    for (const id of unjournaled)
      report('NOT_JOURNALED', `order ${id} was accepted without a line in the journal`);

  for (const [orderId, rows] of Map.groupBy(evidence.stored, ({ orderId }) => orderId))
    if (rows.length > 1) report('STORED_TWICE', `id ${orderId} has ${rows.length} rows`);

  const bodies = new Map(evidence.poison.map((poison) => [poison.body, poison]));
  for (const [where, found] of [
    ...evidence.stored.map((found) => ['stored', found] as const),
    ...evidence.queued.map((found) => ['queued', found] as const),
    ...evidence.archived.map((found) => ['archived', found] as const),
    ...evidence.deadLettered.flatMap(({ found, body }) =>
      found && !bodies.has(body) ? [['dead-lettered', found] as const] : [],
    ),
  ]) {
    const sent = sentByTag.get(found.tag ?? '');
    if (!sent || sent.answer === 'none' || sent.answer === 'refused')
      report(
        'NOT_SENT',
        `${found.orderId} is ${where}, and was ${sent?.answer === 'refused' ? 'refused' : 'not sent'}`,
      );
    else if (!isSame(sent, found))
      report('ALTERED', `${found.orderId}, as it is ${where}, is not what was sent`);
    else if (found.clientId !== sent.clientId)
      report('WRONG_CLIENT', `${found.orderId} is ${where} as of ${found.clientId}, not of ${sent.clientId}`);
  }

  const deadBodies = new Map<string, DeadLettered[]>(
    Map.groupBy(evidence.deadLettered, ({ body }) => body).entries(),
  );
  for (const { body, reason } of evidence.poison) {
    const dead = deadBodies.get(body) ?? [];
    if (dead.length === 0) report('LOST', `a message that should be in the DLQ as ${reason} is not there`);
    for (const { reason: given } of dead)
      if (given !== reason)
        report(
          'WRONGLY_DEAD_LETTERED',
          `a message is in the DLQ as ${given ?? 'no reason'}, not as ${reason}`,
        );
  }
  for (const { body, reason, found } of evidence.deadLettered)
    if (!found && !bodies.has(body))
      report('NOT_SENT', `the DLQ holds a message that nobody sent (${reason})`);

  const rowById = new Map(evidence.stored.map((row) => [row.orderId, row]));
  const answers = new Map(evidence.lookedUp.map((found) => [found.orderId, found]));
  for (const orderId of evidence.askedFor) {
    const row = rowById.get(orderId);
    const answer = answers.get(orderId);
    const isNew = sentByTag.get(answer?.tag ?? '')?.storedLongAgo !== true;
    if (answer && isNew && !(Math.abs(Date.parse(answer.storedAt) - Date.now()) < STORED_WITHIN_MS))
      report('LOOK_UP_DIFFERS', `GET of ${orderId} says it was stored at ${answer.storedAt}`);
    if (!isDeepStrictEqual(answer?.order, row?.order))
      report(
        'LOOK_UP_DIFFERS',
        `GET of ${orderId} answers ${answers.has(orderId) ? 'another order' : 'nothing'}`,
      );
  }

  for (const [clientId, seen] of Object.entries(evidence.seenBy)) {
    const seenIds = new Set(seen.map(({ orderId }) => orderId));
    for (const orderId of evidence.askedFor)
      if (seenIds.has(orderId) !== (rowById.get(orderId)?.clientId === clientId))
        report('WRONG_CLIENT', `${clientId} ${seenIds.has(orderId) ? 'sees' : 'does not see'} ${orderId}`);
  }
  for (const detail of wrongJournal(evidence)) report('WRONG_CLIENT', detail);
  for (const [messageId, lines] of Map.groupBy(evidence.journaled, (line) => line.messageId)) {
    const clients = new Set(lines.map(({ clientId }) => clientId));
    if (messageId !== undefined && clients.size > 1)
      report('CLIENTS_MIXED', `message ${messageId} has orders of ${[...clients].join(', ')}`);
  }

  for (const detail of wrongFates(evidence, mayConflict)) report('WRONG_FATE', detail);

  const refusedIds = new Set(
    evidence.sent.flatMap(({ refused, orderIds }) => (refused ? [...orderIds] : [])),
  );
  const failedIds = new Set(evidence.failures.map(({ orderId }) => orderId));
  for (const { orderId, messageId } of evidence.failures)
    if (!refusedIds.has(orderId ?? ''))
      report('WRONGLY_FAILED', `message ${messageId} of order ${orderId} was counted as failed`);
  for (const { refused, answer, orderIds } of evidence.sent)
    if (refused && answer === 'accepted' && ![...orderIds].some((id) => failedIds.has(id)))
      report('WRONGLY_FAILED', `order ${[...orderIds].join()} was refused, and no failure of it counted`);

  for (const { letters, most, name } of copies(evidence))
    if (letters.length > most)
      report('DEAD_LETTERED_TWICE', `${name} has ${letters.length} copies in the DLQ, ${most} are explained`);
  for (const [consumer, most] of Object.entries(evidence.inWork))
    if (most > evidence.maxInWork)
      report('OVER_LIMIT', `${consumer} had ${most} messages in work, ${evidence.maxInWork} are allowed`);
  for (const [service, bytes] of Object.entries(evidence.peakBytes))
    if (bytes > MAX_PEAK_BYTES)
      report('TOO_MUCH_MEMORY', `${service} had ${Math.round(bytes / 1e6)} MB at its peak`);
  for (const tag of evidence.starved)
    report(
      'STARVED',
      `order ${[...(sentByTag.get(tag)?.orderIds ?? [])].join()} was not stored ${STARVED_AFTER_MS / 1_000} s after the faults had ended`,
    );
  for (const archive of evidence.unreadableArchives) report('ARCHIVE_UNREADABLE', archive);
  for (const failure of evidence.toolFailures) report('TOOL_FAILED', failure);
  for (const request of evidence.unanswered) report('UNANSWERED', request);
  for (const what of evidence.unsettled) report('NOT_SETTLED', what);
  for (const service of evidence.notReady) report('NOT_READY', `${service} was not ready again`);
  if (evidence.inFlightAfterStop > 0)
    report('NOT_DRAINED', `${evidence.inFlightAfterStop} messages in flight after the consumers had stopped`);
  for (const crash of evidence.crashes) report('CRASHED', crash);
  for (const end of evidence.badEnds) report('BAD_STOP', end);
  for (const [service, growth] of Object.entries(evidence.openFilesGrowth))
    if (growth > MAX_OPEN_FILES_GROWTH)
      report('LEAK', `${service} has ${growth} open files more than when it was ready`);
  return violations;
}

/** Fates of messages that nobody sent through the producer are left alone: they may claim any id. */
function* wrongFates(
  { sent, fates, deadLettered, fatesMayBeMissing }: Evidence,
  mayConflict: (sent: SentOrder) => boolean,
): Generator<string> {
  const rejections = new Map(
    fates
      .filter(({ kind }) => kind === 'REJECTED')
      .map((fate) => [`${fate.orderId} ${fate.messageId}`, fate]),
  );
  const inOrder = sent.filter((each) => each.refused !== 'for ever' && !mayConflict(each));
  const inOrderIds = new Set(inOrder.flatMap(({ orderIds }) => [...orderIds]));
  for (const { orderId, reason } of rejections.values())
    if (inOrderIds.has(orderId)) yield `${orderId} is said to be rejected as ${reason}`;
  const tags = new Set(sent.map(({ tag }) => tag));
  for (const { found, messageId, reason } of deadLettered) {
    if (!found || !tags.has(found.tag ?? '') || messageId === undefined) continue;
    const recorded = rejections.get(`${found.orderId} ${messageId}`);
    if (recorded ? recorded.reason !== reason : !fatesMayBeMissing)
      yield `${found.orderId} is in the DLQ as ${reason}, and said to be ${recorded?.reason ?? 'nothing'}`;
  }
}

/**
 * More than that where the DLQ's answer was lost, or copies of the message were at work at once. Deliveries are not
 * compared: those that the proxy makes up are none to SQS.
 */
function failedTooOften({ reason, failures = 0, attempts = 0 }: DeadLettered): boolean {
  return reason === 'MAX_FAILURES' && failures >= MAX_FAILURES && attempts > 0;
}

type Copies = { name: string; letters: readonly DeadLettered[]; most: number };

/**
 * Copies in the DLQ that should be one: of one message, or of what was sent in one message only, which may have gone back
 * to the queue in others.
 */
function copies({ deadLettered, sent, poison, explainedCopies, interruptions }: Evidence): Copies[] {
  const keyOf = (letter: DeadLettered) => letter.found?.tag ?? letter.body;
  const explained = (messageIds: Iterable<string | undefined>) =>
    [...new Set(messageIds)].reduce((sum, id) => sum + (id === undefined ? 0 : explainedCopies(id)), 0);
  const most = (messageIds: Iterable<string | undefined>) => 1 + interruptions + explained(messageIds);
  const known = deadLettered.filter(({ messageId }) => messageId !== undefined);
  const ofMessage = [...Map.groupBy(known, (letter) => `${letter.messageId} ${keyOf(letter)}`).values()].map(
    (letters) => ({
      name: `message ${letters[0]?.messageId}`,
      letters,
      most: most([letters[0]?.messageId]),
    }),
  );
  const byKey = Map.groupBy(known, keyOf);
  const sentOnce = [
    ...sent.flatMap(({ tag, carrier }) => (carrier ? [{ key: tag, carrier }] : [])),
    ...poison.flatMap(({ body, carrier }) => (carrier ? [{ key: body, carrier }] : [])),
  ];
  const ofContent = sentOnce.map(({ key, carrier }) => {
    const letters = byKey.get(key) ?? [];
    return {
      name: `what was sent in message ${carrier}`,
      letters,
      most: most([carrier, ...letters.map(({ messageId }) => messageId)]),
    };
  });
  return [...ofMessage, ...ofContent];
}

/** Lines of the journal that name a client who placed no order of that id. */
function* wrongJournal({ sent, journaled }: Evidence): Generator<string> {
  const owners = new Map<string, Set<string | undefined>>();
  for (const { orderIds, clientId } of sent)
    for (const id of orderIds) owners.set(id, (owners.get(id) ?? new Set()).add(clientId));
  for (const { orderId, clientId } of journaled)
    if (owners.get(orderId)?.has(clientId) === false) yield `${orderId} is journaled as of ${clientId}`;
}

/** The id of the order, for each answer with 202 that has no line of its own in the journal. */
function answersWithoutLine({ sent, journaled }: Evidence): string[] {
  const lines = Map.groupBy(journaled, ({ orderId }) => orderId);
  const known = sent.filter(({ orderIds }) => orderIds.size > 0);
  return [...Map.groupBy(known, ({ orderIds }) => [...orderIds].join())].flatMap(([ids, all]) => {
    const answers = all.reduce((sum, { confirmed }) => sum + confirmed, 0);
    const found = ids.split(',').reduce((sum, id) => sum + (lines.get(id)?.length ?? 0), 0);
    return Array<string>(Math.max(0, answers - found)).fill(ids);
  });
}

function describe({ reason, failures, attempts }: DeadLettered): string {
  return reason ? `${reason} after ${failures} failures, received ${attempts} times` : 'no reason';
}

function isSame(sent: SentOrder, found: FoundOrder): boolean {
  const { orderId, ...order } = found.order;
  const { orderId: _own, ...wanted } = sent.order;
  const known = sent.orderIds.size === 0 || sent.orderIds.has(found.orderId);
  return known && orderId === found.orderId && isDeepStrictEqual(order, wanted);
}

/** Lines of a service's log that no run should have: FATAL, or no log line and not the reason of a failed start. */
export function crashLines(service: string, log: string): string[] {
  return log
    .split('\n')
    .filter((line) => (line.startsWith('{') ? line.includes('"level":"FATAL"') : isComplaint(line)))
    .map((line) => `${service}: ${line.slice(0, 300)}`);
}

const FAILED_START = /^order-(?:producer|consumer): (?:cannot work with|DATABASE_URL: cannot open) /;

function isComplaint(line: string): boolean {
  // The SDK warns, past every logger, of the credentials that it waits for.
  const expected = /^\s|^\(|ExperimentalWarning|^@smithy\/node-http-handler - \[WARN\]/;
  return line.trim() !== '' && !FAILED_START.test(line) && !expected.test(line);
}
