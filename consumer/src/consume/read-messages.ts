import { setImmediate } from 'node:timers/promises';
import { KeyUnavailableError, NoKeyError, UndecryptableError } from '@orders/shared/encryption/errors.ts';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { decryptMessages, readableOf } from '@orders/shared/order/encrypted-message.ts';
import {
  type ClaimedOrder,
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
type UnreadableOrder = {
  body: string;
  order?: undefined;
  traceId: string;
  claimed?: ClaimedOrder | undefined;
  outcome: Outcome;
};

export type ReceivedOrder = ReadOrder | UnreadableOrder;

/** A received message in work, and what was in it: one order, or those of a packed message. */
export type MessageInWork = { lease: Lease; orders: readonly ReceivedOrder[] };

export type ReadMessages = (leases: readonly Lease[]) => Promise<MessageInWork[]>;

/** How long decoding may keep the event loop, which also extends leases and answers probes. */
const TURN_MS = 50;

export type Decryption = {
  cipher: MessageCipher;
  /** What is not encrypted is rejected. */
  required: boolean;
};

/** Unpacks and decodes messages. Never rejects: what cannot be read is an outcome. */
export const readMessages: ReadMessages = (leases) => readAll(leases);

/** The same, of messages that may be encrypted. */
export const readWith =
  (decryption: Decryption): ReadMessages =>
  (leases) =>
    readAll(leases, decryption);

async function readAll(leases: readonly Lease[], decryption?: Decryption): Promise<MessageInWork[]> {
  const read: MessageInWork[] = [];
  let turnEndsAt = performance.now() + TURN_MS;
  for (const lease of leases) {
    const { message } = lease;
    const decrypted = decryption && (await decrypt(message.body, decryption.cipher));
    if (decrypted && 'outcome' in decrypted) {
      read.push({ lease, orders: [decrypted] });
      continue;
    }
    const orders: ReceivedOrder[] = [];
    const bodies = decrypted ?? unpackMessages(message.body);
    const packed = bodies.length > 1 || (!decrypted && bodies[0] !== message.body);
    const place = { inside: packed || decrypted !== undefined, packed };
    for (const body of bodies) {
      orders.push(readOrder(body, message, place));
      if (performance.now() < turnEndsAt) continue;
      await setImmediate();
      turnEndsAt = performance.now() + TURN_MS;
    }
    const unencrypted = decryption?.required && !decrypted && orders.find(({ order }) => order);
    read.push({ lease, orders: unencrypted ? [unencryptedMessage(message, unencrypted)] : orders });
  }
  return read;
}

/** The bodies in an encrypted message, or why it has none; undefined for any other message. */
async function decrypt(body: string, cipher: MessageCipher): Promise<string[] | UnreadableOrder | undefined> {
  try {
    return await decryptMessages(body, cipher);
  } catch (error) {
    return { body, traceId: traceIdOf(readableOf(body)?.traceparent), outcome: outcomeOf(error) };
  }
}

function unencryptedMessage({ body }: ReceivedMessage, { traceId }: ReceivedOrder): UnreadableOrder {
  const error = new Error('not encrypted, and MESSAGE_ENCRYPTION_REQUIRED is on');
  return { body, traceId, outcome: { kind: 'rejected', reason: 'UNENCRYPTED', error } };
}

function readOrder(
  body: string,
  message: ReceivedMessage,
  { inside, packed }: { inside: boolean; packed: boolean },
): ReceivedOrder {
  try {
    // The attributes of a message say nothing about what is inside it.
    const decoded = decodeOrderMessage(body, inside ? {} : message.attributes, { packed });
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
    const { traceparent, claimed } = Object(error) as { traceparent?: string; claimed?: ClaimedOrder };
    return { body, traceId: traceIdOf(traceparent), claimed, outcome: outcomeOf(error) };
  }
}

function outcomeOf(error: unknown): Outcome {
  if (error instanceof UnreadableMessageError || error instanceof UndecryptableError)
    return { kind: 'rejected', reason: error.code, error };
  if (error instanceof NewerVersionError) return { kind: 'released', cause: 'newer-version' };
  if (error instanceof NoKeyError) return { kind: 'released', cause: 'no-key' };
  if (error instanceof KeyUnavailableError) return { kind: 'released', cause: 'key-unavailable' };
  return { kind: 'retry', error: asError(error) };
}
