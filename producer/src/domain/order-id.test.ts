import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type KeyOwner, newOrderId, orderIdOfKey } from './order-id.ts';

const owners: fc.Arbitrary<KeyOwner> = fc.record({
  kind: fc.constantFrom('client' as const, 'customer' as const),
  id: fc.string(),
});

describe('orderIdOfKey', () => {
  // A contract with clients' retries across releases: sha256('["customer","C-1001","key-1"]') with version and variant.
  it('orderIdOfKey, given a known owner and key, is the id it always was', () => {
    expect(orderIdOfKey({ kind: 'customer', id: 'C-1001' }, 'key-1')).toBe(
      'bbf5dd63-0e82-82a4-a5d6-a8cf901c1ed5',
    );
  });

  it('orderIdOfKey, given any owner and key, is a UUID of version 8, the same each time', () => {
    fc.assert(
      fc.property(owners, fc.string({ minLength: 1 }), (owner, key) => {
        const id = orderIdOfKey(owner, key);
        expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        expect(orderIdOfKey({ ...owner }, key)).toBe(id);
      }),
    );
  });

  it('orderIdOfKey, given two owners or two keys, never is the same', () => {
    fc.assert(
      fc.property(owners, fc.string(), owners, fc.string(), (owner, key, otherOwner, otherKey) => {
        const same = owner.kind === otherOwner.kind && owner.id === otherOwner.id && key === otherKey;
        fc.pre(!same);
        expect(orderIdOfKey(owner, key)).not.toBe(orderIdOfKey(otherOwner, otherKey));
      }),
    );
  });

  it.each<[KeyOwner, string, KeyOwner, string]>([
    [{ kind: 'client', id: 'a' }, 'k', { kind: 'customer', id: 'a' }, 'k'],
    [{ kind: 'customer', id: 'a' }, 'bc', { kind: 'customer', id: 'ab' }, 'c'],
    [{ kind: 'customer', id: 'a","b' }, 'c', { kind: 'customer', id: 'a' }, 'b","c'],
  ])(
    'orderIdOfKey, of %j with %j and %j with %j, which run together alike, differs',
    (owner, key, otherOwner, otherKey) => {
      expect(orderIdOfKey(owner, key)).not.toBe(orderIdOfKey(otherOwner, otherKey));
    },
  );
});

describe('newOrderId', () => {
  it('newOrderId, called often, gives UUIDs of version 7 that differ and sort by time', () => {
    const ids = Array.from({ length: 1_000 }, newOrderId);
    expect(new Set(ids).size).toBe(1_000);
    expect(ids.toSorted()).toEqual(ids);
    for (const id of ids)
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});
