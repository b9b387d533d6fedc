import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { uuidOfHash } from './hash-uuid.ts';

describe('uuidOfHash', () => {
  // A contract: ids derived yesterday must be derived again tomorrow.
  it('uuidOfHash, given a known text, is the id it always was', () => {
    expect(uuidOfHash('order')).toBe('3eeb7e96-e59c-840f-9cb1-a089daba079f');
  });

  it('uuidOfHash, given any text, has version 8 and the variant of RFC 9562', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(uuidOfHash(text)).toMatch(
          /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
        );
      }),
    );
  });
});
