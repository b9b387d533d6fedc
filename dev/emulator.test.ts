import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  ChangeMessageVisibilityCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs';
import { ensureQueues, type QueueChange } from '@orders/shared/sqs/queue-admin.ts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EMULATOR_REGION, type Emulator, startEmulator } from './emulator.ts';

const NAMES = { queue: 'order-queue', deadLetterQueue: 'order-dlq' };
let dataDir: string;
let emulator: Emulator;
let client: SQSClient;

beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'emulator-'));
  await start();
});
afterEach(async () => {
  await stop();
  await rm(dataDir, { recursive: true });
});

async function start(): Promise<void> {
  emulator = await startEmulator({ port: 0, dataDir });
  client = clientOf(EMULATOR_REGION);
}

function clientOf(region: string): SQSClient {
  const credentials = { accessKeyId: 'any', secretAccessKey: 'any' };
  return new SQSClient({ region, endpoint: emulator.endpoint, credentials, maxAttempts: 1 });
}

async function stop(): Promise<void> {
  client.destroy();
  await emulator.stop();
}

async function restart(): Promise<void> {
  await stop();
  await start();
}

const ensure = async (): Promise<QueueChange> => (await ensureQueues(client, 'dev', NAMES)).queue;
const send = (QueueUrl: string, MessageBody: string) =>
  client.send(new SendMessageCommand({ QueueUrl, MessageBody }));
const receive = async (QueueUrl: string, VisibilityTimeout = 30) => {
  const answer = await client.send(
    new ReceiveMessageCommand({ QueueUrl, VisibilityTimeout, WaitTimeSeconds: 2 }),
  );
  return answer.Messages?.[0];
};
const counts = async (QueueUrl: string) => {
  const { Attributes } = await client.send(
    new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['All'] }),
  );
  return [
    Attributes?.['ApproximateNumberOfMessages'],
    Attributes?.['ApproximateNumberOfMessagesNotVisible'],
  ].map(Number);
};

describe('emulator with a data directory', () => {
  it('after a restart on another port, keeps queues and messages under their old URLs', async () => {
    const { url } = await ensure();
    await send(url, 'kept');
    const before = emulator.endpoint;
    await restart();
    expect(emulator.endpoint).not.toBe(before);
    expect((await client.send(new GetQueueUrlCommand({ QueueName: NAMES.queue }))).QueueUrl).toBe(url);
    expect(await ensure()).toMatchObject({ created: false, drift: [] });
    expect((await receive(url))?.Body).toBe('kept');
  });

  it('after a restart, gives messages in flight back at their deadline and honours their handles until then', async () => {
    const { url } = await ensure();
    await send(url, 'held');
    const held = await receive(url);
    await send(url, 'short');
    await receive(url, 1);
    await restart();
    expect((await receive(url))?.Body).toBe('short');
    await client.send(new DeleteMessageCommand({ QueueUrl: url, ReceiptHandle: held?.ReceiptHandle }));
    await restart();
    expect(await counts(url)).toEqual([0, 1]);
  });

  it('gives a message back at once when its visibility is set to 0, and keeps its receive count', async () => {
    const { url } = await ensure();
    await send(url, 'released');
    const ReceiptHandle = (await receive(url))?.ReceiptHandle;
    await client.send(
      new ChangeMessageVisibilityCommand({ QueueUrl: url, ReceiptHandle, VisibilityTimeout: 0 }),
    );
    expect(await counts(url)).toEqual([1, 0]);
    await restart();
    const attributes = { MessageSystemAttributeNames: ['ApproximateReceiveCount' as const] };
    const { Messages } = await client.send(new ReceiveMessageCommand({ QueueUrl: url, ...attributes }));
    expect(Messages?.[0]?.Attributes).toEqual({ ApproximateReceiveCount: '2' });
  });

  it('shows the same queues to a client of another region', async () => {
    const { url } = await ensure();
    await send(url, 'one region');
    const elsewhere = clientOf('us-east-1');
    const { queue } = await ensureQueues(elsewhere, 'dev', NAMES);
    elsewhere.destroy();
    expect(queue).toMatchObject({ created: false, url });
    expect(await counts(url)).toEqual([1, 0]);
  });

  it('refuses a directory that another emulator uses, and one of another region', async () => {
    await ensure();
    await expect(startEmulator({ port: 0, dataDir })).rejects.toThrow('another emulator uses it');
    await emulator.stop();
    await expect(startEmulator({ port: 0, dataDir, region: 'us-east-1' })).rejects.toThrow(
      'not of us-east-1',
    );
    await start();
  });

  it('refuses a port that is taken, and frees the directory again', async () => {
    const port = Number(new URL(emulator.endpoint).port);
    const other = await mkdtemp(path.join(tmpdir(), 'emulator-'));
    await expect(startEmulator({ port, dataDir: other })).rejects.toThrow(`port ${port} is taken`);
    await (await startEmulator({ port: 0, dataDir: other })).stop();
    await rm(other, { recursive: true });
  });
});
