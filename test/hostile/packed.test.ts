import { randomUUID } from 'node:crypto';
import zlib from 'node:zlib';
import { messagesIn } from '@orders/shared/sqs/queue-admin.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { getJson } from '../support/pair.ts';
import { type HostileMessage, sendAll } from './messages.ts';
import { type HostileScene, openHostileScene } from './scene.ts';

/** A packed message with lines that no queue would take, or that unpack to more and more. */
const packed = (...lines: string[]) =>
  JSON.stringify({
    specversion: '1.0',
    type: 'order.placed.v2',
    id: '1',
    source: '/x',
    datacontenttype: 'application/x-ndjson',
    contentencoding: 'zstd',
    data_base64: zlib.zstdCompressSync(lines.join('\n')).toString('base64'),
  });
const line = (orderId: string) =>
  JSON.stringify({
    specversion: '1.0',
    type: 'order.placed.v1',
    id: '1',
    source: '/x',
    data: anOrder({ orderId }),
  });
/** 100 times as many orders, or rather the same one, with each level. */
const nested = (levels: number, orderId: string): string =>
  levels === 0 ? line(orderId) : packed(...Array.from({ length: 100 }, () => nested(levels - 1, orderId)));
const attributes = (name: (index: number) => number) =>
  Object.fromEntries(
    Array.from({ length: 10 }, (_, index) => [
      `a${index}`,
      { DataType: 'String', StringValue: '"'.repeat(name(index)) },
    ]),
  );

let scene: HostileScene;
beforeAll(async () => {
  scene = await openHostileScene();
});
afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
});

test.each<[string, (orderId: string) => HostileMessage, { stored: boolean; letters: number }]>([
  [
    'a line with a control character',
    (id) => ({ body: packed(line(id), 'x\u0000y'), attributes: {} }),
    { stored: true, letters: 1 },
  ],
  [
    'a line with a character above U+FFFF',
    (id) => ({ body: packed(line(id), '"🛒"'), attributes: {} }),
    { stored: true, letters: 1 },
  ],
  [
    'a line longer than a message',
    (id) => ({ body: packed(line(id), 'x'.repeat(300_000)), attributes: {} }),
    { stored: true, letters: 1 },
  ],
  [
    'ten attributes, the last of quotes',
    () => ({ body: 'x', attributes: attributes((i) => (i === 9 ? 140_000 : 1)) }),
    { stored: false, letters: 1 },
  ],
  [
    'packed messages in packed messages',
    (id) => ({ body: nested(2, id), attributes: {} }),
    { stored: false, letters: 100 },
  ],
])(
  'consumer, with %s, settles the message at its first receive',
  async (_what, make, { stored, letters }) => {
    const received = async () =>
      (await getJson(`${scene.consumerUrl}/actuator/metrics/sqs.messages.received`)).body.measurements[0]
        .value;
    const before = await received();
    const { client, urls } = scene.queues;
    const lettersBefore = await messagesIn(client, urls.deadLetterQueueUrl);
    const orderId = randomUUID();
    await sendAll([make(orderId)], scene.queues);
    await eventually(async () => expect(await messagesIn(client, urls.queueUrl)).toBe(0), 10_000);
    expect(await messagesIn(client, urls.deadLetterQueueUrl)).toBe(lettersBefore + letters);
    if (stored) expect((await getJson(`${scene.consumerUrl}/orders/${orderId}`)).status).toBe(200);
    expect((await received()) - before).toBeLessThan(10);
  },
);

test('both services, after all that, have died of none of it and have room for twice as much in their memory', async () => {
  await scene.isWell();
});
