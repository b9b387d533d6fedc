import { packMessages } from '@orders/shared/order/packed-message.ts';
import { BatchEntryError } from '@orders/shared/sqs/batch.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createHarness } from '../../../testing/consumer-harness.ts';
import { anOrder, bodyOf } from '../../../testing/orders.ts';
import type { Acknowledger } from '../../queue/acknowledger.ts';
import type { ReceivedMessage } from '../../queue/received-message.ts';
import { Lease } from '../lease.ts';

// What SQS refuses for now it may call the sender's fault, too: the code decides.
describe('lease', () => {
  async function extended(Code: string, SenderFault: boolean): Promise<Lease> {
    const lease = new Lease({ receiptHandle: 'h' } as ReceivedMessage, performance.now(), 60);
    const refusal = new BatchEntryError({ Id: '0', Code, SenderFault } as { Code: string });
    const acknowledger = { changeVisibility: () => Promise.reject(refusal) } as unknown as Acknowledger;
    await lease.extend(acknowledger, 60, captureLog().logger);
    return lease;
  }

  test.each(['RequestThrottled', 'ThrottlingException', 'AccessDenied', 'RequestExpired', 'SomethingNewer'])(
    "lease, whose extension fails with %s and is the sender's fault, lasts until its time is over",
    async (code) => {
      expect((await extended(code, true)).lost).toBe(false);
    },
  );

  test.each(['ReceiptHandleIsInvalid', 'MessageNotInflight', 'InvalidParameterValue'])(
    'lease, whose extension fails with %s, is lost at once, whatever SenderFault says',
    async (code) => {
      expect((await extended(code, false)).lost).toBe(true);
    },
  );
});

describe('packed message', () => {
  const refusedEntry = (Code: string) => (Id: string | undefined) => ({
    Failed: [{ Id, Code, SenderFault: true }],
  });
  const refusedRequest = (name: string) => () =>
    Promise.reject(Object.assign(new Error(name), { name, $metadata: { httpStatusCode: 400 } }));

  test.each<[string, (id: string | undefined) => unknown]>([
    ['an entry that is throttled', refusedEntry('RequestThrottled')],
    ['an entry that KMS throttles', refusedEntry('KMS.ThrottlingException')],
    ['a request that is throttled', refusedRequest('RequestThrottled')],
    ['a request that has expired', refusedRequest('RequestExpired')],
    ['a request that is not authorised', refusedRequest('NotAuthorized')],
    ['a request without security', refusedRequest('InvalidSecurity')],
    ['a request that fails by a code of tomorrow', refusedRequest('SomethingNewer')],
  ])(
    'consumer, when a line for the DLQ meets %s, leaves the packed message to be redelivered',
    async (_what, refuse) => {
      const line = '{"truncated';
      const { body } = await packMessages([line, await bodyOf(anOrder())]);
      const { sqs, consumer, lines } = createHarness();
      sqs.intercept = ({ operation, input }) =>
        operation === 'SendMessageBatch' && input.Entries?.some(({ MessageBody }) => MessageBody === line)
          ? refuse(input.Entries[0]?.Id)
          : undefined;
      sqs.put(body);
      consumer.start();
      onTestFinished(async () => void (await consumer.stop({ timeoutMs: 6_000 })));
      await vi.waitFor(
        () =>
          expect(lines.map(({ message }) => message)).toContain(
            'outcome not confirmed by SQS, the message will come again',
          ),
        { timeout: 30_000, interval: 5 },
      );
      expect(sqs.deadLetters).toEqual([]);
      expect(sqs.deletedHandles()).toEqual([]);
    },
  );
});
