import { randomBytes } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import { z } from 'zod';
import { eventually } from '../../../test/support/eventually.ts';
import { aKeyFile, keyLine, aCipher as openCipher } from '../../testing/cipher.ts';
import { KMS_KEY } from '../../testing/fake-kms.ts';
import { commonFields, loadConfig, withRules } from '../runtime/config.ts';
import { type CipherOptions, hasCipher } from './message-cipher.ts';

const schema = withRules(z.object(commonFields), []);
const ORDER = Buffer.from('{"name":"홍길동"}');

function keyFile(text: string) {
  const keys = aKeyFile(text);
  onTestFinished(() => keys[Symbol.dispose]());
  return keys;
}

async function aCipher(env: Record<string, string>, options: Partial<CipherOptions> = {}) {
  const cipher = await openCipher(env, options);
  onTestFinished(() => cipher.close());
  return cipher;
}

describe('openMessageCipher, local', () => {
  it('decrypt returns what encrypt took, which names neither content nor key in the clear', async () => {
    const text = keyLine('k1');
    const cipher = await aCipher(keyFile(text).env);
    const ciphertext = await cipher.encrypt(ORDER);
    expect(await cipher.decrypt(ciphertext)).toEqual(ORDER);
    expect(ciphertext.includes('홍길동')).toBe(false);
    expect(ciphertext.includes(Buffer.from(text.split(' ')[1] ?? '', 'base64'))).toBe(false);
  });

  it('decrypt, of a message cut anywhere, with a flipped bit anywhere, or of rubbish, throws UNDECRYPTABLE', async () => {
    const cipher = await aCipher(keyFile(keyLine('k1')).env);
    const ciphertext = await cipher.encrypt(ORDER);
    const bad: Buffer[] = [Buffer.alloc(0), randomBytes(300), randomBytes(1_048_576)];
    for (let at = 0; at < ciphertext.length; at++) {
      const flipped = Buffer.from(ciphertext);
      flipped.writeUInt8(flipped.readUInt8(at) ^ 1, at);
      bad.push(flipped, ciphertext.subarray(0, at));
    }
    const results = await Promise.allSettled(bad.map((each) => cipher.decrypt(each)));
    const codes = new Map<string, number>();
    for (const result of results) {
      const code = result.status === 'fulfilled' ? 'decrypted' : result.reason.code;
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    // A flipped bit in the name of the key makes it another key's.
    expect([...codes.keys()].toSorted()).toEqual(['NO_KEY', 'UNDECRYPTABLE']);
    expect(codes.get('NO_KEY')).toBeLessThan(30);
  });

  it('decrypt, of a message of another environment, throws UNDECRYPTABLE', async () => {
    const { env } = keyFile(keyLine('k1'));
    const staging = await aCipher({ ...env, APP_ENV: 'staging' });
    const dev = await aCipher(env);
    await expect(dev.decrypt(await staging.encrypt(ORDER))).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
  });

  it('decrypt, of the right key with any other context, or in a suite that does not commit to its key, throws UNDECRYPTABLE', async () => {
    const sdk = await import('@aws-crypto/client-node');
    const text = keyLine('k1');
    const keyring = new sdk.RawAesKeyringNode({
      keyNamespace: 'order-pipeline',
      keyName: 'k1',
      unencryptedMasterKey: Uint8Array.from(Buffer.from(text.split(' ')[1] ?? '', 'base64')),
      wrappingSuite: sdk.RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
    });
    const { encrypt } = sdk.buildClient(sdk.CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT);
    const committing = sdk.buildClient(sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
    const suiteId = sdk.AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY;
    const encryptIn = async (encryptionContext: Record<string, string>) =>
      (await committing.encrypt(keyring, ORDER, { suiteId, encryptionContext })).result;
    const context = { environment: 'dev', schema: '3' };
    const cipher = await aCipher(keyFile(text).env);
    expect(await cipher.decrypt(await encryptIn(context))).toEqual(ORDER);
    const bad = [
      ...[{}, { environment: 'dev' }, { ...context, schema: '4' }, { ...context, more: '1' }].map(encryptIn),
      encrypt(keyring, ORDER, {
        suiteId: sdk.AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA256,
        encryptionContext: context,
      }).then(({ result }) => result),
    ];
    for (const ciphertext of await Promise.all(bad))
      await expect(cipher.decrypt(ciphertext)).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
  });

  it('decrypt, of a key that is not in the file, throws NO_KEY; of other bytes by its id, or a lost key, UNDECRYPTABLE', async () => {
    const ciphertext = await (await aCipher(keyFile(keyLine('k1')).env)).encrypt(ORDER);
    const decryptWith = async (id: string, lost = '', bytes?: string) =>
      (
        await aCipher({
          ...keyFile(bytes ? `${id} ${bytes}` : keyLine(id)).env,
          MESSAGE_ENCRYPTION_LOST_KEYS: lost,
        })
      ).decrypt(ciphertext);
    await expect(decryptWith('k')).rejects.toMatchObject({ code: 'NO_KEY' });
    await expect(decryptWith('k1', '', randomBytes(32).toString('base64'))).rejects.toMatchObject({
      code: 'UNDECRYPTABLE',
    });
    await expect(decryptWith('k2', 'k1')).rejects.toMatchObject({
      code: 'UNDECRYPTABLE',
      message: 'key k1 is declared lost',
    });
  });

  it('decrypt, of more than it may, throws UNDECRYPTABLE', async () => {
    const { env } = keyFile(keyLine('k1'));
    const ciphertext = await (await aCipher(env)).encrypt(Buffer.alloc(2_000));
    const small = await aCipher(env, { maxBytes: 1_000 });
    await expect(small.decrypt(ciphertext)).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
  });

  it('a key file that changes: the new first key encrypts, and messages of the one before stay readable', async () => {
    const [old, next] = [keyLine('old'), keyLine('next')];
    const keys = keyFile(old);
    const cipher = await aCipher(keys.env);
    const before = await cipher.encrypt(ORDER);
    keys.write(next + old);
    await eventually(() =>
      expect(cipher.lines).toContainEqual(expect.objectContaining({ message: 'secret read again' })),
    );
    const after = await cipher.encrypt(ORDER);
    expect(await cipher.decrypt(before)).toEqual(ORDER);
    const onlyNext = await aCipher(keyFile(next).env);
    expect(await onlyNext.decrypt(after)).toEqual(ORDER);
    await expect(onlyNext.decrypt(before)).rejects.toMatchObject({ code: 'NO_KEY' });
  });

  it.each([
    ['is empty', '', 'it holds no key'],
    ['has a key too short', 'k1 c2hvcnQ=', 'line 1: the key is not 32 bytes in base64'],
    [
      'has an id twice',
      keyLine('k1') + keyLine('k1'),
      'line 2: the id of the key stands on an earlier line already',
    ],
    [
      'has NUL in an id',
      keyLine('k\0'),
      'line 1: the id of the key is not 1 to 64 letters, digits, dots or hyphens',
    ],
  ])('a key file that %s: is refused at start, and later changes nothing', async (_, text, problem) => {
    const bad = keyFile(text);
    await expect(aCipher(bad.env)).rejects.toThrow(`MESSAGE_ENCRYPTION_KEY_FILE: ${bad.file}: ${problem}`);
    const keys = keyFile(keyLine('k1'));
    let errors = 0;
    const cipher = await aCipher(keys.env, { keyFile: { errors: { inc: () => errors++ } } });
    const ciphertext = await cipher.encrypt(ORDER);
    keys.write(text);
    await eventually(() => expect(errors).toBe(1));
    expect(await cipher.decrypt(ciphertext)).toEqual(ORDER);
    expect(JSON.stringify(cipher.lines)).toContain(problem);
  });
});

describe('openMessageCipher, guarded', () => {
  it('encrypt, of many at once, asks for one data key; of a failure all hear', async () => {
    let asked = 0;
    let fails = true;
    const cipher = await aCipher(keyFile(keyLine('k1')).env, {
      guard: (call) => {
        asked++;
        return fails ? Promise.reject(new Error('away')) : call();
      },
    });
    const many = () => Promise.allSettled(Array.from({ length: 100 }, () => cipher.encrypt(ORDER)));
    expect(new Set((await many()).map(({ status }) => status))).toEqual(new Set(['rejected']));
    expect(asked).toBe(1);
    fails = false;
    expect(new Set((await many()).map(({ status }) => status))).toEqual(new Set(['fulfilled']));
    expect(asked).toBe(2);
  });
});

describe('configuration', () => {
  it('names what MESSAGE_ENCRYPTION needs, and refuses an alias', () => {
    expect(() => loadConfig(schema, { MESSAGE_ENCRYPTION: 'local' })).toThrow(
      'MESSAGE_ENCRYPTION_KEY_FILE: is needed for MESSAGE_ENCRYPTION=local',
    );
    expect(() => loadConfig(schema, { MESSAGE_ENCRYPTION: 'kms' })).toThrow(
      'MESSAGE_ENCRYPTION_KMS_KEYS: is needed for MESSAGE_ENCRYPTION=kms',
    );
    expect(() => loadConfig(schema, { MESSAGE_ENCRYPTION_KMS_KEYS: 'alias/orders' })).toThrow(
      'must be ARNs of keys',
    );
    const own = { EXPECTED_AWS_ACCOUNT: '000000000000', MESSAGE_ENCRYPTION_KMS_KEYS: KMS_KEY };
    expect(loadConfig(schema, own).MESSAGE_ENCRYPTION_KMS_KEYS).toEqual([KMS_KEY]);
    const others = `${KMS_KEY}, arn:aws:kms:ap-northeast-2:111122223333:key/2`;
    expect(() => loadConfig(schema, { ...own, MESSAGE_ENCRYPTION_KMS_KEYS: others })).toThrow(
      'MESSAGE_ENCRYPTION_KMS_KEYS: must be keys of account 000000000000 (EXPECTED_AWS_ACCOUNT), not arn:aws:kms:ap-northeast-2:111122223333:key/2',
    );
    expect(() => loadConfig(schema, { EXPECTED_AWS_ACCOUNT: '1234' })).toThrow(
      'EXPECTED_AWS_ACCOUNT: must be 12 digits',
    );
    expect(hasCipher(loadConfig(schema, {}))).toBe(false);
    expect(hasCipher(loadConfig(schema, { MESSAGE_ENCRYPTION_KEY_FILE: 'keys' }))).toBe(true);
  });
});
