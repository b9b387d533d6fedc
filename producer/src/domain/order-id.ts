import { createHash } from 'node:crypto';
import { stringify, v7 as uuidv7 } from 'uuid';

/** Whose idempotency keys these are: two owners' keys never meet. */
export type KeyOwner = { kind: 'client' | 'customer'; id: string };

/**
 * The id that an idempotency key stands for: UUIDv8 (RFC 9562 §5.8) of the SHA-256 of owner and key. It is derived,
 * not stored, so any producer gives a client's retry the same id, and the consumer's unique constraint does the rest.
 */
export function orderIdOfKey(owner: KeyOwner, key: string): string {
  const hash = createHash('sha256').update(JSON.stringify([owner.kind, owner.id, key])).digest();
  const bytes = hash.subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return stringify(bytes);
}

/** A new id that sorts by time (UUIDv7). */
export function newOrderId(): string {
  return uuidv7();
}
