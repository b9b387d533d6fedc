import { randomBytes } from '@orders/shared/runtime/random.ts';
import { v7 as uuidv7 } from 'uuid';
import { uuidOfHash } from './hash-uuid.ts';

/** The owner of idempotency keys, a customer, or one of a client: the same key of two owners gives two ids. */
export type KeyOwner = { customerId: string; clientId?: string | undefined };

/**
 * The order id for an idempotency key: UUIDv8 (RFC 9562 §5.8) of the SHA-256 of owner and key. It is derived,
 * not stored, so every producer gives a client's retry the same id, and the consumer's unique constraint does the rest.
 */
export function orderIdOfKey({ customerId, clientId }: KeyOwner, key: string): string {
  return uuidOfHash(
    JSON.stringify(
      clientId === undefined ? ['customer', customerId, key] : ['client', clientId, customerId, key],
    ),
  );
}

const clock = { msecs: 0, seq: 0 };

/** A new id that sorts by time (UUIDv7), also within a millisecond (RFC 9562 §6.2, method 1). */
export function newOrderId(): string {
  const random = randomBytes(16);
  const now = Date.now();
  if (now > clock.msecs) {
    clock.msecs = now;
    clock.seq = random.readUInt32BE(6) >>> 1; // room for as many again
  } else clock.seq++;
  return uuidv7({ random, ...clock });
}
