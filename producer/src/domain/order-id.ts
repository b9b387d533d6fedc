import { randomBytes } from '@orders/shared/runtime/random.ts';
import { v7 as uuidv7 } from 'uuid';
import { uuidOfHash } from './hash-uuid.ts';

/** Whose idempotency keys these are: two owners' keys never meet. */
export type KeyOwner = { kind: 'client' | 'customer'; id: string };

/**
 * The id that an idempotency key stands for: UUIDv8 (RFC 9562 §5.8) of the SHA-256 of owner and key. It is derived,
 * not stored, so any producer gives a client's retry the same id, and the consumer's unique constraint does the rest.
 */
export function orderIdOfKey(owner: KeyOwner, key: string): string {
  return uuidOfHash(JSON.stringify([owner.kind, owner.id, key]));
}

const clock = { msecs: 0, seq: 0 };

/** A new id that sorts by time (UUIDv7), also behind those of the same millisecond (RFC 9562 §6.2, method 1). */
export function newOrderId(): string {
  const random = randomBytes(16);
  const now = Date.now();
  if (now > clock.msecs) {
    clock.msecs = now;
    clock.seq = random.readUInt32BE(6) >>> 1; // room for as many again
  } else clock.seq++;
  return uuidv7({ random, ...clock });
}
