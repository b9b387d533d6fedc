import { setTimeout as sleep } from 'node:timers/promises';
import { packMessages } from '@orders/shared/order/packed-message.ts';
import { describe, expect, test, vi } from 'vitest';
import { deadLetterOf, type Harness, startHarness as start } from '../../../testing/consumer-harness.ts';
import { anOrder, bodyOf } from '../../../testing/orders.ts';
import { StoreUnavailableError } from '../../domain/errors.ts';

const eventually = (assertion: () => void | Promise<void>, timeout = 10_000) =>
  vi.waitFor(assertion, { timeout, interval: 5 });
const count = async ({ metrics }: Harness, name: 'lostLeases' | 'received') =>
  (await metrics[name].get()).values[0]?.value;
const sendsTo = ({ sqs }: Harness, queue: string) =>
  sqs.calls.filter(({ operation, input }) => operation === 'SendMessageBatch' && input.QueueUrl === queue);
const beats = ({ sqs }: Harness) => sqs.entries('ChangeMessageVisibilityBatch').length;
const packOf = async (bodies: string[]) => (await packMessages(bodies)).body;

/** Messages of so many orders each, all of which are stored with other content already. */
async function conflicts(packed: number, ordersEach: number) {
  const messages = Array.from({ length: packed }, () => Array.from({ length: ordersEach }, () => anOrder()));
  const bodies = await Promise.all(messages.map((orders) => Promise.all(orders.map(bodyOf))));
  return {
    bodies: await Promise.all(bodies.map(packOf)),
    lines: bodies.flat(),
    storeOthers: ({ repository }: Harness) => {
      for (const { orderId } of messages.flat()) repository.stored.set(orderId, { contentHash: 'v1:other' });
    },
  };
}

/** Leases of a second, or what a test makes of it, extended four times a second. */
const SHORT_LEASE = {
  VISIBILITY_TIMEOUT_SECONDS: 1,
  HEARTBEAT_SECONDS: 0.25,
  HANDLING_TIMEOUT_SECONDS: 0.2,
};

describe('a DLQ that is slow', () => {
  test('consumer, when settling outlives the lease, sends each order of packed messages to the DLQ once', async () => {
    const { bodies, lines, storeOthers } = await conflicts(20, 40);
    const harness = start({ ...SHORT_LEASE, VISIBILITY_TIMEOUT_SECONDS: 3, MAX_IN_WORK: 20 }, (prepared) => {
      const { sqs } = prepared;
      storeOthers(prepared);
      sqs.redelivers = true;
      sqs.intercept = async ({ operation }) => {
        if (operation === 'SendMessageBatch') await sleep(200);
      };
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(20), 20_000);
    expect(harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody).toSorted()).toEqual(
      lines.toSorted(),
    );
    expect(harness.sqs.waiting).toEqual([]);
    expect(harness.sqs.invisible).toBe(0);
    expect(await count(harness, 'received')).toBe(20);
    expect(await count(harness, 'lostLeases')).toBe(0);
    expect(sendsTo(harness, 'dlq')).toHaveLength(80);
  });
});

describe('a DLQ that hangs', () => {
  test('consumer, after the store was away for a moment, stores what comes while unreadable messages wait for the DLQ', async () => {
    const bodies = await Promise.all(Array.from({ length: 30 }, () => bodyOf(anOrder())));
    const outage = { OUTAGE_HOLD_SECONDS: 0, OUTAGE_RELEASE_MIN_SECONDS: 0, OUTAGE_RELEASE_MAX_SECONDS: 1 };
    const harness = start({ ...outage, MAX_IN_WORK: 20, POLLERS: 2 }, ({ sqs }) => {
      sqs.redelivers = true;
      sqs.intercept = ({ operation }) =>
        operation === 'SendMessageBatch' ? new Promise(() => {}) : undefined;
      for (let n = 0; n < 3; n++) sqs.put(`unreadable ${n}`);
    });
    const { repository, sqs, gate } = harness;
    await eventually(() => expect(sendsTo(harness, 'dlq')).not.toEqual([]));
    const away = () => {
      throw new StoreUnavailableError('away');
    };
    repository.beforeSave = away;
    repository.beforeRehearse = away;
    sqs.put(bodies[0] as string);
    // By then it is released, and no poll is under way: nothing that was received can show that the store is back.
    const opened = () => harness.lines.filter(({ message }) => message === 'breaker opened').length;
    await eventually(() => expect(opened()).toBeGreaterThan(20));
    repository.beforeSave = () => {};
    repository.beforeRehearse = () => {};
    for (const body of bodies.slice(1)) sqs.put(body);
    await eventually(() => expect(repository.stored.size).toBe(30));
    await eventually(() => expect(gate.doubt).toBeUndefined());
    await eventually(() => expect(harness.leases.size).toBe(3));
  });

  test('consumer, flooded with unreadable messages, receives no more than MAX_IN_WORK, and settles all when the DLQ is back', async () => {
    const answer = Promise.withResolvers<void>();
    const harness = start(
      { ...SHORT_LEASE, VISIBILITY_TIMEOUT_SECONDS: 2, MAX_IN_WORK: 20, POLLERS: 3 },
      ({ sqs }) => {
        sqs.redelivers = true;
        sqs.intercept = ({ operation }) => (operation === 'SendMessageBatch' ? answer.promise : undefined);
        for (let n = 0; n < 300; n++) sqs.put(`unreadable ${n}`);
      },
    );
    // Longer than a lease lasts, or until too many are received.
    await eventually(async () =>
      expect(beats(harness) >= 10 * 20 || Number(await count(harness, 'received')) > 20).toBe(true),
    );
    expect(await count(harness, 'received')).toBe(20);
    expect(harness.leases.size).toBe(20);
    expect(harness.watchdog.overdue()).toEqual([]);
    answer.resolve();
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(300));
    expect(new Set(harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody)).size).toBe(300);
    expect(harness.sqs.deadLetters).toHaveLength(300);
    expect(await count(harness, 'received')).toBe(300);
    await eventually(() => expect(harness.leases.size).toBe(0));
  });

  test('consumer, while a copy is on its way, extends the lease, and no longer when it deletes', async () => {
    const answer = Promise.withResolvers<void>();
    const harness = start(SHORT_LEASE, ({ sqs }) => {
      sqs.intercept = ({ operation }) => (operation === 'SendMessageBatch' ? answer.promise : undefined);
      sqs.put('unreadable');
    });
    await eventually(() => expect(beats(harness)).toBeGreaterThanOrEqual(6));
    answer.resolve();
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const operations = harness.sqs.calls.map(({ operation }) => operation);
    expect(operations.lastIndexOf('ChangeMessageVisibilityBatch')).toBeLessThan(
      operations.indexOf('DeleteMessageBatch'),
    );
    expect(harness.leases.size).toBe(0);
  });

  test('consumer, when the lease is lost between copies, sends no more of them and counts the lease', async () => {
    const { bodies, storeOthers } = await conflicts(1, 100);
    const answer = Promise.withResolvers<void>();
    const harness = start(SHORT_LEASE, (prepared) => {
      const { sqs } = prepared;
      storeOthers(prepared);
      sqs.intercept = ({ operation, input }) => {
        if (operation === 'SendMessageBatch') return answer.promise;
        if (operation === 'ChangeMessageVisibilityBatch')
          return {
            Failed: input.Entries?.map(({ Id }) => ({
              Id,
              Code: 'ReceiptHandleIsInvalid',
              SenderFault: true,
            })),
          };
        return undefined;
      };
      sqs.put(bodies[0] as string);
    });
    await eventually(() => expect(beats(harness)).toBeGreaterThan(0));
    await eventually(() => expect([...harness.leases.leases].map(({ lost }) => lost)).toEqual([true]));
    const underWay = sendsTo(harness, 'dlq').flatMap(({ input }) => input.Entries ?? []).length;
    answer.resolve();
    await eventually(async () => expect(await count(harness, 'lostLeases')).toBe(1));
    expect(underWay).toBeLessThan(100);
    expect(harness.sqs.deadLetters).toHaveLength(underWay);
    expect(harness.sqs.deletedHandles()).toEqual([]);
  });

  test('consumer, stopped meanwhile, releases the messages within the grace period and sends no more', async () => {
    const answer = Promise.withResolvers<void>();
    const { bodies, storeOthers } = await conflicts(1, 100);
    const harness = start({}, (prepared) => {
      storeOthers(prepared);
      prepared.sqs.intercept = ({ operation }) =>
        operation === 'SendMessageBatch' ? answer.promise : undefined;
      prepared.sqs.put(bodies[0] as string);
      prepared.sqs.put('unreadable');
    });
    await eventually(() => expect(sendsTo(harness, 'dlq').length).toBeGreaterThan(0));
    const begin = performance.now();
    expect(await harness.consumer.stop({ timeoutMs: 5_300 })).toBe(2);
    expect(performance.now() - begin).toBeLessThan(8_000);
    expect(
      harness.sqs.entries('ChangeMessageVisibilityBatch').map(({ VisibilityTimeout }) => VisibilityTimeout),
    ).toEqual([0, 0]);
    const sends = sendsTo(harness, 'dlq').length;
    answer.resolve();
    await eventually(() => expect(harness.sqs.deadLetters.length).toBeGreaterThan(0));
    expect(sendsTo(harness, 'dlq')).toHaveLength(sends);
  });
});

describe('copies', () => {
  test('consumer, when SQS refuses a batch for one line, sends the lines of that batch by themselves', async () => {
    const REFUSED = 'a line that this SQS takes in no message';
    const lines = Array.from({ length: 35 }, (_, n) => (n === 17 ? REFUSED : `no order ${n}`));
    const body = await packOf(lines);
    const harness = start({}, ({ sqs }) => {
      sqs.intercept = ({ operation, input }) => {
        if (
          operation === 'SendMessageBatch' &&
          input.Entries?.some(({ MessageBody }) => MessageBody === REFUSED)
        )
          throw Object.assign(new Error('not taken'), {
            name: 'InvalidMessageContents',
            $metadata: { httpStatusCode: 400 },
          });
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const letters = harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody);
    expect(letters.toSorted()).toEqual([...lines.filter((line) => line !== REFUSED), body].toSorted());
    // Four batches, of which one is taken apart, and the whole for the line that fits into no message.
    expect(sendsTo(harness, 'dlq')).toHaveLength(4 + 10 + 1);
  });

  test('consumer, when the orders of a packed message fail for a while, requeues them in batches of ten', async () => {
    const orders = await Promise.all(Array.from({ length: 30 }, () => bodyOf(anOrder())));
    const body = await packOf(orders);
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = () => {
        throw new Error('for a while');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const sentBack = sendsTo(harness, 'queue').flatMap(({ input }) => input.Entries ?? []);
    expect(sentBack.map(({ MessageBody }) => MessageBody)).toEqual(orders);
    expect(sendsTo(harness, 'queue')).toHaveLength(3);
    expect(harness.sqs.deadLetters).toEqual([]);
  });

  test('consumer, when it requeues the orders of a packed message, keeps them in its group', async () => {
    const body = await packOf(await Promise.all([anOrder(), anOrder()].map(bodyOf)));
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = () => {
        throw new Error('for a while');
      };
      const { Attributes = {} } = sqs.put(body);
      Attributes.MessageGroupId = 'a-client';
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const sentBack = sendsTo(harness, 'queue').flatMap(({ input }) => input.Entries ?? []);
    expect(sentBack).toHaveLength(2);
    for (const entry of sentBack) expect(entry).toMatchObject({ MessageGroupId: 'a-client' });
    const asked = harness.sqs.calls.find(({ operation }) => operation === 'ReceiveMessage')?.input;
    expect(asked).toMatchObject({ MessageSystemAttributeNames: expect.arrayContaining(['MessageGroupId']) });
  });

  test('consumer, when a packed message is redelivered after one copy failed, sends only that copy', async () => {
    const lines = Array.from({ length: 15 }, (_, n) => `no order ${n}`);
    const body = await packOf(lines);
    let fails = true;
    const harness = start({ ...SHORT_LEASE, HEARTBEAT_SECONDS: 0.5 }, ({ sqs }) => {
      sqs.redelivers = true;
      sqs.intercept = ({ operation, input }) => {
        if (operation === 'SendMessageBatch' && fails && input.Entries?.length === 5) {
          fails = false;
          throw new Error('DLQ away');
        }
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody).toSorted()).toEqual(
      lines.toSorted(),
    );
    expect(await count(harness, 'received')).toBe(2);
  });

  test('consumer, when only the delete failed after the copy was sent, deletes the message at its next receive', async () => {
    let fails = true;
    const harness = start(SHORT_LEASE, ({ sqs }) => {
      sqs.redelivers = true;
      sqs.intercept = ({ operation }) => {
        if (operation === 'DeleteMessageBatch' && fails) {
          fails = false;
          throw new Error('SQS away');
        }
      };
      sqs.put('unreadable');
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    await eventually(() => expect(harness.sqs.invisible).toBe(0));
    expect(harness.sqs.deadLetters).toHaveLength(1);
    expect(deadLetterOf(harness)).toMatchObject({ reason: 'NOT_JSON', attempts: 1 });
  });

  test('consumer, when a message is delivered twice at once, sends one copy', async () => {
    const answer = Promise.withResolvers<void>();
    const harness = start({}, ({ sqs }) => {
      sqs.intercept = ({ operation }) => (operation === 'SendMessageBatch' ? answer.promise : undefined);
      const { MessageId } = sqs.put('unreadable');
      sqs.put('unreadable', { MessageId });
    });
    await eventually(() => expect(harness.leases.size).toBe(2));
    await eventually(() => expect(sendsTo(harness, 'dlq').length).toBeGreaterThan(0));
    answer.resolve();
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    expect(harness.sqs.deadLetters).toHaveLength(1);
  });
});
