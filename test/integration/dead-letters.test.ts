import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { SendMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { queueDepth, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { sendFaulty } from '../../dev/dead-letters.ts';
import { sqsClient } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { type Pair, post, startPair } from '../support/pair.ts';

// Each starts the tool several times.
vi.setConfig({ testTimeout: 120_000 });

const TOOL = path.join(import.meta.dirname, '..', '..', 'scripts', 'dlq.ts');
const FAULTY = 50;

let pair: Pair;
let client: SQSClient;
let queueUrl: string;
let deadLetterQueueUrl: string;
let stored: string;
/** Message id in the order queue. */
let hostile: string;

beforeAll(async () => {
  pair = await startPair();
  client = sqsClient({ AWS_ENDPOINT_URL: pair.endpoint });
  const names = { APP_ENV: 'dev', ORDER_QUEUE_NAME: 'order-queue', ORDER_DLQ_NAME: 'order-dlq' } as const;
  ({ queueUrl, deadLetterQueueUrl } = await resolveQueues(client, names as never));
  stored = (await post(`${pair.producerUrl}/orders`, anOrderRequest())).body.orderId;
  await sendFaulty(client, queueUrl, FAULTY);
  // Nobody would have written this one; it would clear the screen.
  const MessageBody = '\u009b2J\u202ehostile <b>';
  const sent = await client.send(new SendMessageCommand({ QueueUrl: queueUrl, MessageBody }));
  hostile = String(sent.MessageId);
  await visible(FAULTY + 1);
});
afterAll(async () => {
  client?.destroy();
  await pair?.[Symbol.asyncDispose]();
});

const visible = (count: number) =>
  eventually(async () =>
    expect(await queueDepth(client, deadLetterQueueUrl)).toMatchObject({ visible: count, inFlight: 0 }),
  );

const environment = () => ({ ...process.env, AWS_ENDPOINT_URL: pair.endpoint, AWS_ENDPOINT_URL_SQS: '' });
const dlq = (...args: string[]) =>
  new Promise<{ status: number; out: string; error: string }>((resolve) => {
    const child = execFile(process.execPath, [TOOL, ...args], { env: environment() }, (_, out, error) =>
      resolve({ status: child.exitCode ?? -1, out, error }),
    );
  });

test('dlq.sh summary says what is wrong with how many, and what to do; nothing stays hidden', async () => {
  const { status, out } = await dlq('summary');
  expect(status).toBe(0);
  expect(out).toContain(`order-dlq: ${FAULTY + 1} waiting, 0 in flight, kept for 14 days`);
  expect(out).toMatch(/ 10 {2}INVALID_ORDER: items\.#\.quantity: /);
  expect(out).toMatch(/ 10 {2}INVALID_ORDER: customerId: /);
  expect(out).toMatch(/ 11 {2}NOT_JSON: not valid JSON\n/);
  expect(out).toMatch(/this release reads 0 of 10\. Redriven as they are, they come back/);
  expect(out).toContain(`${FAULTY + 1} of about ${FAULTY + 1} seen`);
  await visible(FAULTY + 1);

  const { groups } = JSON.parse((await dlq('summary', '--json')).out) as { groups: { letters: number }[] };
  expect(groups.map(({ letters }) => letters)).toEqual([11, 10, 10, 10, 10]);
});

test('dlq.sh list and show tell what is known of a message, and print nothing that steers a terminal', async () => {
  const { out } = await dlq('list', '--reason=INVALID_ORDER', '--json');
  const facts = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { messageId: string; originalMessageId: string; now: string });
  expect(facts).toHaveLength(20);
  const [first] = facts;
  for (const id of [first?.messageId, first?.originalMessageId]) {
    const shown = await dlq('show', 'dev', String(id));
    expect(shown).toMatchObject({ status: 0, error: '' });
    expect(shown.out).toContain(first?.messageId);
    expect(shown.out).toMatch(/now +still INVALID_ORDER/);
    expect(shown.out).toMatch(/expires +20\d\d-/);
  }

  const all = (await dlq('show', hostile)).out;
  expect(all).toContain('\\u009b2J\\u202ehostile <b>');
  expect(all).not.toMatch(/[\u0080-\u009f\u202e]/);

  expect(await dlq('show', stored)).toMatchObject({ status: 1, out: expect.stringMatching(/^0 shown/) });
  await visible(FAULTY + 1);
});

test('dlq.sh, of a letter that somebody forged, prints no line of its making and no command with its words', async () => {
  const forged = {
    ...{
      reason: 'X; touch /tmp/x\n#',
      detail: 'one\ntwo\u009b2J',
      errorClass: 'E',
      attempts: 1,
      failures: 0,
    },
    ...{
      firstSeenAt: '',
      deadLetteredAt: 'no\ndate',
      codeVersion: '\u202e',
      traceId: '$(id)',
      messageId: 'forged',
    },
  };
  await client.send(
    new SendMessageCommand({
      QueueUrl: deadLetterQueueUrl,
      MessageBody: 'first\nsecond',
      MessageAttributes: { deadLetter: { DataType: 'String', StringValue: JSON.stringify(forged) } },
    }),
  );
  await visible(FAULTY + 2);
  const printed = [
    await dlq('summary'),
    await dlq('list', '--reason', forged.reason),
    await dlq('show', 'forged'),
    await dlq('list', '--json', '--reason', forged.reason),
    await dlq('redrive', '--reason', forged.reason),
  ].map(({ out }) => out);
  for (const out of printed) {
    expect(out).not.toMatch(/[\u0080-\u009f\u202e]/);
    expect(out).not.toMatch(/^(#|two|date|second)/m);
  }
  expect(printed[0]).not.toContain('--reason=X');
  expect(printed[0]).toContain('No release of ours writes this reason');
  expect(JSON.parse(printed[3] ?? '')).toMatchObject({ detail: forged.detail, reason: forged.reason });
  expect(printed[4]).toContain('1 moved');
  await visible(FAULTY + 2);
});

test('dlq.sh redrive of one reason moves those, and of what is readable nothing here', async () => {
  expect((await dlq('redrive', '--reason=UNKNOWN', '--dry-run')).out).toContain('0 would be moved');
  expect((await dlq('redrive', '--readable', '--dry-run')).out).toContain('0 would be moved');
  expect((await dlq('redrive', '--reason=CONTENT_HASH_MISMATCH', '--dry-run')).out).toContain(
    '10 would be moved',
  );
  await visible(FAULTY + 2);
});

test.each([
  ['list', ['list']],
  ['redrive', ['redrive', '--rate=1', '--reason=CONTENT_HASH_MISMATCH']],
])('dlq.sh %s, interrupted, leaves nothing hidden and says so', async (_action, args) => {
  const child = spawn(process.execPath, [TOOL, ...args], { env: environment() });
  let error = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    error += text;
  });
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  const [status] = await once(child, 'close');
  expect({ status, error }).toEqual({ status: 1, error: 'interrupted\n' });
  // What was redriven has come back.
  await visible(FAULTY + 2);
});
