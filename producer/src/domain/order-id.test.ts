import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type KeyOwner, newOrderId, orderIdOfKey } from './order-id.ts';

const owners: fc.Arbitrary<KeyOwner> = fc.record({
  customerId: fc.string(),
  clientId: fc.option(fc.string(), { nil: undefined }),
});

describe('orderIdOfKey', () => {
  // A contract with clients' retries across releases: sha256('["customer","C-1001","key-1"]') with version and variant.
  it('orderIdOfKey, given a known owner and key, is the id it always was', () => {
    expect(orderIdOfKey({ customerId: 'C-1001' }, 'key-1')).toBe('bbf5dd63-0e82-82a4-a5d6-a8cf901c1ed5');
    // sha256('["client","shop","C-1001","key-1"]')
    expect(orderIdOfKey({ customerId: 'C-1001', clientId: 'shop' }, 'key-1')).toBe(
      'de9b74af-0f75-86f9-a1ce-9c908d8f35eb',
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
        const same =
          owner.customerId === otherOwner.customerId &&
          owner.clientId === otherOwner.clientId &&
          key === otherKey;
        fc.pre(!same);
        expect(orderIdOfKey(owner, key)).not.toBe(orderIdOfKey(otherOwner, otherKey));
      }),
    );
  });

  it.each<[KeyOwner, string, KeyOwner, string]>([
    [{ customerId: 'a', clientId: 'a' }, 'k', { customerId: 'a' }, 'k'],
    [{ customerId: 'a' }, 'bc', { customerId: 'ab' }, 'c'],
    [{ customerId: 'a","b' }, 'c', { customerId: 'a' }, 'b","c'],
    [{ customerId: 'b', clientId: 'a' }, 'k', { customerId: 'a', clientId: 'b' }, 'k'],
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
