import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { DEAD_LETTER_ATTRIBUTE, type DeadLetter } from '@orders/consumer/queue/dead-letter.ts';
import { ensureQueues, queueAttributes } from '@orders/shared/sqs/queue-admin.ts';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { redriveRelease } from './redrive.ts';

const CREDENTIALS = {
  AWS_ACCESS_KEY_ID: 'test',
  AWS_SECRET_ACCESS_KEY: 'test',
  AWS_REGION: 'ap-northeast-2',
};
const BEGAN = new Date('2026-11-20T10:00:00Z');

/** With the variables of an operator, who sees that emulator as SQS. */
async function startSqs() {
  const emulator = await startEmulator({ port: 0 });
  for (const [name, value] of Object.entries(CREDENTIALS)) vi.stubEnv(name, value);
  vi.stubEnv('AWS_ENDPOINT_URL', emulator.endpoint);
  vi.stubEnv('ALLOW_PLAINTEXT', 'sqs');
  onTestFinished(async () => {
    vi.unstubAllEnvs();
    await emulator.stop();
  });
  return emulator;
}

async function startQueues() {
  const emulator = await startSqs();
  const client = new SQSClient({
    region: CREDENTIALS.AWS_REGION,
    endpoint: emulator.endpoint,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  });
  onTestFinished(() => client.destroy());
  const { queue, deadLetterQueue } = await ensureQueues(client, 'staging', {
    queue: 'order-queue',
    deadLetterQueue: 'order-dlq',
  });
  const deadLetter = async (codeVersion: string, deadLetteredAt: string, why = 'INVALID') => {
    const reason: Partial<DeadLetter> = {
      ...{
        reason: why,
        detail: '',
        errorClass: 'E',
        attempts: 1,
        failures: 0,
        traceId: '',
        messageId: '',
      },
      ...{ firstSeenAt: deadLetteredAt, deadLetteredAt, codeVersion },
    };
    const attribute = { DataType: 'String', StringValue: JSON.stringify(reason) };
    await client.send(
      new SendMessageCommand({
        QueueUrl: deadLetterQueue.url,
        MessageBody: `${codeVersion} at ${deadLetteredAt}`,
        MessageAttributes: { [DEAD_LETTER_ATTRIBUTE]: attribute },
      }),
    );
  };
  const waiting = async () => {
    const both = await Promise.all(
      [queue.url, deadLetterQueue.url].map((url) => queueAttributes(client, url)),
    );
    return both.map(({ ApproximateNumberOfMessages = 0 }) => Number(ApproximateNumberOfMessages));
  };
  return { deadLetter, waiting };
}

test('redrive, of a release, moves what it dead-lettered since it came, tells of conflicts, and moves nothing else', async () => {
  const { deadLetter, waiting } = await startQueues();
  await deadLetter('v2', '2026-11-20T10:05:00.000Z');
  await deadLetter('v2', '2026-11-20T10:06:00.000Z');
  await deadLetter('v2', '2026-11-20T09:59:00.000Z');
  await deadLetter('v1', '2026-11-20T10:05:00.000Z');
  await deadLetter('v2', '2026-11-20T10:05:00.000Z', 'CONFLICT');
  await deadLetter('v1', '2026-11-20T10:05:00.000Z', 'CONFLICT');
  const said: string[] = [];
  expect(await redriveRelease('staging', 'v2', BEGAN, (line) => said.push(line))).toBe(2);
  expect(await waiting()).toEqual([2, 4]);
  expect(said).toEqual(['  1 CONFLICT stay in the dead-letter queue: scripts/dlq.sh peek staging']);
});

test('redrive, without the queues, says what to type', async () => {
  await startSqs();
  await expect(redriveRelease('staging', 'v2', BEGAN)).rejects.toMatchObject({
    code: 'NOT_REDRIVEN',
    message: expect.stringMatching(
      /does not exist .*Do: scripts\/dlq\.sh redrive staging --code-version=v2 --since=2026-11-20T10:00:00\.000Z/,
    ),
  });
});
