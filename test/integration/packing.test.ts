import { randomUUID } from 'node:crypto';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { expect, test, vi } from 'vitest';
import { getJson, post, startPair } from '../support/pair.ts';
import { findQueues } from '../support/queues.ts';

async function messagesReceived(consumerUrl: string): Promise<number> {
  const { body } = await getJson(`${consumerUrl}/actuator/metrics/sqs_messages_received_total`);
  return body.measurements[0].value;
}

const eventually = (assertion: () => Promise<void>) =>
  vi.waitFor(assertion, { timeout: 30_000, interval: 50 });

test('packed batches, with orders that contradict stored ones, store the others and dead-letter these, one by one', async () => {
  await using pair = await startPair({ PUBLISH_PACKING: 'on' });
  const orders = Array.from({ length: 250 }, () =>
    anOrderRequest({ orderId: randomUUID(), customerId: 'C-PACKED' }),
  );
  const contradictions = orders.slice(0, 5).map((order) => ({ ...order, customerId: 'C-OTHER' }));
  const storedOf = async (customerId: string) =>
    (await getJson(`${pair.consumerUrl}/orders?customerId=${customerId}&limit=500`)).body.orders;

  const first = await post(`${pair.producerUrl}/orders/batch`, orders.slice(0, 200));
  expect(first.body).toMatchObject({ accepted: 200, refused: 0 });
  await eventually(async () => expect(await storedOf('C-PACKED')).toHaveLength(200));
  // Two, but for a slow machine, where the producer sends what it has read so far while it still reads the rest.
  expect(await messagesReceived(pair.consumerUrl)).toBeLessThan(20);

  const second = await post(`${pair.producerUrl}/orders/batch`, [...contradictions, ...orders.slice(200)]);
  expect(second.body).toMatchObject({ accepted: 55, refused: 0 });
  await eventually(async () => expect(await storedOf('C-PACKED')).toHaveLength(250));
  using queues = await findQueues(pair.endpoint);
  const deadLetters = new DeadLetterQueue(queues.client, queues.urls);
  await eventually(async () => {
    const letters = await deadLetters.peek(10);
    expect(letters.map(({ deadLetter }) => deadLetter?.reason)).toEqual(Array(5).fill('CONFLICT'));
    const ids = letters.map(({ message }) => JSON.parse(message.body).id);
    expect(ids.toSorted()).toEqual(contradictions.map(({ orderId }) => orderId).toSorted());
  });
  expect(await storedOf('C-OTHER')).toEqual([]);
});
