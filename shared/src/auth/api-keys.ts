import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { CLIENT_ID, type Client, isScope, type Scope } from './client.ts';

const DIGEST = /^[0-9a-f]{64}$/;
/** So that a client can be given its next key before its last one goes. */
const MAX_KEYS_PER_CLIENT = 2;
/** Longer than any key of ours; what is longer is not even hashed. */
const MAX_KEY_LENGTH = 200;

type Entry = { readonly digest: Buffer; readonly client: Client };

/**
 * Clients by the keys that they send. Only the SHA-256 of a key is stored: keys are random, 256 bits long, so that no
 * slower hash is needed. The file has one line per client:
 *
 * ```
 * # client   scopes                          SHA-256 of its keys, one or two
 * web-shop   orders:write,orders:read        9f86d0…  60303a…
 * ```
 */
export class ApiKeys {
  readonly #entries: ReadonlyMap<string, Entry>;

  private constructor(entries: ReadonlyMap<string, Entry>) {
    this.#entries = entries;
  }

  /** @throws an error that names the first wrong line, and nothing of what it holds */
  static parse(text: string): ApiKeys {
    const entries = new Map<string, Entry>();
    const ids = new Set<string>();
    for (const [index, line] of text.split('\n').entries()) {
      const wrong = (problem: string) => new Error(`line ${index + 1}: ${problem}`);
      const [id = '', scopeList = '', ...digests] = line.replace(/#.*/, '').trim().split(/\s+/);
      if (id === '') continue;
      if (!CLIENT_ID.test(id)) throw wrong('the client is not a name of letters, digits and . _ - @ : |');
      if (ids.has(id)) throw wrong('the client stands on an earlier line already');
      ids.add(id);
      const scopes = scopeList.split(',');
      if (!scopes.every(isScope)) throw wrong('a scope is unknown');
      const client = { id, scopes: new Set<Scope>(scopes.filter(isScope)) };
      if (digests.length < 1 || digests.length > MAX_KEYS_PER_CLIENT)
        throw wrong(`a client has 1 to ${MAX_KEYS_PER_CLIENT} keys`);
      for (const digest of digests) {
        if (!DIGEST.test(digest)) throw wrong('a key is not given as its SHA-256, 64 hexadecimal digits');
        if (entries.has(digest)) throw wrong('a key stands there twice');
        entries.set(digest, { digest: Buffer.from(digest, 'hex'), client });
      }
    }
    if (entries.size === 0) throw new Error('it holds no client');
    return new ApiKeys(entries);
  }

  get clients(): number {
    return new Set([...this.#entries.values()].map(({ client }) => client)).size;
  }

  /**
   * Whose key that is. Time tells nothing of the keys that exist: what is looked up is a hash, which a sender cannot
   * steer towards another, and the comparison is in constant time.
   */
  find(key: string): Client | undefined {
    if (key.length > MAX_KEY_LENGTH) return undefined;
    const digest = hash('sha256', key, 'buffer');
    const entry = this.#entries.get(digest.toString('hex'));
    return entry && timingSafeEqual(entry.digest, digest) ? entry.client : undefined;
  }
}

/** A new key, and what goes into the file. Its prefix lets scanners of secrets find one that was published. */
export function createApiKey(): { key: string; digest: string } {
  const key = `order_${randomBytes(32).toString('base64url')}`;
  return { key, digest: hash('sha256', key) };
}
