import { setImmediate } from 'node:timers/promises';
import {
  decodeOrderMessage,
  NewerVersionError,
  UnreadableMessageError,
} from '@orders/shared/order/message.ts';
import { traceIdOf } from '@orders/shared/runtime/trace-context.ts';
import {
  OrderConflictError,
  OrderLockedError,
  OrderNotStorableError,
  StoreUnavailableError,
} from './errors.ts';
import type { OrderRepository, OrderToStore, SaveResult } from './order-repository.ts';
import type { Outcome } from './outcome.ts';
import { swallowedError } from './save-results.ts';

/** What the use case needs of a message. */
export type IncomingMessage = {
  body: string;
  attributes: Readonly<Record<string, string>>;
  /** It came with others in one message of the queue. */
  packed?: boolean;
};

const TURN_MS = 50;
const MAX_LOCK_WAIT_MS = 10_000;

/** The outcome of one message, and what is known of the order in it. */
export type ProcessedMessage = { outcome: Outcome; traceId: string; orderId?: string };

/** One outcome a message, in order. Never rejects. */
export type ProcessMessages = (messages: readonly IncomingMessage[]) => Promise<ProcessedMessage[]>;

/**
 * The use case: reads the orders in the messages and stores them, all by one call of the store, and answers one
 * outcome a message, in order. It never rejects: whatever goes wrong is an outcome.
 */
export async function processMessages(
  repository: Pick<OrderRepository, 'saveAll'>,
  messages: readonly IncomingMessage[],
): Promise<ProcessedMessage[]> {
  const read = await readOrders(messages);
  const saved = await save(
    repository,
    read.flatMap((result) => ('outcome' in result ? [] : [result])),
  );
  const outcomes = saved.values();
  return read.map((result) => {
    if ('outcome' in result) return result;
    const outcome = outcomes.next().value as Outcome;
    return { outcome, traceId: result.traceId, orderId: result.order.orderId };
  });
}

/** Messages may be large and many: the event loop, which keeps leases and health, gets its turns. */
async function readOrders(
  messages: readonly IncomingMessage[],
): Promise<(OrderToStore | ProcessedMessage)[]> {
  const read: (OrderToStore | ProcessedMessage)[] = [];
  let turnEndsAt = performance.now() + TURN_MS;
  for (const message of messages) {
    read.push(readOrder(message));
    if (performance.now() < turnEndsAt) continue;
    await setImmediate();
    turnEndsAt = performance.now() + TURN_MS;
  }
  return read;
}

function readOrder({ body, attributes, packed = false }: IncomingMessage): OrderToStore | ProcessedMessage {
  try {
    const { order, contentHash, traceparent } = decodeOrderMessage(body, attributes, { packed });
    return { order, contentHash, traceId: traceIdOf(traceparent) };
  } catch (error) {
    if (error instanceof UnreadableMessageError) {
      const outcome = { kind: 'rejected' as const, reason: error.code, error };
      return { outcome, traceId: traceIdOf(error.traceparent) };
    }
    if (error instanceof NewerVersionError) {
      const outcome = { kind: 'released' as const, cause: 'newer-version' as const };
      return { outcome, traceId: traceIdOf(error.traceparent) };
    }
    return { outcome: { kind: 'retry', error: asError(error) }, traceId: traceIdOf(undefined) };
  }
}

/**
 * A batch that is refused is halved until the orders at fault stand alone, so that they cost the others nothing. Each
 * refusal of a held row takes a wait: there, each order is saved alone, so that each held row is waited for once more, and
 * orders that a trigger has lock other rows do not hold one for another. Of held rows there may be many: beyond a time,
 * what is left is released as it is.
 */
async function save(
  repository: Pick<OrderRepository, 'saveAll'>,
  orders: readonly OrderToStore[],
  waitUntil = performance.now() + MAX_LOCK_WAIT_MS,
): Promise<Outcome[]> {
  if (orders.length === 0) return [];
  try {
    return (await repository.saveAll(orders)).map(outcomeOfSave);
  } catch (error) {
    if (error instanceof StoreUnavailableError) {
      return orders.map(() => ({ kind: 'released', cause: 'store-unavailable' }));
    }
    const isLate = error instanceof OrderLockedError && performance.now() >= waitUntil;
    if (orders.length === 1 || isLate) return orders.map(() => outcomeOfRefusal(error));
    if (error instanceof OrderLockedError) return saveEach(repository, orders, waitUntil);
    const half = Math.ceil(orders.length / 2);
    return [
      ...(await save(repository, orders.slice(0, half), waitUntil)),
      ...(await save(repository, orders.slice(half), waitUntil)),
    ];
  }
}

async function saveEach(
  repository: Pick<OrderRepository, 'saveAll'>,
  orders: readonly OrderToStore[],
  waitUntil: number,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const [index, order] of orders.entries()) {
    if (performance.now() >= waitUntil)
      return [...outcomes, ...(await save(repository, orders.slice(index), waitUntil))];
    outcomes.push(...(await save(repository, [order], waitUntil)));
  }
  return outcomes;
}

/** What the store refuses for what it contains can never succeed; anything else may, as what a trigger refuses. */
function outcomeOfRefusal(error: unknown): Outcome {
  if (error instanceof OrderLockedError) return { kind: 'released', cause: 'order-locked' };
  if (error instanceof OrderNotStorableError) return { kind: 'rejected', reason: error.code, error };
  return { kind: 'retry', error: asError(error) };
}

function outcomeOfSave(result: SaveResult): Outcome {
  switch (result) {
    case 'stored':
      return { kind: 'processed' };
    case 'duplicate':
      return { kind: 'duplicate' };
    case 'conflict': {
      const error = new OrderConflictError('an order of this id with other content is stored already');
      return { kind: 'rejected', reason: error.code, error };
    }
    case 'swallowed':
      return { kind: 'retry', error: swallowedError() };
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error('not an error was thrown', { cause: error });
}
