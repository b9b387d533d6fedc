import {
  decodeOrderMessage,
  NewerVersionError,
  UnreadableMessageError,
} from '@orders/shared/order/message.ts';
import type { Order } from '@orders/shared/order/order.ts';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import type { RejectionReason } from '../domain/outcome.ts';
import { fromDeadLetterMessage } from '../queue/dead-letter.ts';
import type { DeadLetteredMessage } from './dead-letter-queue.ts';

/** An order of a dead letter: as this release reads it, or why it cannot. */
export type Reading =
  | { order: Order; problem?: undefined }
  | { order?: undefined; problem: { reason: RejectionReason; detail: string } };

/**
 * What this release reads in a dead letter, one entry per order. A letter that was rejected for what it contains, and is
 * readable now, can be redriven; whether the store takes it shows only then.
 */
export function read(letter: DeadLetteredMessage): Reading[] {
  const { MessageBody: body = '', MessageAttributes = {} } = fromDeadLetterMessage(letter.message).original;
  const attributes = Object.fromEntries(
    Object.entries(MessageAttributes).map(([name, { StringValue }]) => [name, StringValue]),
  );
  return unpackMessages(body).map((part) => {
    const packed = part !== body;
    try {
      return { order: decodeOrderMessage(part, packed ? {} : attributes, { packed }).order };
    } catch (error) {
      if (error instanceof UnreadableMessageError || error instanceof NewerVersionError)
        return { problem: { reason: error.code, detail: error.message } };
      throw error;
    }
  });
}

/** Whether this release reads every order in it. */
export const isReadable = (readings: readonly Reading[]): boolean => readings.every(({ order }) => order);

/** In place of a reason: SQS moved the letter, after its `maxReceiveCount`. */
export const MOVED_BY_SQS = 'MOVED_BY_SQS';

/** Dead letters with the same reason and, but for ids and numbers, the same detail. */
export type Group = {
  reason: string;
  detail: string;
  letters: number;
  /** Letters in which this release reads every order. */
  readable: number;
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
    const reason = deadLetter?.reason ?? MOVED_BY_SQS;
    const problem = read(letter).find((reading) => reading.problem)?.problem;
    // What SQS moved has no reason; what is wrong with it now may be one.
    const detail = deadLetter?.detail ?? (problem ? `now ${problem.reason} (${problem.detail})` : '');
    const group = this.#groupOf(reason, pattern(detail), message.messageId);
    group.letters++;
    if (!problem) group.readable++;
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
    const group = { reason, detail: shown, letters: 0, readable: 0, expiring: 0, releases: [], example };
    this.#groups.set(key(shown), group);
    return group;
  }
}

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi;

/** The same for letters that differ in ids and numbers only. */
const pattern = (detail: string) => detail.replaceAll(UUID, '…').replaceAll(/\d+(\.\d+)?/g, '#');
