import { randomUUID } from 'node:crypto';
import { KMS } from '@aws-crypto/client-node';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { emulatorCredentials } from '@orders/shared/runtime/config.ts';
import { aCipher } from '@orders/shared/testing/cipher.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { expect, onTestFinished, test, vi } from 'vitest';
import { BACKENDS, STORES } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { allStored } from '../support/load.ts';
import { describeOn } from '../support/on-backend.ts';
import { post, startPair } from '../support/pair.ts';
import { findQueues } from '../support/queues.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 });

const ORDER = Buffer.from('{"name":"홍길동"}');

await describeOn(BACKENDS.localStack4, STORES.sqlite, (running) => {
  const endpoint = () => String(running().backend.env['AWS_ENDPOINT_URL']);
  const kms = () => {
    const client = new KMS({
      endpoint: endpoint(),
      region: 'ap-northeast-2',
      credentials: emulatorCredentials,
    });
    onTestFinished(() => client.destroy());
    return client;
  };
  const createKey = async (client: KMS) => String((await client.createKey({})).KeyMetadata?.Arn);
  const cipherOf = async (keys: string, env: Record<string, string> = {}): Promise<MessageCipher> => {
    const cipher = await aCipher({
      MESSAGE_ENCRYPTION: 'kms',
      MESSAGE_ENCRYPTION_KMS_KEYS: keys,
      AWS_ENDPOINT_URL_KMS: endpoint(),
      ...env,
    });
    onTestFinished(() => cipher.close());
    return cipher;
  };

  test('a message of KMS is decrypted by another process; of another context, or another data key, it never is', async () => {
    const key = await createKey(kms());
    const ciphertext = await (await cipherOf(key)).encrypt(ORDER);
    expect(await (await cipherOf(key)).decrypt(ciphertext)).toEqual(ORDER);
    const elsewhere = await cipherOf(key, { APP_ENV: 'staging', ALLOW_PLAINTEXT: 'sqs' });
    await expect(elsewhere.decrypt(ciphertext)).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
    // In the encrypted data key, which follows the ARN of its key.
    const damaged = Buffer.from(ciphertext);
    const at = ciphertext.indexOf(key) + key.length + 60;
    damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
    await expect((await cipherOf(key)).decrypt(damaged)).rejects.toMatchObject({ code: 'UNDECRYPTABLE' });
  });

  test('a key that is disabled is an outage until it is enabled; one that is replaced stays readable', async () => {
    const client = kms();
    const [first, second] = [await createKey(client), await createKey(client)];
    const ciphertext = await (await cipherOf(first)).encrypt(ORDER);
    await client.disableKey({ KeyId: first });
    const consumer = await cipherOf(first);
    await expect(consumer.decrypt(ciphertext)).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
    await expect((await cipherOf(first)).encrypt(ORDER)).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
    await client.enableKey({ KeyId: first });
    expect(await consumer.decrypt(ciphertext)).toEqual(ORDER);
    const rotated = await cipherOf(`${second},${first}`);
    expect(await rotated.decrypt(ciphertext)).toEqual(ORDER);
    const onlySecond = await cipherOf(second);
    expect(await onlySecond.decrypt(await rotated.encrypt(ORDER))).toEqual(ORDER);
    await expect(onlySecond.decrypt(ciphertext)).rejects.toMatchObject({ code: 'NO_KEY' });
  });

  test('the pair, with its key disabled for a while: orders wait, none is dead-lettered, and all are stored', async () => {
    const client = kms();
    const key = await createKey(client);
    const env = { MESSAGE_ENCRYPTION: 'kms', MESSAGE_ENCRYPTION_KMS_KEYS: key, PUBLISH_PACKING: 'on' };
    await using pair = await startPair({
      ...running().backend.env,
      ...env,
      BREAKER_MAX_OPEN_MS: '1000',
      OUTAGE_RELEASE_MIN_SECONDS: '1',
      OUTAGE_RELEASE_MAX_SECONDS: '2',
    });
    const place = async (count: number) => {
      const orders = Array.from({ length: count }, () => anOrderRequest({ orderId: randomUUID() }));
      expect((await post(`${pair.producerUrl}/orders/batch`, orders)).body.accepted).toBe(count);
      return orders.map(({ orderId }) => orderId ?? '');
    };
    await pair.stopConsumer();
    const placed = await place(20);
    await client.disableKey({ KeyId: key });
    await pair.startConsumerAgain();
    await eventually(() =>
      expect(pair.lines).toContainEqual(
        expect.objectContaining({ message: 'breaker opened', breaker: 'kms' }),
      ),
    );
    await client.enableKey({ KeyId: key });
    await allStored(pair.consumerUrl, [...placed, ...(await place(5))]);
    using queues = await findQueues(pair.endpoint);
    expect(await new DeadLetterQueue(queues.client, queues.urls).peek(10)).toEqual([]);
  });
});
