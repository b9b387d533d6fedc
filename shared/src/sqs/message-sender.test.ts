import type { SQSClient } from '@aws-sdk/client-sqs';
import { expect, test } from 'vitest';
import { MessageSender } from './message-sender.ts';

type Entry = { Id: string; MessageBody: string };

test('send, of what is throttled and no longer wanted when it is sent again, leaves it out and rejects, and sends the others', async () => {
  const requests: string[][] = [];
  let wanted = true;
  const send = async ({ input: { Entries } }: { input: { Entries: Entry[] } }) => {
    requests.push(Entries.map(({ MessageBody }) => MessageBody));
    if (requests.length > 1) return { Successful: Entries.map(({ Id }) => ({ Id, MessageId: `new-${Id}` })) };
    wanted = false;
    return { Failed: Entries.map(({ Id }) => ({ Id, Code: 'RequestThrottled', SenderFault: true })) };
  };
  const sender = new MessageSender({ send } as unknown as SQSClient, 'dlq');
  const results = await Promise.allSettled([
    sender.send({ MessageBody: 'lost meanwhile', MessageAttributes: {} }, () => wanted),
    sender.send({ MessageBody: 'held', MessageAttributes: {} }),
  ]);
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  expect(requests[0]).toEqual(['lost meanwhile', 'held']);
  expect(requests.slice(1).flat()).toEqual(['held']);
});
