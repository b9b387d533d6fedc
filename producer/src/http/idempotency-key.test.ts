import { ProblemError } from '@orders/shared/http/problem.ts';
import { describe, expect, it } from 'vitest';
import { parseIdempotencyKey } from './idempotency-key.ts';

describe('parseIdempotencyKey', () => {
  it('parseIdempotencyKey, without the header, is no key', () => {
    expect(parseIdempotencyKey(undefined)).toBeUndefined();
  });

  it.each([
    ['bare', 'key-1', 'key-1'],
    ['quoted', '"key-1"', 'key-1'],
    ['of one character', '!', '!'],
    ['of all that is visible', '!#$~', '!#$~'],
    ['bare with a quote inside', 'a"b', 'a"b'],
    ['bare with a backslash', 'a\\b', 'a\\b'],
    ['quoted with an escaped quote', '"a\\"b"', 'a"b'],
    ['quoted with an escaped backslash', '"a\\\\b"', 'a\\b'],
    ['bare of 255 characters', 'k'.repeat(255), 'k'.repeat(255)],
    ['quoted of 255 characters', `"${'k'.repeat(255)}"`, 'k'.repeat(255)],
    ['quoted of 255 escaped ones', `"${'\\"'.repeat(255)}"`, '"'.repeat(255)],
  ])('parseIdempotencyKey, given a key that is %s, reads it', (_what, header, key) => {
    expect(parseIdempotencyKey(header)).toBe(key);
  });

  it.each<[string, string | string[]]>([
    ['empty', ''],
    ['quoted and empty', '""'],
    ['of 256 characters', 'k'.repeat(256)],
    ['quoted of 256 characters', `"${'k'.repeat(256)}"`],
    ['with a space', 'key 1'],
    ['quoted with a space', '"key 1"'],
    ['with a tab', 'key\t1'],
    ['not ASCII', 'schlüssel'],
    ['quoted and not ASCII', '"열쇠"'],
    ['with a control character', 'key\u0001'],
    ['with DEL', 'key\u007F'],
    ['not closed', '"key'],
    ['one lone quote', '"'],
    ['followed by something', '"key"x'],
    ['with a parameter', '"key";a=1'],
    ['with a quote that is not escaped', '"a"b"'],
    ['with an escape that is none', '"a\\b"'],
    ['ending in a backslash', '"a\\"'],
    ['given twice', 'key-1, key-2'],
    ['given twice and quoted', '"key-1", "key-1"'],
  ])('parseIdempotencyKey, given a key that is %s, is a 400', (_what, header) => {
    const parse = () => parseIdempotencyKey(header);
    expect(parse).toThrow(ProblemError);
    expect(parse).toThrow(
      expect.objectContaining({
        problem: expect.objectContaining({ status: 400, type: '/problems/idempotency-key-malformed' }),
      }),
    );
  });
});
