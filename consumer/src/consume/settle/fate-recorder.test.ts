import { randomUUID } from 'node:crypto';
import { describe, expect, test, vi } from 'vitest';
import { type Harness, startHarness as start } from '../../../testing/consumer-harness.ts';
import { anOrder, bodyOf } from '../../../testing/orders.ts';
import { StoreUnavailableError } from '../../domain/errors.ts';

const eventually = (assertion: () => void | Promise<void>) =>
  vi.waitFor(assertion, { timeout: 10_000, interval: 5 });
const unrecorded = async ({ metrics }: Harness) =>
  Object.fromEntries(
    (await metrics.unrecordedFates.get()).values.map(({ labels, value }) => [labels.cause, value]),
  );

/** An event whose order breaks a rule. */
const invalid = (id: string, extra = {}) =>
  JSON.stringify({
    specversion: '1.0',
    id,
    source: '/x',
    type: 'order.placed.v1',
    contenthash: 'v1:abc',
    clientid: 'shop-a',
    data: { orderId: id, customerId: 7 },
    ...extra,
  });

describe('fates', () => {
  test('consumer, of an order that it rejects, records the reason once the DLQ has the copy', async () => {
    const id = randomUUID();
    const copied = Promise.withResolvers<void>();
    const harness = start({}, ({ sqs }) => {
      sqs.intercept = async ({ operation, input }) => {
        if (operation === 'SendMessageBatch' && input.QueueUrl === 'dlq') await copied.promise;
      };
      sqs.put(invalid(id));
    });
    const { sqs, repository } = harness;
    await eventually(() => expect(sqs.entries('SendMessageBatch')).toHaveLength(1));
    expect(repository.fates).toEqual([]);
    copied.resolve();
    await eventually(() => expect(repository.fates).toHaveLength(1));
    expect(sqs.deadLetters).toHaveLength(1);
    expect(repository.fates[0]).toMatchObject({
      kind: 'REJECTED',
      orderId: id,
      clientId: 'shop-a',
      contentHash: 'v1:abc',
      reason: 'INVALID_ORDER',
      detail: expect.stringContaining('customerId'),
      attempts: 1,
      release: '1.2.3',
    });
  });

  test('consumer, of orders that it stores, or that name no order, records nothing', async () => {
    const order = anOrder();
    const harness = start();
    harness.sqs.put(await bodyOf(order));
    harness.sqs.put('not JSON');
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    await harness.consumer.stop({ timeoutMs: 5_000 });
    expect(harness.repository.stored.has(order.orderId)).toBe(true);
    expect(harness.repository.fates).toEqual([]);
  });

  test('consumer, while the store does not record, settles what it rejects, and counts it', async () => {
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeRecord = () => {
        throw new StoreUnavailableError('away');
      };
      for (let n = 0; n < 3; n++) sqs.put(invalid(randomUUID()));
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(3));
    await eventually(async () => expect(await unrecorded(harness)).toEqual({ store: 3, 'buffer-full': 0 }));
  });

  test('consumer, while the store hangs on recording, settles a flood of rejected orders, drops what is too much, and counts it', async () => {
    const hangs = Promise.withResolvers<void>();
    const flood = 5_300;
    const harness = start({ MAX_IN_WORK: 1_000 }, ({ sqs, repository }) => {
      repository.beforeRecord = () => hangs.promise;
      for (let n = 0; n < flood; n++) sqs.put(invalid(randomUUID()));
    });
    const { sqs, repository, consumer } = harness;
    await vi.waitFor(() => expect(sqs.deletedHandles()).toHaveLength(flood), { timeout: 50_000 });
    const dropped = (await unrecorded(harness))['buffer-full'] ?? 0;
    expect(dropped).toBeGreaterThan(0);
    hangs.resolve();
    await consumer.stop({ timeoutMs: 5_000 });
    expect(repository.fates).toHaveLength(flood - dropped);
  }, 60_000);
});
