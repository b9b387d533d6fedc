import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type DeadLetteredMessage,
  type DeadLetterQueue,
  RedriveIncompleteError,
  type RedriveOptions,
} from '@orders/consumer/dlq/dead-letter-queue.ts';
import { letterHash, plannedMessage } from '@orders/consumer/dlq/plan-entry.ts';
import { Ramp } from '@orders/consumer/dlq/ramp.ts';
import { currentFate } from '@orders/consumer/domain/order-fate.ts';
import type { OrderIdentity, OrderRepository } from '@orders/consumer/domain/order-repository.ts';
import { isSameOrder } from '@orders/consumer/domain/save-results.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import type { QueueDepth } from '@orders/shared/sqs/queue-admin.ts';
import type { Journal, JournalState } from './journal.ts';
import type { Plan, PlannedLetter } from './plan-file.ts';
import { redriveMarks } from './redrive-marks.ts';

export type RunOptions = {
  deadLetterQueue: DeadLetterQueue;
  /** Of the dead-letter queue. */
  depth: () => Promise<Pick<QueueDepth, 'inFlight'>>;
  plan: Plan;
  journal: Journal;
  store: Pick<OrderRepository, 'findByIds' | 'findFates' | 'recordFates'>;
  ratePerSecond: number;
  /** It stops when a larger share of the last outcomes are failures. */
  maxFailingShare: number;
  /** It stops, and the account is closed or not, when no outcome comes for so long. */
  waitMs: number;
  signal: AbortSignal;
  /** How many messages have their outcome. */
  onProgress?: (settled: number) => void;
};

/** What became of the messages of a plan, over all its runs. They add up to `messages`. */
export type Account = {
  messages: number;
  stored: number;
  duplicate: number;
  /** How many, by reason. */
  rejected: Record<string, number>;
  /** Sent, and neither the store nor the dead-letter queue says what became of them. */
  onTheWay: number;
  notSent: number;
  /** Neither sent nor in the dead-letter queue any more, unless somebody else holds them. */
  missing: number;
  /** Why it stopped by itself. */
  stopped?: string;
};

export const isClosed = ({ onTheWay, notSent, missing }: Account): boolean =>
  onTheWay + notSent + missing === 0;

type Pending = { messageId: string; as: string; orders: PlannedLetter['orders']; isOfThisRun: boolean };

const POLL_MS = 200;
/** Of orders, which may have a megabyte each. */
const LOOK_UP_AT_ONCE = 20;
/** A process that was killed leaves its messages hidden for two minutes. */
const HELD_BY_OTHERS_MS = 150_000;

/** Stops a run, which then says why. */
class StoppedError extends Error {}

/**
 * Moves the messages of a plan, a few at first, and says what became of each. May be killed and called again: a message
 * that was sent twice is stored once, since both copies are the same order.
 */
export async function runPlan(options: RunOptions): Promise<Account> {
  return new PlanRun(options).run();
}

class PlanRun {
  readonly #options: RunOptions;
  readonly #ramp: Ramp;
  readonly #pending = new Map<string, Pending>();
  readonly #stop = new AbortController();
  #stopped: string | undefined;
  #settled = 0;
  #lookedAt = 0;
  #newsAt = performance.now();

  constructor(options: RunOptions) {
    this.#options = options;
    this.#ramp = new Ramp(options);
    for (const [messageId, { orders }] of options.plan.letters) {
      const { result, as = '' } = options.journal.states.get(messageId) ?? {};
      if (result === 'SENT' || result === 'MOVED')
        this.#pending.set(messageId, { messageId, as, orders, isOfThisRun: false });
    }
  }

  async run(): Promise<Account> {
    const { journal, ratePerSecond, signal } = this.#options;
    const moving = {
      ratePerSecond,
      conflicts: true,
      where: this.#isPlanned,
      room: this.#room,
      before: this.#before,
      toSend: (letter) => (this.#isSent(letter) ? undefined : this.#planned(letter)),
      onSent: this.#onSent,
      onMoved: this.#onMoved,
      onFailed: (_, error) => this.#stopBecause(`a message could not be moved (${messageOf(error)})`),
      signal: AbortSignal.any([signal, this.#stop.signal]),
    } satisfies RedriveOptions;
    await moveAll({ ...this.#options, moving, unfinished: () => this.#count('BEGAN', 'SENDING', 'SENT') });
    await this.#awaitOutcomes();
    const account = this.#account();
    journal.append([{ result: 'ENDED', reason: JSON.stringify(account) }]);
    return account;
  }

  readonly #isPlanned = (letter: DeadLetteredMessage): boolean => {
    const { messageId } = letter.message;
    const planned = this.#options.plan.letters.get(messageId);
    if (!planned || !isMoved(planned)) return false;
    if (planned.hash === letterHash(letter)) return true;
    this.#stopBecause(`message ${messageId} is not the one that was planned`);
    return false;
  };

  #isSent({ message }: DeadLetteredMessage): boolean {
    const { result } = this.#options.journal.states.get(message.messageId) ?? {};
    return result !== undefined && result !== 'SENDING';
  }

  #planned(letter: DeadLetteredMessage) {
    const { plan } = this.#options;
    const planned = plan.letters.get(letter.message.messageId) as PlannedLetter;
    return plannedMessage(letter, planned.action === 'repair' ? plan.entryOf(planned) : {}, plan.plan);
  }

  readonly #room = async (): Promise<number> => {
    await this.#look();
    const room = this.#ramp.room();
    if (room === 0) await sleep(POLL_MS);
    return this.#stop.signal.aborted ? 0 : room;
  };

  /** Writes down what is about to be sent, and whether the store has it already. */
  readonly #before = async (letters: readonly DeadLetteredMessage[]): Promise<void> => {
    const { plan, journal, store } = this.#options;
    const fresh = letters.filter((letter) => !this.#isSent(letter));
    const ids = fresh.map(({ message }) => message.messageId);
    const orders = ids.flatMap((id) => plan.letters.get(id)?.orders ?? []);
    const stored = await storedAmong(store, orders).catch((error) => {
      throw this.#stopBecause(`the store does not answer (${messageOf(error)})`);
    });
    journal.append(
      fresh.map((letter) => {
        const { messageId } = letter.message;
        const { wasStored = (plan.letters.get(messageId)?.orders ?? []).every(stored) } =
          journal.states.get(messageId) ?? {};
        const after = hash('sha256', this.#planned(letter).MessageBody);
        return { result: 'SENDING', messageId, before: letterHash(letter), after, wasStored };
      }),
    );
    this.#ramp.sent(fresh.length);
    this.#newsAt = performance.now();
  };

  readonly #onSent = ({ message: { messageId } }: DeadLetteredMessage, as: string): void => {
    const { plan, journal } = this.#options;
    journal.append([{ result: 'SENT', messageId, as }]);
    const { orders = [] } = plan.letters.get(messageId) ?? {};
    this.#pending.set(messageId, { messageId, as, orders, isOfThisRun: true });
  };

  readonly #onMoved = async (letter: DeadLetteredMessage): Promise<void> => {
    const { messageId } = letter.message;
    if (this.#pending.has(messageId)) this.#options.journal.append([{ result: 'MOVED', messageId }]);
    await this.#options.store.recordFates(redriveMarks(letter)).catch((error) => {
      this.#stopBecause(`the store does not answer (${messageOf(error)})`);
    });
  };

  /** Asks the store what became of what was sent, now and then. */
  async #look(): Promise<void> {
    if (performance.now() - this.#lookedAt < POLL_MS) return;
    this.#lookedAt = performance.now();
    const { store, waitMs } = this.#options;
    const pending = [...this.#pending.values()];
    try {
      for (let from = 0; from < pending.length; from += LOOK_UP_AT_ONCE) {
        const some = pending.slice(from, from + LOOK_UP_AT_ONCE);
        const stored = await storedAmong(
          store,
          some.flatMap(({ orders }) => orders),
        );
        for (const each of some) await this.#settleIfKnown(each, stored);
      }
    } catch (error) {
      // Of the journal: nothing goes on without it.
      if (error instanceof StartupError) throw error;
      this.#stopBecause(`the store does not answer (${messageOf(error)})`);
    }
    if (this.#pending.size > 0 && performance.now() - this.#newsAt > waitMs)
      this.#stopBecause(`nothing is heard of ${this.#pending.size} messages for ${waitMs / 1_000} s`);
  }

  async #settleIfKnown(pending: Pending, isStored: (order: PlannedLetter['orders'][number]) => boolean) {
    const { store, journal } = this.#options;
    const { messageId, as, orders } = pending;
    const unstored = orders.filter((order) => !isStored(order));
    if (unstored.length === 0) {
      const { wasStored } = journal.states.get(messageId) ?? {};
      this.#settle(pending, wasStored ? 'DUPLICATE' : 'STORED');
      return;
    }
    for (const { orderId } of unstored) {
      const fates = await store.findFates(orderId);
      const ours = fates.find((fate) => fate.kind === 'REJECTED' && fate.messageId === as);
      // A packed message is taken apart: what cannot be stored has an id of its own.
      const fate = ours ?? (orders.length > 1 ? currentFate(fates) : undefined);
      if (fate?.kind === 'REJECTED') return this.#settle(pending, 'REJECTED', fate.reason);
    }
  }

  #settle(
    { messageId, isOfThisRun }: Pending,
    result: 'STORED' | 'DUPLICATE' | 'REJECTED',
    reason?: string,
  ): void {
    const { journal, onProgress } = this.#options;
    journal.append([{ result, messageId, ...(reason === undefined ? {} : { reason }) }]);
    this.#pending.delete(messageId);
    this.#newsAt = performance.now();
    onProgress?.(++this.#settled);
    if (!isOfThisRun) return;
    this.#ramp.settled(result === 'REJECTED');
    if (this.#ramp.isFailing()) this.#stopBecause(`too many fail again, the last one with ${reason}`);
  }

  /** Until each has an outcome, or none comes any more. What the store was not told, the dead-letter queue may tell. */
  async #awaitOutcomes(): Promise<void> {
    const { deadLetterQueue, signal, waitMs } = this.#options;
    while (this.#pending.size > 0 && !signal.aborted && performance.now() - this.#newsAt < waitMs) {
      await sleep(POLL_MS);
      await this.#look();
    }
    if (this.#pending.size === 0 || signal.aborted) return;
    const sentAs = new Map([...this.#pending.values()].map((pending) => [pending.as, pending]));
    for await (const letters of deadLetterQueue.readAll())
      for (const { deadLetter } of letters) {
        const pending = deadLetter && sentAs.get(deadLetter.messageId);
        if (pending && this.#pending.has(pending.messageId))
          this.#settle(pending, 'REJECTED', deadLetter.reason);
      }
  }

  /** How far each message came that is to be moved. */
  #states(): JournalState[] {
    const { plan, journal } = this.#options;
    return [...plan.letters]
      .filter(([, planned]) => isMoved(planned))
      .map(([messageId]) => journal.states.get(messageId) ?? { result: 'BEGAN' });
  }

  #count(...wanted: JournalState['result'][]): number {
    return this.#states().filter(({ result }) => wanted.includes(result)).length;
  }

  #account(): Account {
    const states = this.#states();
    // Whoever can send to the queues can choose a reason.
    const rejected: Record<string, number> = Object.create(null);
    for (const { result, reason = '' } of states)
      if (result === 'REJECTED') rejected[reason] = (rejected[reason] ?? 0) + 1;
    const unsent = this.#count('BEGAN', 'SENDING');
    const isStopped = this.#stopped !== undefined || this.#options.signal.aborted;
    return {
      messages: states.length,
      stored: this.#count('STORED'),
      duplicate: this.#count('DUPLICATE'),
      rejected,
      onTheWay: this.#count('SENT', 'MOVED'),
      notSent: isStopped ? unsent : 0,
      missing: isStopped ? 0 : unsent,
      ...(this.#stopped === undefined ? {} : { stopped: this.#stopped }),
    };
  }

  /** The first reason counts. */
  #stopBecause(why: string): StoppedError {
    this.#stopped ??= why;
    this.#stop.abort();
    return new StoppedError(why);
  }
}

/** Is to be taken out of the dead-letter queue. */
export const isMoved = ({ action }: PlannedLetter) => action !== 'leave';

/** Says of an order of a plan whether it is stored. */
async function storedAmong(
  store: Pick<OrderRepository, 'findByIds'>,
  orders: PlannedLetter['orders'],
): Promise<(order: PlannedLetter['orders'][number]) => boolean> {
  const found = new Map<string, OrderIdentity>();
  for (let from = 0; from < orders.length; from += LOOK_UP_AT_ONCE) {
    const ids = orders.slice(from, from + LOOK_UP_AT_ONCE).map(({ orderId }) => orderId);
    for (const { order, contentHash, clientId } of await store.findByIds(ids))
      found.set(order.orderId, { contentHash, clientId });
  }
  return (order) => {
    const stored = found.get(order.orderId);
    // A message that this release cannot read may not name its content.
    return stored !== undefined && (order.contentHash === '' || isSameOrder(stored, order));
  };
}

/**
 * Passes over the dead-letter queue until nothing is unfinished, or all that is there was seen. What a process held that
 * was killed comes back after two minutes: that is waited for.
 */
export async function moveAll({
  deadLetterQueue,
  depth,
  moving,
  unfinished,
}: Pick<RunOptions, 'deadLetterQueue' | 'depth'> & {
  moving: RedriveOptions & { signal: AbortSignal };
  unfinished: () => number;
}): Promise<void> {
  const giveUpAt = performance.now() + HELD_BY_OTHERS_MS;
  while (unfinished() > 0 && !moving.signal.aborted) {
    await deadLetterQueue.redrive(moving).catch((error) => {
      // Whoever stopped it knows why.
      if (!(error instanceof RedriveIncompleteError || error instanceof StoppedError)) throw error;
    });
    const held = unfinished() > 0 ? (await depth()).inFlight : 0;
    if (held === 0) return;
    for (let inFlight = held; inFlight >= held; { inFlight } = await depth()) {
      if (performance.now() > giveUpAt || moving.signal.aborted) return;
      await sleep(1_000);
    }
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
