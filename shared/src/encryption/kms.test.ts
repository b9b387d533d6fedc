import { randomBytes } from 'node:crypto';
import { expect, it, onTestFinished } from 'vitest';
import { aCipher } from '../../testing/cipher.ts';
import { FakeKms } from '../../testing/fake-kms.ts';
import type { CipherOptions } from './message-cipher.ts';

const ORDER = Buffer.from('{"name":"홍길동"}');

async function subject(env: Record<string, string> = {}, options: Partial<CipherOptions> = {}) {
  const kms = await FakeKms.start();
  const open = async (more: Record<string, string> = {}) => {
    const cipher = await aCipher({ ...kms.env, ...env, ...more }, options);
    onTestFinished(() => cipher.close());
    return cipher;
  };
  onTestFinished(() => kms[Symbol.dispose]());
  return { kms, open };
}

it('a data key serves many messages, and is decrypted once; its context names environment and schema alone', async () => {
  const { kms, open } = await subject();
  const [producer, consumer] = [await open(), await open()];
  for (let n = 0; n < 20; n++) expect(await consumer.decrypt(await producer.encrypt(ORDER))).toEqual(ORDER);
  expect(kms.calls.map(({ operation }) => operation)).toEqual(['GenerateDataKey', 'Decrypt']);
  for (const { EncryptionContext } of kms.calls)
    expect(EncryptionContext).toEqual({ environment: 'dev', schema: '3' });
});

it.each([
  'ThrottlingException',
  'AccessDeniedException',
  'DisabledException',
  'KMSInvalidStateException',
  'NotFoundException',
  'KMSInternalException',
])('KMS that answers %s: an outage, of encrypt and decrypt, and over when it is over', async (failure) => {
  const { kms, open } = await subject();
  const [producer, consumer] = [await open(), await open()];
  kms.answer = () => failure;
  await expect(producer.encrypt(ORDER)).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
  kms.answer = () => undefined;
  const ciphertext = await producer.encrypt(ORDER);
  kms.answer = () => failure;
  await expect(consumer.decrypt(ciphertext)).rejects.toMatchObject({
    code: 'KEY_UNAVAILABLE',
    message: expect.stringContaining(failure),
  });
  kms.answer = () => undefined;
  expect(await consumer.decrypt(ciphertext)).toEqual(ORDER);
});

it('KMS that does not answer, or is not there: an outage', async () => {
  const { kms, open } = await subject();
  const cipher = await open();
  kms.answer = () => 'hang';
  await expect(cipher.encrypt(ORDER)).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
  kms[Symbol.dispose]();
  await expect(cipher.encrypt(ORDER)).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
});

// ValidationException: a data key longer than KMS takes, for instance. An outage would let one message stop everything.
it.each(['InvalidCiphertextException', 'IncorrectKeyException', 'ValidationException'])(
  'KMS that answers %s of a data key: nobody can ever decrypt it',
  async (failure) => {
    const { kms, open } = await subject();
    const [producer, consumer] = [await open(), await open()];
    const ciphertext = await producer.encrypt(ORDER);
    kms.answer = () => failure;
    await expect(consumer.decrypt(ciphertext)).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
  },
);

it('a message of a key that is not listed: NO_KEY; of one that is declared lost: UNDECRYPTABLE; KMS is not asked', async () => {
  const { kms, open } = await subject();
  const ciphertext = await (await open()).encrypt(ORDER);
  kms.calls.length = 0;
  const other = { MESSAGE_ENCRYPTION_KMS_KEYS: `${kms.env.MESSAGE_ENCRYPTION_KMS_KEYS}2` };
  await expect((await open(other)).decrypt(ciphertext)).rejects.toMatchObject({ code: 'NO_KEY' });
  const lost = { MESSAGE_ENCRYPTION_LOST_KEYS: kms.env.MESSAGE_ENCRYPTION_KMS_KEYS };
  await expect((await open(lost)).decrypt(ciphertext)).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
  await expect((await open()).decrypt(randomBytes(1_000))).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
  expect(kms.calls).toEqual([]);
});

it('a new first key: what the one before encrypted stays readable', async () => {
  const { kms, open } = await subject();
  const before = await (await open()).encrypt(ORDER);
  const first = kms.env.MESSAGE_ENCRYPTION_KMS_KEYS;
  const rotated = await open({ MESSAGE_ENCRYPTION_KMS_KEYS: `${first}2,${first}` });
  await rotated.encrypt(ORDER);
  expect(kms.calls.at(-1)?.KeyId).toBe(`${first}2`);
  expect(await rotated.decrypt(before)).toEqual(ORDER);
});
