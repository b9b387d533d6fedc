import { setImmediate } from 'node:timers/promises';
import {
  decodeOrderMessage,
  NewerVersionError,
  UnreadableMessageError,
} from '@orders/shared/order/message.ts';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import { traceIdOf } from '@orders/shared/runtime/trace-context.ts';
import { asError, type Outcome, STORE_UNAVAILABLE } from '../domain/outcome.ts';
import type { OrderInWork } from '../domain/store-orders.ts';
import type { ReceivedMessage } from '../queue/received-message.ts';
import type { Lease } from './lease.ts';

/** An order with the body that it came in: of its message, or a line of a packed one. */
export type ReadOrder = OrderInWork & { body: string };

/** What cannot be read as an order has its outcome at once. */
type UnreadableOrder = { body: string; order?: undefined; traceId: string; outcome: Outcome };

export type ReceivedOrder = ReadOrder | UnreadableOrder;

/** A received message in work, and what was in it: one order, or those of a packed message. */
export type MessageInWork = { lease: Lease; orders: readonly ReceivedOrder[] };

export type ReadMessages = (leases: readonly Lease[]) => Promise<MessageInWork[]>;

/** How long decoding may keep the event loop, which also extends leases and answers probes. */
const TURN_MS = 50;

/** Unpacks and decodes messages. Never rejects: what cannot be read is an outcome. */
export const readMessages: ReadMessages = async (leases) => {
  const read: MessageInWork[] = [];
  let turnEndsAt = performance.now() + TURN_MS;
  for (const lease of leases) {
    const { message } = lease;
    const orders: ReceivedOrder[] = [];
    for (const body of unpackMessages(message.body)) {
      orders.push(readOrder(body, message));
      if (performance.now() < turnEndsAt) continue;
      await setImmediate();
      turnEndsAt = performance.now() + TURN_MS;
    }
    read.push({ lease, orders });
  }
  return read;
};

function readOrder(body: string, message: ReceivedMessage): ReceivedOrder {
  const packed = body !== message.body;
  try {
    // The attributes of a packed message say nothing about its lines.
    const decoded = decodeOrderMessage(body, packed ? {} : message.attributes, { packed });
    const { order, contentHash, traceparent, clientId } = decoded;
    return {
      body,
      order,
      contentHash,
      traceId: traceIdOf(traceparent),
      clientId,
      outcome: STORE_UNAVAILABLE,
    };
  } catch (error) {
    const { traceparent } = Object(error) as { traceparent?: string };
    return { body, traceId: traceIdOf(traceparent), outcome: outcomeOf(error) };
  }
}

function outcomeOf(error: unknown): Outcome {
  if (error instanceof UnreadableMessageError) return { kind: 'rejected', reason: error.code, error };
  if (error instanceof NewerVersionError) return { kind: 'released', cause: 'newer-version' };
  return { kind: 'retry', error: asError(error) };
}
