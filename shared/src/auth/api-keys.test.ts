import { describe, expect, it } from 'vitest';
import { ApiKeys, createApiKey } from './api-keys.ts';

const [one, next, other] = [createApiKey(), createApiKey(), createApiKey()];
const file = (...lines: string[]) => lines.join('\n');

describe('ApiKeys', () => {
  it('finds the client of each of its keys, with its scopes', () => {
    const keys = ApiKeys.parse(
      file(
        '# our clients',
        '',
        `web-shop  orders:write,orders:read  ${one.digest} ${next.digest} # from spring on`,
        `auditor orders:read:all ${other.digest}`,
      ),
    );
    expect(keys.find(one.key)).toEqual({ id: 'web-shop', scopes: new Set(['orders:write', 'orders:read']) });
    expect(keys.find(next.key)?.id).toBe('web-shop');
    expect(keys.find(other.key)?.id).toBe('auditor');
    expect(keys.clients).toBe(2);
  });

  it('finds nobody by a key that it does not have', () => {
    const keys = ApiKeys.parse(`web-shop orders:write ${one.digest}`);
    for (const wrong of [
      '',
      other.key,
      one.digest,
      one.key.slice(0, -1),
      `${one.key} `,
      'x'.repeat(1_000_000),
    ])
      expect(keys.find(wrong)).toBeUndefined();
  });

  const digest = one.digest;
  it.each([
    ['', 'it holds no client'],
    ['# nothing but a comment', 'it holds no client'],
    [`web-shop orders:write`, 'line 1: a client has 1 to 2 keys'],
    [`web-shop orders:write ${digest} ${next.digest} ${other.digest}`, 'line 1: a client has 1 to 2 keys'],
    [`web-shop orders:wirte ${digest}`, 'line 1: a scope is unknown'],
    [`web-shop ${digest}`, 'line 1: a scope is unknown'],
    [`web-shop orders:write ${one.key}`, 'line 1: a key is not given as its SHA-256, 64 hexadecimal digits'],
    [`a orders:write ${digest}\nb orders:write ${digest}`, 'line 2: a key stands there twice'],
    [
      `a orders:write ${digest}\na orders:read ${next.digest}`,
      'line 2: the client stands on an earlier line already',
    ],
    [`-a orders:write ${digest}`, 'line 1: the client is not a name of letters, digits and . _ - @ : |'],
  ])('refuses the file %j and says where it is wrong, not what is there', (text, message) => {
    expect(() => ApiKeys.parse(text)).toThrow(new Error(message));
  });
});

describe('createApiKey', () => {
  it('makes keys of 256 random bits, which no two calls share', () => {
    const keys = new Set(Array.from({ length: 100 }, () => createApiKey().key));
    expect(keys.size).toBe(100);
    for (const key of keys) expect(key).toMatch(/^order_[\w-]{43}$/);
  });
});
