import { hash } from 'node:crypto';
import { NoKeyError, UndecryptableError } from '@orders/shared/encryption/errors.ts';
import { readableOf } from '@orders/shared/order/encrypted-message.ts';
import {
  type ClaimedOrder,
  decodeOrderMessage,
  NewerVersionError,
  UnreadableMessageError,
} from '@orders/shared/order/message.ts';
import type { Order } from '@orders/shared/order/order.ts';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import type { OrderFate } from '../domain/order-fate.ts';
import type { RejectionReason } from '../domain/outcome.ts';
import { fromDeadLetterMessage, rejectionOf } from '../queue/dead-letter.ts';
import type { DeadLetteredMessage } from './dead-letter-queue.ts';

/** An order of a dead letter: as this release reads it, why it cannot, or that it is encrypted and cannot be read here. */
export type Reading = { claimed?: ClaimedOrder | undefined } & (
  | { order: Order; problem?: undefined; encrypted?: undefined }
  | { order?: undefined; problem: { reason: RejectionReason; detail: string }; encrypted?: undefined }
  | { order?: undefined; problem?: undefined; encrypted: { orderId: string; detail: string } }
);

/**
 * What this release reads in a dead letter, one entry per order. A letter that was rejected for what it contains, and is
 * readable now, can be redriven; whether the store takes it shows only then.
 */
export function read(letter: DeadLetteredMessage): Reading[] {
  const { MessageBody: body = '', MessageAttributes = {} } = fromDeadLetterMessage(letter.message).original;
  if (letter.decrypted) return readEncrypted(body, letter.decrypted);
  const attributes = Object.fromEntries(
    Object.entries(MessageAttributes).map(([name, { StringValue }]) => [name, StringValue]),
  );
  return unpackMessages(body).map((part) => {
    const packed = part !== body;
    return readPart(part, packed ? {} : attributes, packed);
  });
}

function readEncrypted(body: string, decrypted: string[] | Error): Reading[] {
  if (Array.isArray(decrypted)) return decrypted.map((part) => readPart(part, {}, decrypted.length > 1));
  const problem = problemOf(decrypted);
  if (problem) return [{ problem }];
  const { orderIds = [] } = readableOf(body) ?? {};
  const { message: detail } = decrypted;
  return (orderIds.length > 0 ? orderIds : ['']).map((orderId) => ({ encrypted: { orderId, detail } }));
}

function readPart(body: string, attributes: Record<string, string | undefined>, packed: boolean): Reading {
  try {
    const { order, contentHash, clientId } = decodeOrderMessage(body, attributes, { packed });
    return { order, claimed: { orderId: order.orderId, contentHash, clientId } };
  } catch (error) {
    const problem = problemOf(error);
    const { claimed } = Object(error) as { claimed?: ClaimedOrder };
    if (problem) return { problem, claimed };
    if (error instanceof NoKeyError) return { encrypted: { orderId: '', detail: error.message } };
    throw error;
  }
}

function problemOf(error: unknown): { reason: RejectionReason; detail: string } | undefined {
  const isProblem = [UnreadableMessageError, NewerVersionError, UndecryptableError].some(
    (kind) => error instanceof kind,
  );
  if (!isProblem) return undefined;
  const { code, message } = error as UnreadableMessageError | NewerVersionError | UndecryptableError;
  return { reason: code, detail: message };
}

/** The rejections that a dead letter tells of, one for each order that it names. They are the same at every call. */
export function rejectionsIn(letter: DeadLetteredMessage): OrderFate[] {
  const { message, deadLetter } = letter;
  const sentAt = (message.sentAt ?? new Date()).toISOString();
  const movedBySqs = {
    reason: MOVED_BY_SQS,
    detail: '',
    errorClass: '',
    attempts: message.receiveCount,
    failures: 0,
    firstSeenAt: sentAt,
    // When it was moved, SQS does not say.
    deadLetteredAt: (message.firstReceivedAt ?? message.sentAt ?? new Date()).toISOString(),
    codeVersion: '',
    traceId: '',
    messageId: message.messageId,
  };
  return read(letter).flatMap(({ claimed }) =>
    claimed ? rejectionOf(claimed, deadLetter ?? movedBySqs) : [],
  );
}

/** Whether this release reads every order in it. */
export const isReadable = (readings: readonly Reading[]): boolean => readings.every(({ order }) => order);

/** In place of a reason: SQS moved the letter, after its `maxReceiveCount`. */
export const MOVED_BY_SQS = 'MOVED_BY_SQS';

/** Dead letters with the same reason and, but for ids and numbers, the same detail. */
export type Group = {
  reason: string;
  detail: string;
  /** Of reason and detail: {@link fingerprintOf}. */
  fingerprint: string;
  letters: number;
  /** Letters in which this release reads every order. */
  readable: number;
  /** Letters that are encrypted, and of which nobody can say here whether they can be read. */
  encrypted: number;
  /** Letters that SQS deletes within {@link EXPIRES_SOON_MS}. */
  expiring: number;
  /** When the first and the last of them were dead-lettered, RFC 3339; without those that SQS moved. */
  first?: string;
  last?: string;
  /** That rejected them. */
  releases: string[];
  /** Message id of one of them. */
  example: string;
};

/** Letters with less time left count as {@link Group.expiring}. */
export const EXPIRES_SOON_MS = 24 * 3_600_000;
/** Whoever sends messages decides on details: more groups than this are counted in one for their reason. */
const MAX_GROUPS = 200;
const OTHER_DETAILS = '(other details)';

/** Counts dead letters by what is wrong with them. Needs memory for its groups only, however many letters come. */
export class Groups {
  readonly #retentionMs: number;
  readonly #groups = new Map<string, Group>();

  /** @param retentionSeconds of the dead-letter queue */
  constructor({ retentionSeconds }: { retentionSeconds: number }) {
    this.#retentionMs = retentionSeconds * 1_000;
  }

  add(letter: DeadLetteredMessage, nowMs = Date.now()): void {
    const { message, deadLetter } = letter;
    const readings = read(letter);
    const { reason, detail } = causeOf(letter, readings);
    const group = this.#groupOf(reason, detail, message.messageId);
    group.letters++;
    if (isReadable(readings)) group.readable++;
    if (readings.some(({ encrypted }) => encrypted)) group.encrypted++;
    if (message.sentAt && message.sentAt.getTime() + this.#retentionMs - nowMs < EXPIRES_SOON_MS)
      group.expiring++;
    if (!deadLetter) return;
    const { deadLetteredAt: at, codeVersion } = deadLetter;
    if (group.first === undefined || at < group.first) group.first = at;
    if (group.last === undefined || at > group.last) group.last = at;
    if (!group.releases.includes(codeVersion)) group.releases.push(codeVersion);
  }

  /** The largest first. */
  list(): Group[] {
    return [...this.#groups.values()].toSorted((a, b) => b.letters - a.letters);
  }

  #groupOf(reason: string, detail: string, example: string): Group {
    const key = (text: string) => `${reason}\n${text}`;
    const shown = this.#groups.has(key(detail)) || this.#groups.size < MAX_GROUPS ? detail : OTHER_DETAILS;
    const known = this.#groups.get(key(shown));
    if (known) return known;
    const group = {
      reason,
      detail: shown,
      fingerprint: fingerprint(reason, shown),
      letters: 0,
      readable: 0,
      encrypted: 0,
      expiring: 0,
      releases: [],
      example,
    };
    this.#groups.set(key(shown), group);
    return group;
  }
}

/** Why a letter is there, the same for all of its kind. */
function causeOf({ deadLetter }: DeadLetteredMessage, readings: readonly Reading[]) {
  const problem = readings.find((reading) => reading.problem)?.problem;
  // What SQS moved has no reason; what is wrong with it now may be one.
  const detail = deadLetter?.detail ?? (problem ? `now ${problem.reason} (${problem.detail})` : '');
  return { reason: deadLetter?.reason ?? MOVED_BY_SQS, detail: pattern(detail) };
}

const fingerprint = (reason: string, detail: string) => hash('sha256', `${reason}\n${detail}`).slice(0, 8);

/** The same for letters of one group, short enough to type. */
export function fingerprintOf(letter: DeadLetteredMessage): string {
  const { reason, detail } = causeOf(letter, read(letter));
  return fingerprint(reason, detail);
}

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi;

/** The same for letters that differ in ids and numbers only. */
const pattern = (detail: string) => detail.replaceAll(UUID, '…').replaceAll(/\d+(\.\d+)?/g, '#');
