export type LocalKey = { readonly id: string; readonly key: Buffer };

const KEY_ID = /^[\w.-]{1,64}$/;
const KEY = /^[A-Za-z0-9+/]{43}=$/;

/**
 * The keys of `MESSAGE_ENCRYPTION=local`, one per line: its id, and 256 random bits in base64 (`openssl rand -base64 32`).
 * The first encrypts, all decrypt. A new key comes as the last line first, until every consumer has it.
 * @throws an error that names the first wrong line, and nothing of what it holds
 */
export function parseKeyFile(text: string): readonly LocalKey[] {
  const keys: LocalKey[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const wrong = (problem: string) => new Error(`line ${index + 1}: ${problem}`);
    const [id = '', key = '', ...rest] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (id === '') continue;
    if (!KEY_ID.test(id)) throw wrong('the id of the key is not 1 to 64 letters, digits, dots or hyphens');
    if (keys.some((other) => other.id === id))
      throw wrong('the id of the key stands on an earlier line already');
    if (!KEY.test(key) || rest.length > 0) throw wrong('the key is not 32 bytes in base64');
    keys.push({ id, key: Buffer.from(key, 'base64') });
  }
  if (keys.length === 0) throw new Error('it holds no key');
  return keys;
}
