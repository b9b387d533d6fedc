import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { SendMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { startConsumer } from '@orders/consumer/app.ts';
import { loadConsumerConfig } from '@orders/consumer/config.ts';
import { startProducer } from '@orders/producer/app.ts';
import { loadProducerConfig } from '@orders/producer/config.ts';
import { ensureQueues, messagesIn, type QueueUrls } from '@orders/shared/sqs/queue-admin.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { redriveRelease } from '../../scripts/deploy/redrive.ts';
import { sqsClient } from '../support/backends.ts';

const OTHER = { staging: 'production', production: 'staging' } as const;
type Name = keyof typeof OTHER;
const ACCOUNT = '000000000000';
const names = { queue: 'order-queue', deadLetterQueue: 'order-dlq' };

describe.each(Object.keys(OTHER) as Name[])('%s', (appEnv) => {
  let folder: string;
  let emulator: Awaited<ReturnType<typeof startEmulator>>;
  let client: SQSClient;
  let urls: QueueUrls;
  /** Tells a tool or a service of an SQS with the queues of the other environment, which have the same names. */
  let env: Record<string, string>;

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'isolation-'));
    emulator = await startEmulator({ port: 0 });
    client = sqsClient({ AWS_ENDPOINT_URL: emulator.endpoint });
    const made = await ensureQueues(client, OTHER[appEnv], names);
    urls = { queueUrl: made.queue.url, deadLetterQueueUrl: made.deadLetterQueue.url };
    const keys = path.join(folder, 'api-keys');
    writeFileSync(keys, `tests orders:write ${'0'.repeat(64)}\n`);
    env = {
      AWS_ENDPOINT_URL: emulator.endpoint,
      EXPECTED_AWS_ACCOUNT: ACCOUNT,
      AUTH: 'api-key',
      API_KEYS_FILE: keys,
      DATABASE_URL: `sqlite:${path.join(folder, 'orders.db')}`,
      PRODUCER_PORT: '0',
      CONSUMER_PORT: '0',
      MANAGEMENT_PORT: '0',
      SQS_WAIT_TIME_SECONDS: '1',
    };
    for (const [name, value] of Object.entries({
      ...env,
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
      ALLOW_PLAINTEXT: 'sqs',
    }))
      vi.stubEnv(name, value);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    client.destroy();
    await emulator.stop();
    rmSync(folder, { recursive: true });
  });

  /** Once its configuration has been read: outside dev, none with an emulator and SQLite is accepted. */
  const start = (service: string, more: Record<string, string> = {}) => {
    const given = { ...env, ...more };
    const { logger } = captureLog();
    return service === 'order-producer'
      ? startProducer({ ...loadProducerConfig(given), APP_ENV: appEnv }, logger, 'test')
      : startConsumer({ ...loadConsumerConfig(given), APP_ENV: appEnv }, logger, 'test', (error) => {
          throw error;
        });
  };

  describe.each(['order-producer', 'order-consumer'])('%s', (service) => {
    test('does not start with the queues of the other environment, as their tags say', async () => {
      await expect(start(service)).rejects.toThrow(`is tagged as that of ${OTHER[appEnv]}, not of ${appEnv}`);
    });

    test('does not start with the queues of another account, whatever their tags say', async () => {
      await expect(start(service, { EXPECTED_AWS_ACCOUNT: '111122223333' })).rejects.toThrow(
        `belongs to account ${ACCOUNT}, not to 111122223333 (EXPECTED_AWS_ACCOUNT`,
      );
    });

    test('does not start with a key of another account', () => {
      const keys = 'arn:aws:kms:ap-northeast-2:111122223333:key/1';
      expect(() => start(service, { MESSAGE_ENCRYPTION_KMS_KEYS: keys })).toThrow(
        `MESSAGE_ENCRYPTION_KMS_KEYS: must be keys of account ${ACCOUNT} (EXPECTED_AWS_ACCOUNT), not ${keys}`,
      );
    });
  });

  // In production, no emulator is accepted.
  if (appEnv === 'staging') {
    test('redrive, of dead letters of the other environment, moves none', async () => {
      await client.send(new SendMessageCommand({ QueueUrl: urls.deadLetterQueueUrl, MessageBody: 'theirs' }));
      await expect(redriveRelease(appEnv, 'v1', new Date(0))).rejects.toThrow(
        `is tagged as that of ${OTHER[appEnv]}, not of ${appEnv}`,
      );
      expect(await messagesIn(client, urls.deadLetterQueueUrl)).toBe(1);
    });
  }
});
