import { packMessages } from '@orders/shared/order/packed-message.ts';
import { describe, expect, test, vi } from 'vitest';
import { deadLetterOf, type Harness, startHarness as start } from '../../testing/consumer-harness.ts';
import { anOrder, bodyOf } from '../../testing/orders.ts';
import { OrderLockedError, OrderNotStorableError, StoreUnavailableError } from '../domain/errors.ts';
import { Watchdog } from './watchdog.ts';

const eventually = (assertion: () => void | Promise<void>) =>
  vi.waitFor(assertion, { timeout: 30_000, interval: 5 });
const NOT_CONFIRMED = 'outcome not confirmed by SQS, the message will come again';

describe('outcomes', () => {
  test('consumer, with a batch of good orders, stores them in one call and deletes them', async () => {
    const orders = Array.from({ length: 10 }, () => anOrder());
    const bodies = await Promise.all(orders.map(bodyOf));
    const harness = start({}, ({ sqs }) => bodies.map((body) => sqs.put(body)));
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(10));
    expect(harness.repository.batches).toEqual([orders.map(({ orderId }) => orderId)]);
    expect(harness.sqs.deadLetters).toEqual([]);
  });

  test('consumer, when the same order comes twice in one batch, stores it once and deletes both messages', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({}, ({ sqs }) => [sqs.put(body), sqs.put(body)]);
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    expect(harness.repository.stored.size).toBe(1);
  });

  test('consumer, when the same id comes with other content, dead-letters it with its reason and keeps the first', async () => {
    const order = anOrder();
    const [first, second] = [await bodyOf(order), await bodyOf({ ...order, customerId: 'C-2' })];
    const harness = start({}, ({ sqs }) => [sqs.put(first), sqs.put(second)]);
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    expect(harness.sqs.deadLetters).toHaveLength(1);
    expect(deadLetterOf(harness)).toMatchObject({ reason: 'CONFLICT', attempts: 1, codeVersion: '1.2.3' });
    expect(harness.sqs.deadLetters[0]?.MessageBody).toBe(second);
  });

  test('consumer sends a message that is not JSON to the DLQ before it deletes it', async () => {
    const harness = start({}, ({ sqs }) => sqs.put('{"truncated'));
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const operations = harness.sqs.calls.map(({ operation }) => operation);
    expect(operations.indexOf('SendMessageBatch')).toBeLessThan(operations.indexOf('DeleteMessageBatch'));
    expect(deadLetterOf(harness)).toMatchObject({
      reason: 'NOT_JSON',
      errorClass: 'UnreadableMessageError',
      failures: 0,
    });
  });

  test('consumer, when the DLQ does not take the message, does not delete it', async () => {
    const harness = start({}, ({ sqs }) => {
      sqs.intercept = ({ operation }) => {
        if (operation === 'SendMessageBatch') throw new Error('DLQ away');
      };
      sqs.put('rubbish');
    });
    await eventually(() => expect(harness.lines.some(({ outcome }) => outcome === 'rejected')).toBe(true));
    expect(harness.sqs.deletedHandles()).toEqual([]);
  });

  test('consumer, with a poison order in a batch, stores the others and has only the poison redelivered', async () => {
    const orders = Array.from({ length: 10 }, () => anOrder());
    const bodies = await Promise.all(orders.map(bodyOf));
    const poison = orders[6]?.orderId;
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = (batch) => {
        if (batch.some(({ order }) => order.orderId === poison)) throw new Error('a fault of this order');
      };
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(9));
    await eventually(() => expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1));
    expect(harness.sqs.entries('ChangeMessageVisibilityBatch')[0]?.VisibilityTimeout).toBe(1);
    expect(harness.repository.stored.size).toBe(9);
  });

  test('consumer dead-letters at once an order that the store refuses for what it contains', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = () => {
        throw new OrderNotStorableError('value out of range');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(deadLetterOf(harness)).toMatchObject({
      reason: 'ORDER_NOT_STORABLE',
      detail: 'value out of range',
      failures: 0,
    });
    expect(harness.repository.batches).toHaveLength(1);
  });

  test('consumer, when a message failed MAX_FAILURES times, dead-letters it with the last error', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({ MAX_FAILURES: 3 }, ({ sqs, repository }) => {
      repository.beforeSave = () => {
        throw new Error('value out of range');
      };
      const { MessageId = '' } = sqs.put(body);
      sqs.intercept = ({ operation }) => {
        // SQS redelivers it as soon as it is released.
        if (operation === 'ChangeMessageVisibilityBatch') sqs.put(body, { MessageId });
      };
    });
    await eventually(() => expect(harness.sqs.deadLetters).toHaveLength(1));
    expect(deadLetterOf(harness)).toMatchObject({
      reason: 'MAX_FAILURES',
      detail: 'value out of range',
      failures: 3,
    });
    expect(harness.repository.batches).toHaveLength(3);
  });

  test('consumer, when a message fails at its last receive, dead-letters it with its reason before SQS moves it without', async () => {
    const body = await bodyOf(anOrder());
    const lastReceive = { ApproximateReceiveCount: '20', SentTimestamp: String(Date.now()) };
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = () => {
        throw new Error('for ever, on every consumer');
      };
      sqs.put(body, { Attributes: lastReceive });
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(deadLetterOf(harness)).toMatchObject({ reason: 'MAX_RECEIVES', failures: 1, attempts: 20 });
  });

  test('consumer, with a message of a newer version, releases it for a minute and counts no failure', async () => {
    const body = (await bodyOf(anOrder())).replace('order.placed.v1', 'order.placed.v4');
    const harness = start({}, ({ sqs }) => sqs.put(body));
    await eventually(() => expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1));
    expect(harness.sqs.entries('ChangeMessageVisibilityBatch')[0]?.VisibilityTimeout).toBe(60);
    expect(harness.sqs.deadLetters).toEqual([]);
  });

  test('consumer, when no newer consumer took a newer message for an hour, dead-letters it', async () => {
    const body = (await bodyOf(anOrder())).replace('order.placed.v1', 'order.placed.v9');
    const anHourAgo = String(Date.now() - 3_600_000);
    const harness = start({}, ({ sqs }) =>
      sqs.put(body, {
        Attributes: { ApproximateReceiveCount: '10', ApproximateFirstReceiveTimestamp: anHourAgo },
      }),
    );
    await eventually(() => expect(harness.sqs.deadLetters).toHaveLength(1));
    expect(deadLetterOf(harness)).toMatchObject({ reason: 'NEWER_VERSION', attempts: 10 });
  });

  test.each([
    ['a clock an hour ahead', { receives: 1, msAgo: 3_600_000, delaySeconds: 60 }],
    [
      'nine receives in a second, as when consumers restart',
      { receives: 10, msAgo: 1_000, delaySeconds: 600 },
    ],
  ])(
    'consumer, with a newer message and %s, leaves it to a newer consumer',
    async (_, { receives, msAgo, delaySeconds }) => {
      const body = (await bodyOf(anOrder())).replace('order.placed.v1', 'order.placed.v9');
      const harness = start({}, ({ sqs }) =>
        sqs.put(body, {
          Attributes: {
            ApproximateReceiveCount: String(receives),
            ApproximateFirstReceiveTimestamp: String(Date.now() - msAgo),
          },
        }),
      );
      await eventually(() => expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1));
      expect(harness.sqs.entries('ChangeMessageVisibilityBatch')[0]?.VisibilityTimeout).toBe(delaySeconds);
      expect(harness.sqs.deadLetters).toEqual([]);
    },
  );

  test('consumer keeps all ten attributes of a foreign message on the way to the DLQ', async () => {
    const attributes = Object.fromEntries(
      Array.from({ length: 10 }, (_, n) => [`a${n}`, { DataType: 'String', StringValue: `v${n}` }]),
    );
    const harness = start({}, ({ sqs }) => sqs.put('rubbish', { MessageAttributes: attributes }));
    await eventually(() => expect(harness.sqs.deadLetters).toHaveLength(1));
    const sent = harness.sqs.deadLetters[0]?.MessageAttributes ?? {};
    expect(Object.keys(sent)).toHaveLength(10);
    expect(deadLetterOf(harness).movedAttributes).toEqual({ a9: { DataType: 'String', StringValue: 'v9' } });
  });

  test('consumer, when one delete of a batch fails, sends only that one again', async () => {
    const bodies = await Promise.all([anOrder(), anOrder()].map(bodyOf));
    let refused = false;
    const harness = start({}, ({ sqs }) => {
      sqs.intercept = ({ operation, input }) => {
        if (operation !== 'DeleteMessageBatch' || refused || input.Entries?.length !== 2) return;
        refused = true;
        return {
          Successful: [{ Id: '0' }],
          Failed: [{ Id: '1', Code: 'InternalError', SenderFault: false }],
        };
      };
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(3));
    expect(harness.sqs.deletedHandles().slice(2)).toEqual(harness.sqs.deletedHandles().slice(1, 2));
  });
});

describe('orders stored late', () => {
  const lateCount = async ({ metrics }: Harness) => (await metrics.ordersStoredLate.get()).values[0]?.value;
  const sentAgo = ({ sqs }: Harness, ms: number, body: string) => {
    const { Attributes } = sqs.put(body);
    Object.assign(Attributes ?? {}, { SentTimestamp: String(Date.now() - ms) });
  };

  test('consumer counts an order that was sent more than 30 s ago, and no other', async () => {
    const bodies = await Promise.all([anOrder(), anOrder()].map(bodyOf));
    const harness = start({}, (started) => {
      sentAgo(started, 31_000, bodies[0] ?? '');
      sentAgo(started, 5_000, bodies[1] ?? '');
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    expect(await lateCount(harness)).toBe(1);
  });

  test('consumer does not count a late duplicate, which was stored before', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({}, (started) => {
      sentAgo(started, 0, body);
      sentAgo(started, 31_000, body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    expect(harness.repository.stored.size).toBe(1);
    expect(await lateCount(harness)).toBe(0);
  });
});

describe('packed messages', () => {
  const packOf = async (...bodies: string[]) => (await packMessages(bodies)).body;
  const sentBack = ({ sqs }: Harness) =>
    sqs.calls
      .filter(({ operation, input }) => operation === 'SendMessageBatch' && input.QueueUrl === 'queue')
      .flatMap(({ input }) => input.Entries ?? [])
      .map(({ MessageBody }) => MessageBody);

  test('consumer, of packed messages, stores all orders in one call and deletes each message once', async () => {
    const orders = Array.from({ length: 6 }, () => anOrder());
    const bodies = await Promise.all(orders.map(bodyOf));
    const [first, second] = [await packOf(...bodies.slice(0, 4)), await packOf(...bodies.slice(4))];
    const harness = start({}, ({ sqs }) => [sqs.put(first), sqs.put(second)]);
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(2));
    expect(harness.repository.batches).toEqual([orders.map(({ orderId }) => orderId)]);
    expect(sentBack(harness)).toEqual([]);
  });

  test('consumer, when one order of a packed message can never be stored, dead-letters it alone and stores the others', async () => {
    const [good, bad] = [anOrder(), anOrder()];
    const refused = await bodyOf(bad);
    const body = await packOf('{"truncated', await bodyOf(good), refused);
    const harness = start({}, ({ sqs, repository }) => {
      sqs.deliversWhatIsSent = true;
      repository.beforeSave = (orders) => {
        if (orders.some(({ order }) => order.orderId === bad.orderId)) throw new OrderNotStorableError('no');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deadLetters).toHaveLength(2));
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody).toSorted()).toEqual(
      ['{"truncated', refused].toSorted(),
    );
    const reasons = [deadLetterOf(harness, 0), deadLetterOf(harness, 1)].map(({ reason }) => reason);
    expect(reasons.toSorted()).toEqual(['NOT_JSON', 'ORDER_NOT_STORABLE']);
    expect([...harness.repository.stored.keys()]).toEqual([good.orderId]);
    expect(sentBack(harness)).toEqual([]);
  });

  test('consumer dead-letters a packed message inside a packed message, and does not unpack it', async () => {
    const good = anOrder();
    const inner = await packOf(await bodyOf(anOrder()), await bodyOf(anOrder()));
    const body = await packOf(inner, await bodyOf(good));
    const harness = start({}, ({ sqs }) => {
      sqs.deliversWhatIsSent = true;
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody)).toEqual([inner]);
    expect(deadLetterOf(harness)).toMatchObject({ reason: 'UNREADABLE_CONTENT' });
    expect(sentBack(harness)).toEqual([]);
  });

  test.each([
    ['an empty line', ''],
    ['a control character', '{"a":"\u0007"}'],
  ])(
    'consumer, when a packed message holds %s, which SQS accepts in no message, dead-letters the whole and stores the others',
    async (_, line) => {
      const order = anOrder();
      const body = await packOf(await bodyOf(order), line);
      const harness = start({}, ({ sqs }) => {
        sqs.intercept = ({ operation, input }) => {
          const { Id, MessageBody } = input.Entries?.[0] ?? {};
          if (operation === 'SendMessageBatch' && MessageBody === line)
            return { Failed: [{ Id, Code: 'InvalidMessageContents', SenderFault: true }] };
        };
        sqs.put(body);
      });
      await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
      expect(harness.sqs.deadLetters.map(({ MessageBody }) => MessageBody)).toEqual([body]);
      expect(deadLetterOf(harness)).toMatchObject({ reason: 'NOT_JSON' });
      expect([...harness.repository.stored.keys()]).toEqual([order.orderId]);
    },
  );

  test('consumer, when one order of a packed message fails for a while, retries only that one', async () => {
    const [good, unlucky] = [anOrder(), anOrder()];
    const body = await packOf(await bodyOf(good), await bodyOf(unlucky));
    let failures = 3;
    const harness = start({ RETRY_BACKOFF_MIN_SECONDS: 0 }, ({ sqs, repository }) => {
      sqs.deliversWhatIsSent = true;
      repository.beforeSave = (orders) => {
        if (orders.some(({ order }) => order.orderId === unlucky.orderId) && failures-- > 0)
          throw new Error('for a while');
      };
      sqs.put(body);
    });
    await eventually(() => expect(sentBack(harness)).toEqual([expect.stringContaining(unlucky.orderId)]));
    expect(harness.repository.stored.has(good.orderId)).toBe(true);
    expect(harness.sqs.deadLetters).toEqual([]);
  });

  test('consumer, while the store is down, releases a packed message as a whole', async () => {
    const body = await packOf(await bodyOf(anOrder()), '{"truncated');
    const harness = start({ OUTAGE_HOLD_SECONDS: 0 }, ({ sqs, repository }) => {
      repository.beforeSave = () => {
        throw new StoreUnavailableError('down');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1));
    expect(sentBack(harness)).toEqual([]);
    expect(harness.sqs.deletedHandles()).toEqual([]);
  });

  test('consumer, when another transaction locks one order of a packed message, requeues that one and stores the others', async () => {
    const [good, held] = [anOrder(), anOrder({ customerId: 'held' })];
    const body = await packOf(await bodyOf(good), await bodyOf(held));
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = (orders) => {
        if (orders.some(({ order }) => order.customerId === 'held')) throw new OrderLockedError('held');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(sentBack(harness)).toEqual([expect.stringContaining(held.orderId)]);
    expect([...harness.repository.stored.keys()]).toEqual([good.orderId]);
  });

  test('consumer, when what failed cannot be sent by itself, keeps the packed message', async () => {
    const body = await packOf(await bodyOf(anOrder()), '{"truncated');
    const harness = start({}, ({ sqs }) => {
      sqs.intercept = ({ operation }) => {
        if (operation === 'SendMessageBatch') throw new Error('unreachable');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.lines.map(({ message }) => message)).toContain(NOT_CONFIRMED));
    expect(harness.repository.stored.size).toBe(1);
    expect(harness.sqs.deletedHandles()).toEqual([]);
  });
});

describe('outage of the store', () => {
  const down = () => {
    throw new StoreUnavailableError('down');
  };

  test('consumer, while the store is down, stops polling and dead-letters nothing', async () => {
    const body = await bodyOf(anOrder());
    let messageId = '';
    const harness = start({ POLLERS: 3, OUTAGE_HOLD_SECONDS: 0 }, ({ sqs, repository }) => {
      repository.beforeSave = down;
      repository.beforeRehearse = down;
      messageId = sqs.put(body).MessageId ?? '';
    });
    await eventually(() => expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1));
    const delay = harness.sqs.entries('ChangeMessageVisibilityBatch')[0]?.VisibilityTimeout;
    expect(delay).toBeGreaterThanOrEqual(30);
    expect(delay).toBeLessThanOrEqual(60);
    // Polls that were under way may still end; then, over several probes, no new one begins.
    const trials = () => harness.repository.rehearsals;
    await eventually(() => expect(trials()).toBeGreaterThanOrEqual(2));
    const polls = harness.sqs.calls.filter(({ operation }) => operation === 'ReceiveMessage').length;
    await eventually(() => expect(trials()).toBeGreaterThanOrEqual(4));
    expect(harness.sqs.calls.filter(({ operation }) => operation === 'ReceiveMessage')).toHaveLength(polls);
    expect(harness.sqs.deadLetters).toEqual([]);
    expect(harness.failures.get(messageId)).toBe(0);
  });

  test('consumer, when the store comes back soon, stores what it held without a release', async () => {
    const body = await bodyOf(anOrder());
    let outage = true;
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = () => (outage ? down() : undefined);
      repository.beforeRehearse = () => (outage ? down() : undefined);
      sqs.put(body);
    });
    await eventually(() => expect(harness.repository.batches).toHaveLength(1));
    outage = false;
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toEqual([]);
    expect(harness.repository.stored.size).toBe(1);
  });

  test('consumer, while trials pass and saves fail, receives one message at a time and releases each for longer than before', async () => {
    const bodies = await Promise.all(Array.from({ length: 30 }, () => bodyOf(anOrder())));
    const harness = start({ OUTAGE_HOLD_SECONDS: 0, POLLERS: 3 }, ({ sqs, repository }) => {
      repository.beforeSave = down;
      for (const body of bodies)
        sqs.put(body, { Attributes: { ApproximateReceiveCount: '4', SentTimestamp: String(Date.now()) } });
    });
    const releases = () => harness.sqs.entries('ChangeMessageVisibilityBatch');
    await eventually(() => expect(releases().length).toBeGreaterThanOrEqual(13));
    const asked = harness.sqs.calls
      .filter(({ operation }) => operation === 'ReceiveMessage')
      .map(({ input }) => input['MaxNumberOfMessages']);
    expect(asked.slice(-3)).toEqual([1, 1, 1]);
    for (const { VisibilityTimeout } of releases()) {
      expect(VisibilityTimeout).toBeGreaterThanOrEqual(8 * 30);
      expect(VisibilityTimeout).toBeLessThanOrEqual(8 * 60);
    }
    expect(harness.gate.doubt).toBeDefined();
    expect(harness.lines.some(({ message }) => message === 'breaker closed')).toBe(false);
  });

  test('consumer, when another transaction locks an order, releases it, counts no failure and goes on', async () => {
    const [held, free] = [anOrder({ customerId: 'held' }), anOrder()];
    let messageId = '';
    const bodies = [await bodyOf(held), await bodyOf(free)] as const;
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = (orders) => {
        if (orders.some(({ order }) => order.customerId === 'held')) throw new OrderLockedError('held');
      };
      messageId = sqs.put(bodies[0]).MessageId ?? '';
      sqs.put(bodies[1]);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    await eventually(() => expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1));
    const delay = harness.sqs.entries('ChangeMessageVisibilityBatch')[0]?.VisibilityTimeout;
    expect(delay).toBeGreaterThanOrEqual(30);
    expect(delay).toBeLessThanOrEqual(60);
    expect(harness.failures.get(messageId)).toBe(0);
    expect(harness.gate.doubt).toBeUndefined();
  });

  test('consumer, when an order is locked at its last receive, dead-letters it with its reason', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = () => {
        throw new OrderLockedError('held');
      };
      sqs.put(body, { Attributes: { ApproximateReceiveCount: '20', SentTimestamp: String(Date.now()) } });
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    expect(deadLetterOf(harness)).toMatchObject({ reason: 'ORDER_LOCKED', attempts: 20, failures: 0 });
  });

  test('consumer, after an outage, processes what waited', async () => {
    const bodies = await Promise.all(Array.from({ length: 30 }, () => bodyOf(anOrder())));
    let outage = true;
    const harness = start({ OUTAGE_HOLD_SECONDS: 0, POLLERS: 3 }, ({ sqs, repository }) => {
      repository.beforeSave = () => (outage ? down() : undefined);
      repository.beforeRehearse = () => (outage ? down() : undefined);
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() =>
      expect(harness.sqs.entries('ChangeMessageVisibilityBatch').length).toBeGreaterThan(0),
    );
    outage = false;
    const released = () => harness.sqs.entries('ChangeMessageVisibilityBatch').length;
    await eventually(() => expect(harness.repository.stored.size + released()).toBe(30));
    expect(harness.repository.stored.size).toBeGreaterThan(0);
    expect(harness.sqs.deadLetters).toEqual([]);
  });

  test('consumer, after an outage, is not held up by a flood of messages that need no store', async () => {
    const [early, late] = [await bodyOf(anOrder()), await bodyOf(anOrder())];
    let outage = true;
    const harness = start({ OUTAGE_HOLD_SECONDS: 0, MAX_IN_WORK: 100 }, ({ sqs, repository }) => {
      repository.beforeSave = () => (outage ? down() : undefined);
      repository.beforeRehearse = () => (outage ? down() : undefined);
      sqs.put(early);
    });
    await eventually(() => expect(harness.gate.open).toBe(false));
    for (let index = 0; index < 200; index++) harness.sqs.put('{"truncated');
    harness.sqs.put(late);
    outage = false;
    await eventually(() => expect(harness.repository.stored.size).toBe(1));
    expect(harness.gate.doubt).toBeUndefined();
    const polls = harness.sqs.calls.filter(({ operation }) => operation === 'ReceiveMessage');
    expect(polls.length).toBeLessThan(40);
  });
});

describe('polling', () => {
  test('poller, when polls fail, backs off from the minimum to the maximum and goes on', async () => {
    const body = await bodyOf(anOrder());
    let failures = 4;
    const times: number[] = [];
    const harness = start({ POLLERS: 1, POLL_BACKOFF_MIN_MS: 20, POLL_BACKOFF_MAX_MS: 60 }, ({ sqs }) => {
      sqs.intercept = ({ operation }) => {
        if (operation !== 'ReceiveMessage') return;
        times.push(performance.now());
        if (failures-- > 0) throw new Error('SQS away');
      };
      sqs.put(body);
    });
    await eventually(() => expect(harness.repository.stored.size).toBe(1));
    const waits = times.slice(1, 5).map((time, index) => time - (times[index] ?? 0));
    expect(waits[0]).toBeGreaterThanOrEqual(9);
    expect(waits[2]).toBeGreaterThanOrEqual(29);
    expect(harness.lines.filter(({ message }) => message === 'poll failed')).toHaveLength(4);
  });

  test('poller, with fewer free places than a full poll, asks for no more than these', async () => {
    const bodies = await Promise.all(Array.from({ length: 7 }, () => bodyOf(anOrder())));
    let finish = () => {};
    const blocked = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const harness = start({ MAX_IN_WORK: 12, POLLERS: 1 }, ({ sqs, repository }) => {
      repository.beforeSave = () => blocked;
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() =>
      expect(
        harness.sqs.calls.filter(({ operation }) => operation === 'ReceiveMessage').length,
      ).toBeGreaterThanOrEqual(2),
    );
    const asked = harness.sqs.calls
      .filter(({ operation }) => operation === 'ReceiveMessage')
      .map(({ input }) => input['MaxNumberOfMessages']);
    expect(asked.slice(0, 2)).toEqual([10, 5]);
    finish();
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(7));
  });
});

test('consumer, when a save hangs for as long as a statement may, does not count as stuck', async () => {
  const expected = vi.spyOn(Watchdog.prototype, 'expect');
  const body = await bodyOf(anOrder());
  const harness = start({ DATABASE_STATEMENT_TIMEOUT_MS: 600_000, OUTAGE_HOLD_SECONDS: 30 }, ({ sqs }) =>
    sqs.put(body),
  );
  await eventually(() => expect(harness.repository.stored.size).toBe(1));
  const [, withinMs] = expected.mock.calls.find(([activity]) => activity.startsWith('batch-')) ?? [];
  expect(withinMs).toBeGreaterThan(30_000 + 600_000);
  expected.mockRestore();
});

describe('an SQS that does not delete', () => {
  test('consumer, while no delete is answered, receives only as much as its places and pending deletes allow', async () => {
    const bodies = await Promise.all(Array.from({ length: 300 }, () => bodyOf(anOrder())));
    const answer = Promise.withResolvers<void>();
    const harness = start({ MAX_IN_WORK: 20, POLLERS: 2 }, ({ sqs }) => {
      sqs.intercept = ({ operation }) => (operation === 'DeleteMessageBatch' ? answer.promise : undefined);
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() => expect(harness.repository.stored.size).toBeGreaterThanOrEqual(100));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(harness.repository.stored.size).toBeLessThanOrEqual(120);
    expect(harness.watchdog.overdue()).toEqual([]);
    answer.resolve();
    await eventually(() => expect(harness.repository.stored.size).toBe(300));
  });

  test('consumer, stopped while deletes hang, stops in time all the same', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({}, ({ sqs }) => {
      sqs.intercept = ({ operation }) =>
        operation === 'DeleteMessageBatch' ? new Promise(() => {}) : undefined;
      sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const begin = performance.now();
    await harness.consumer.stop({ timeoutMs: 5_300 });
    expect(performance.now() - begin).toBeLessThan(5_800);
  });
});

describe('leases', () => {
  test('consumer, when handling takes longer than a heartbeat, extends the lease and deletes in the end', async () => {
    const body = await bodyOf(anOrder());
    const harness = start(
      { VISIBILITY_TIMEOUT_SECONDS: 1, HEARTBEAT_SECONDS: 0.05, HANDLING_TIMEOUT_SECONDS: 0.2 },
      ({ sqs, repository }) => {
        repository.beforeSave = () =>
          eventually(() =>
            expect(sqs.entries('ChangeMessageVisibilityBatch').length).toBeGreaterThanOrEqual(3),
          );
        sqs.put(body);
      },
    );
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const operations = harness.sqs.calls.map(({ operation }) => operation);
    expect(operations.lastIndexOf('ChangeMessageVisibilityBatch')).toBeLessThan(
      operations.indexOf('DeleteMessageBatch'),
    );
  });

  test('consumer, when the lease has less left than handling takes, extends it before work starts', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({
      VISIBILITY_TIMEOUT_SECONDS: 20,
      HANDLING_TIMEOUT_SECONDS: 19.9,
      SQS_WAIT_TIME_SECONDS: 3,
      POLLERS: 1,
    });
    await eventually(() => expect(harness.sqs.calls).toHaveLength(1));
    // The lease counts from before the poll, so a message that arrives late in it has less left.
    const polledAt = performance.now();
    await eventually(() => expect(performance.now() - polledAt).toBeGreaterThan(150));
    harness.sqs.put(body);
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(1));
    const operations = harness.sqs.calls
      .map(({ operation }) => operation)
      .filter((name) => name !== 'ReceiveMessage');
    expect(operations).toEqual(['ChangeMessageVisibilityBatch', 'DeleteMessageBatch']);
  });

  test('consumer, when the lease cannot be made long enough, does not start to work on the message', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({ VISIBILITY_TIMEOUT_SECONDS: 20, HANDLING_TIMEOUT_SECONDS: 20 }, ({ sqs }) =>
      sqs.put(body),
    );
    await eventually(() =>
      expect(harness.lines.some(({ message }) => message === 'lease lost before work began')).toBe(true),
    );
    expect(harness.repository.batches).toEqual([]);
    expect(harness.sqs.deletedHandles()).toEqual([]);
  });

  test('consumer, when the lease is gone while the message is found to be a conflict, leaves the DLQ to the next one', async () => {
    const order = anOrder();
    const body = await bodyOf(order);
    const harness = start(
      { VISIBILITY_TIMEOUT_SECONDS: 1, HEARTBEAT_SECONDS: 0.05, HANDLING_TIMEOUT_SECONDS: 0.2 },
      ({ sqs, repository, leases }) => {
        repository.stored.set(order.orderId, { contentHash: 'v1:other' });
        repository.beforeSave = () =>
          eventually(() => expect([...leases.leases].every(({ lost }) => lost)).toBe(true));
        sqs.intercept = ({ operation }) =>
          operation === 'ChangeMessageVisibilityBatch'
            ? { Failed: [{ Id: '0', Code: 'ReceiptHandleIsInvalid', SenderFault: true }] }
            : undefined;
        sqs.put(body);
      },
    );
    await eventually(() => expect(harness.leases.size + harness.repository.batches.length).toBe(1));
    await eventually(async () => {
      const { values } = await harness.metrics.outcomes.get();
      expect(values.find(({ labels }) => labels.outcome === 'rejected')?.value).toBe(1);
    });
    await harness.consumer.stop({ timeoutMs: 6_000 });
    expect(harness.sqs.deadLetters).toEqual([]);
    expect(harness.sqs.deletedHandles()).toEqual([]);
  });
});

describe('a slow store', () => {
  test('consumer, where ten messages are too much for one statement, holds them and stores them in parts', async () => {
    const bodies = await Promise.all(Array.from({ length: 10 }, () => bodyOf(anOrder())));
    const harness = start({ POLLERS: 1 }, ({ sqs, repository }) => {
      repository.beforeSave = (orders) => {
        if (orders.length > 3) throw new StoreUnavailableError('statement timeout');
      };
      for (const body of bodies) sqs.put(body);
    });
    await eventually(() => expect(harness.sqs.deletedHandles()).toHaveLength(10));
    expect(harness.repository.batches.map(({ length }) => length)).toEqual([10, 5, 3, 3, 3, 1]);
    expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toEqual([]);
    expect(harness.sqs.calls.filter(({ operation }) => operation === 'ReceiveMessage').length).toBeLessThan(
      20,
    );
  });
});

describe('stop', () => {
  test('consumer, when stopped with a poll under way, lets it finish and processes what it brings', async () => {
    const body = await bodyOf(anOrder());
    const harness = start({ SQS_WAIT_TIME_SECONDS: 3, POLLERS: 1 });
    await eventually(() => expect(harness.sqs.calls).toHaveLength(1));
    const stopped = harness.consumer.stop({ timeoutMs: 20_000 });
    harness.sqs.put(body);
    expect(await stopped).toBe(0);
    expect(harness.repository.stored.size).toBe(1);
    expect(harness.sqs.deletedHandles()).toHaveLength(1);
    expect(harness.sqs.calls.filter(({ operation }) => operation === 'ReceiveMessage')).toHaveLength(1);
  });

  test('consumer, when work does not fit into the grace period, releases it at once and says how many', async () => {
    const body = await bodyOf(anOrder());
    let finish = () => {};
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        });
      sqs.put(body);
    });
    await eventually(() => expect(harness.repository.batches).toHaveLength(1));
    expect(await harness.consumer.stop({ timeoutMs: 5_050 })).toBe(1);
    expect(
      harness.sqs.entries('ChangeMessageVisibilityBatch').map(({ VisibilityTimeout }) => VisibilityTimeout),
    ).toEqual([0]);
    finish();
  });

  test('consumer, when stopped in an outage, releases what it holds instead of waiting for the store', async () => {
    const body = await bodyOf(anOrder());
    const down = () => {
      throw new StoreUnavailableError('down');
    };
    const harness = start({}, ({ sqs, repository }) => {
      repository.beforeSave = down;
      repository.beforeRehearse = down;
      sqs.put(body);
    });
    await eventually(() => expect(harness.repository.batches).toHaveLength(1));
    expect(await harness.consumer.stop({ timeoutMs: 20_000 })).toBe(0);
    expect(harness.sqs.entries('ChangeMessageVisibilityBatch')).toHaveLength(1);
    expect(harness.sqs.deadLetters).toEqual([]);
  });
});
