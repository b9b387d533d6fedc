import {
  DeleteMessageBatchCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { commonFields, loadConfig } from '@orders/shared/runtime/config.ts';
import { createLogger } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { ensureQueues } from '@orders/shared/sqs/queue-admin.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { type Emulator, startEmulator } from '../../dev/emulator.ts';
import { depthOf } from '../support/queues.ts';
import { createRandom } from './random.ts';
import { type SqsFault, type SqsFaultProxy, startSqsFaultProxy } from './sqs-fault-proxy.ts';

let emulator: Emulator;
let direct: SQSClient;
let proxy: SqsFaultProxy;
let client: SQSClient;
let queueUrl: string;
let queues = 0;

beforeAll(async () => {
  emulator = await startEmulator({ port: 0 });
  direct = connect(emulator.endpoint, 10_000);
});
afterAll(async () => {
  direct.destroy();
  await emulator.stop();
});
beforeEach(async () => {
  const name = `queue-${queues++}`;
  const created = await ensureQueues(direct, 'dev', { queue: name, deadLetterQueue: `${name}-dlq` });
  queueUrl = created.queue.url;
  proxy = await startSqsFaultProxy({ target: emulator.endpoint, random: createRandom(1) });
  client = connect(proxy.url, 1_000);
  // The first request of a process takes its time.
  await vi.waitFor(() => receive(), { timeout: 30_000 });
});
afterEach(async () => {
  client.destroy();
  await proxy.stop();
});

function connect(endpoint: string, requestTimeoutMs: number): SQSClient {
  const config = loadConfig(z.object(commonFields), {
    AWS_ENDPOINT_URL: endpoint,
    LOG_LEVEL: 'fatal',
    SQS_REQUEST_TIMEOUT_MS: String(requestTimeoutMs),
    SQS_MAX_ATTEMPTS: '1',
  });
  return createSqsClient({ config, logger: createLogger({ ...config, service: 'test', version: '' }) });
}

const send = (count: number, by = client) =>
  by.send(
    new SendMessageBatchCommand({
      QueueUrl: queueUrl,
      Entries: Array.from({ length: count }, (_, index) => ({
        Id: `${index}`,
        MessageBody: `body ${index}`,
      })),
    }),
  );
const receive = async (MaxNumberOfMessages = 10, VisibilityTimeout = 30) => {
  const command = new ReceiveMessageCommand({
    QueueUrl: queueUrl,
    MaxNumberOfMessages,
    VisibilityTimeout,
    WaitTimeSeconds: 0,
    MessageSystemAttributeNames: ['ApproximateReceiveCount'],
  });
  return (await client.send(command)).Messages ?? [];
};
const bodies = async (...given: Parameters<typeof receive>) =>
  (await receive(...given)).map(({ Body }) => Body);
const counts = () => depthOf(direct, queueUrl);

/** While the fault is on; answers how often it struck. */
async function during(fault: SqsFault, act: () => Promise<void>): Promise<number> {
  const active = await proxy.inject(fault);
  await act();
  await active.end();
  return active.hits;
}

describe('SQS fault proxy', () => {
  test('without a fault, passes everything on', async () => {
    expect((await send(3)).Successful).toHaveLength(3);
    expect(await bodies()).toEqual(['body 0', 'body 1', 'body 2']);
  });

  test('unreachable, refuses connections, and takes them again on the same port', async () => {
    await during({ kind: 'unreachable' }, async () => {
      // A connection that was open may be tried once more, and is reset.
      await vi.waitFor(() => expect(send(1)).rejects.toMatchObject({ code: 'ECONNREFUSED' }), {
        timeout: 30_000,
      });
    });
    await send(1);
    expect(await counts()).toEqual({ visible: 1, inFlight: 0 });
  });

  test('slow, answers later than the client waits', async () => {
    await during({ kind: 'slow', delayMs: 1_500 }, async () => {
      await expect(send(1)).rejects.toMatchObject({ name: 'TimeoutError' });
    });
  });

  test('reset, forwards nothing', async () => {
    const hits = await during({ kind: 'reset' }, async () => {
      await expect(send(1)).rejects.toMatchObject({ code: 'ECONNRESET' });
    });
    expect(hits).toBe(1);
    expect(await counts()).toEqual({ visible: 0, inFlight: 0 });
  });

  test.each([
    [500, 'InternalFailure'],
    [400, 'ThrottlingException'],
    [403, 'ExpiredTokenException'],
  ])('refusing with %i, is read by the SDK as %s', async (status, code) => {
    await during({ kind: 'refuse', status, code }, async () => {
      await expect(send(1)).rejects.toMatchObject({ name: code, $metadata: { httpStatusCode: status } });
    });
    expect(await counts()).toEqual({ visible: 0, inFlight: 0 });
  });

  test.each(['reset', 'silence'] as const)(
    'losing answers by %s, has done what was asked, and spares other operations',
    async (how) => {
      const operations = ['ReceiveMessage', 'DeleteMessageBatch'];
      await send(2);
      await during({ kind: 'lose-answer', how, operations }, async () => {
        await send(1);
        await expect(receive(3)).rejects.toThrow();
      });
      expect(await counts()).toEqual({ visible: 0, inFlight: 3 });
    },
  );

  test('losing the answer to a delete, has deleted', async () => {
    await send(1);
    const [message] = await receive();
    await during({ kind: 'lose-answer', how: 'reset' }, async () => {
      const Entries = [{ Id: '0', ReceiptHandle: message?.ReceiptHandle }];
      await expect(
        client.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries })),
      ).rejects.toThrow();
    });
    expect(await counts()).toEqual({ visible: 0, inFlight: 0 });
  });

  test('failing batches in part, names each entry once, and some that failed were done', async () => {
    let answered = 0;
    let successful = 0;
    const hits = await during({ kind: 'partial' }, async () => {
      for (let batch = 0; batch < 10; batch++) {
        const { Successful = [], Failed = [] } = await send(10);
        expect([...Successful, ...Failed].map(({ Id }) => Number(Id)).sort()).toEqual([...Array(10).keys()]);
        expect(Failed.every(({ SenderFault }) => SenderFault === false)).toBe(true);
        answered += 10;
        successful += Successful.length;
      }
    });
    const { visible } = await counts();
    expect(hits).toBe(10);
    expect(successful).toBeLessThan(visible);
    expect(visible).toBeLessThan(answered);
  });

  test('failing entries by code, does not do what SQS would not have done, and keeps the flag', async () => {
    const as = [{ code: 'RequestThrottled', senderFault: true }];
    let successful = 0;
    await during({ kind: 'partial', as }, async () => {
      const { Successful = [], Failed = [] } = await send(10);
      successful = Successful.length;
      expect(Failed.length).toBeGreaterThan(0);
      for (const { Code, SenderFault } of Failed)
        expect([Code, SenderFault]).toEqual(['RequestThrottled', true]);
    });
    expect(await counts()).toEqual({ visible: successful, inFlight: 0 });
  });

  test('hanging for one queue, neither forwards nor answers, and serves the other', async () => {
    const hits = await during({ kind: 'hang', queue: 'another-queue' }, async () => {
      expect((await send(1)).Successful).toHaveLength(1);
    });
    expect(hits).toBe(0);
    await during({ kind: 'hang' }, async () => {
      await expect(send(1)).rejects.toMatchObject({ name: 'TimeoutError' });
    });
    expect(await counts()).toEqual({ visible: 1, inFlight: 0 });
  });

  test('repeating three times, delivers deleted messages again, with a higher count', async () => {
    await send(1);
    const seen: (string | undefined)[] = [];
    const hits = await during({ kind: 'repeat', times: 3 }, async () => {
      const [message] = await receive();
      const Entries = [{ Id: '0', ReceiptHandle: message?.ReceiptHandle }];
      await client.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries }));
      await vi.waitUntil(
        async () => {
          for (const { Attributes } of await receive(1)) seen.push(Attributes?.ApproximateReceiveCount);
          return seen.length === 2;
        },
        { timeout: 30_000 },
      );
    });
    expect(seen.sort()).toEqual(['2', '3']);
    expect(hits).toBe(2);
    expect(await bodies()).toEqual([]);
  });

  test('same batch twice, delivers a message twice in one answer, never more than asked for', async () => {
    await send(6);
    const hits = await during({ kind: 'same-batch-twice' }, async () => {
      expect(await bodies(1)).toEqual(['body 0']);
      expect(await bodies(2)).toEqual(['body 1', 'body 1']);
      expect(await bodies(10)).toHaveLength(6);
    });
    expect(hits).toBe(2);
  });

  test('out of order, delivers everything in the end, in another order', async () => {
    await send(10);
    const seen: (string | undefined)[] = [];
    await during({ kind: 'out-of-order' }, async () => {
      await vi.waitUntil(
        async () => {
          seen.push(...(await bodies(4)));
          return seen.length >= 10;
        },
        { timeout: 30_000, interval: 100 },
      );
    });
    const sent = Array.from({ length: 10 }, (_, index) => `body ${index}`);
    expect(seen).not.toEqual(sent);
    expect(new Set(seen)).toEqual(new Set(sent));
  });

  test('shortening the visibility time, delivers again what was not deleted in time', async () => {
    await send(1);
    const hits = await during({ kind: 'visibility', seconds: 1 }, async () => {
      expect(await bodies(1, 30)).toEqual(['body 0']);
      expect(await bodies(1, 30)).toEqual([]);
    });
    expect(hits).toBe(1);
    await vi.waitUntil(async () => (await bodies(1)).length === 1, { timeout: 30_000, interval: 100 });
  });

  test('share of a half, strikes about half', async () => {
    let failed = 0;
    const hits = await during({ kind: 'reset', share: 0.5 }, async () => {
      for (let request = 0; request < 40; request++) await receive().catch(() => failed++);
    });
    expect(failed).toBe(hits);
    expect(hits).toBeGreaterThan(8);
    expect(hits).toBeLessThan(32);
  });
});
