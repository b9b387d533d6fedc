import { GetQueueAttributesCommand, type SendMessageBatchCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { KeyUnavailableError } from '@orders/shared/encryption/errors.ts';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { decryptMessages } from '@orders/shared/order/encrypted-message.ts';
import { decodeOrderMessage, encodeOrderMessage, type OrderMessage } from '@orders/shared/order/message.ts';
import { contentHash } from '@orders/shared/order/order.ts';
import { MAX_PACKED_ORDERS, readableOrders, unpackMessages } from '@orders/shared/order/packed-message.ts';
import { createCircuitBreaker } from '@orders/shared/runtime/circuit-breaker.ts';
import { messageSizeBytes } from '@orders/shared/sqs/message-limits.ts';
import { MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES } from '@orders/shared/sqs/queues.ts';
import { aCipher, aKeyFile } from '@orders/shared/testing/cipher.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { anOrder } from '@orders/shared/testing/orders.ts';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { BufferFullError, OrderTooLargeError, QueueUnavailableError } from '../domain/errors.ts';
import { createProducerMetrics } from '../metrics.ts';
import { SqsOrderPublisher, type SqsOrderPublisherOptions } from './sqs-order-publisher.ts';

// Vitest's clock does not reach `node:timers/promises`.
vi.mock('node:timers/promises', () => ({
  setTimeout: (delayMs: number) => new Promise((resolve) => setTimeout(resolve, delayMs)),
}));

type Entry = {
  Id: string;
  MessageBody: string;
  MessageAttributes: Record<string, { StringValue: string }>;
  MessageGroupId?: string;
};
type BatchAnswer = {
  Successful?: { Id: string; MessageId: string }[];
  Failed?: { Id: string; Code: string; SenderFault: boolean }[];
};
type Answer = (entries: Entry[]) => BatchAnswer | Promise<BatchAnswer>;

const customerOf = ({ MessageBody }: Entry): string => JSON.parse(MessageBody).data.customerId;
const confirm = (entry: Entry) => ({ Id: entry.Id, MessageId: `m-${customerOf(entry)}` });
const confirmAll: Answer = (entries) => ({ Successful: entries.map(confirm) });
const failWith =
  (Code: string, SenderFault = false) =>
  (entry: Entry) => ({ Id: entry.Id, Code, SenderFault });

/** An SQS that answers batch after batch as told, and confirms when not told otherwise. */
class FakeSqs {
  readonly requests: Entry[][] = [];
  readonly answers: Answer[] = [];
  pings = 0;

  send = async (
    command: SendMessageBatchCommand | GetQueueAttributesCommand,
    options?: { abortSignal?: AbortSignal },
  ) => {
    const answer = this.answers.shift() ?? confirmAll;
    if (command instanceof GetQueueAttributesCommand) {
      this.pings++;
      return answer([]);
    }
    const entries = command.input.Entries as Entry[];
    this.requests.push(entries);
    const aborted = new Promise<never>((_resolve, reject) => {
      const abort = () => reject(Object.assign(new Error('Request aborted'), { name: 'AbortError' }));
      if (options?.abortSignal?.aborted) abort();
      options?.abortSignal?.addEventListener('abort', abort);
    });
    return Promise.race([answer(entries), aborted]);
  };

  /** The next request waits until it is answered. */
  hold() {
    const held = Promise.withResolvers<BatchAnswer>();
    const arrived = Promise.withResolvers<Entry[]>();
    this.answers.push((entries) => {
      arrived.resolve(entries);
      return held.promise;
    });
    return {
      arrived: arrived.promise,
      confirm: async () => held.resolve(await confirmAll(await arrived.promise)),
    };
  }

  get customers(): string[][] {
    return this.requests.map((entries) => entries.map(customerOf));
  }
}

const aMessage = (
  customerId: string,
  overrides: Parameters<typeof anOrder>[0] = {},
  clientId?: string,
): OrderMessage => {
  const order = anOrder({ customerId, ...overrides });
  return { order, contentHash: contentHash(order), traceparent: undefined, clientId };
};
const encode = { version: 1, encoding: 'identity', compressAboveBytes: 1_000_000 } as const;

function subject(options: Partial<SqsOrderPublisherOptions> & { breakerFailures?: number } = {}) {
  const { breakerFailures = 1_000, ...overrides } = options;
  const sqs = new FakeSqs();
  const metrics = createProducerMetrics('1', () => publisher.size);
  const breaker = createCircuitBreaker({
    name: 'sqs',
    failures: breakerFailures,
    openMs: { min: 1_000, max: 1_000 },
    logger: captureLog().logger,
    metrics,
  });
  const publisher = new SqsOrderPublisher({
    client: sqs as unknown as SQSClient,
    queueUrl: 'http://q/orders',
    breaker,
    metrics,
    encode,
    packing: false,
    fairQueues: false,
    lingerMs: 5,
    maxInFlight: 10,
    bufferOrders: 1_000,
    timeoutMs: 5_000,
    ...overrides,
  });
  const counted = async () =>
    Object.fromEntries(
      (await metrics.ordersPublished.get()).values.map(({ labels, value }) => [labels.result, value]),
    );
  return { sqs, publisher, breaker, metrics, counted };
}

/** What became of each order: its message id, or the code of its refusal. */
const fatesOf = (published: Promise<{ messageId: string }>[]) =>
  Promise.all(
    published.map((each) =>
      each.then(
        ({ messageId }) => messageId,
        ({ code }) => code,
      ),
    ),
  );
const range = (count: number) => [...Array(count).keys()].map(String);

describe('SqsOrderPublisher', () => {
  it('publish, given an order, resolves with the message id when SQS has confirmed', async () => {
    const { sqs, publisher } = subject();
    const held = sqs.hold();
    const settled = vi.fn();
    const published = publisher.publish(aMessage('a')).finally(settled);
    await held.arrived;
    expect(settled).not.toHaveBeenCalled();
    expect(publisher.size).toBe(1);
    await held.confirm();
    expect(await published).toEqual({ messageId: 'm-a' });
    expect(publisher.size).toBe(0);
  });

  it('publish, given an order, sends what a consumer reads', async () => {
    const { sqs, publisher } = subject();
    const message = {
      ...aMessage('a'),
      traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    };
    await publisher.publish(message);
    const { MessageBody, MessageAttributes } = sqs.requests.flat()[0] as Entry;
    const attributes = Object.fromEntries(
      Object.entries(MessageAttributes).map(([name, { StringValue }]) => [name, StringValue]),
    );
    expect(decodeOrderMessage(MessageBody, attributes)).toEqual(message);
  });

  it('publish, by 25 callers at once, sends three batches and gives each caller its own id', async () => {
    const { sqs, publisher, metrics } = subject({ maxInFlight: 3 });
    const fates = await fatesOf(range(25).map((name) => publisher.publish(aMessage(name))));
    expect(fates).toEqual(range(25).map((name) => `m-${name}`));
    expect(sqs.requests.map(({ length }) => length)).toEqual([10, 10, 5]);
    const sum = (await metrics.batchSize.get()).values.find(({ metricName }) => metricName?.endsWith('_sum'));
    expect(sum?.value).toBe(25);
  });

  it('publish, of orders that fill a request to the byte, sends one, and with one byte more two', async () => {
    const sizeOf = async (message: OrderMessage) => {
      const { body, attributes } = await encodeOrderMessage(message, encode);
      return messageSizeBytes(body, attributes);
    };
    const itemOf = (characters: number) => ({
      productId: 'p',
      name: '이'.repeat(characters),
      quantity: 1,
      unitPrice: 0,
    });
    /** An order whose message has exactly so many bytes, most of them Korean. */
    const ofBytes = async (customerId: string, bytes: number) => {
      const orderOf = (items: number, note: string) =>
        aMessage(customerId, { items: Array(items).fill(itemOf(200)), totalAmount: 0, metadata: { note } });
      const bytesAnItem = (await sizeOf(orderOf(2, 'x'))) - (await sizeOf(orderOf(1, 'x')));
      const items = Math.floor((bytes - (await sizeOf(orderOf(1, 'x')))) / bytesAnItem);
      const missing = bytes - (await sizeOf(orderOf(items, 'x')));
      const [first, second] = [Math.min(missing, 400), Math.max(0, missing - 400)];
      const message = orderOf(items, 'x'.repeat(1 + first));
      return second === 0
        ? message
        : aMessage(customerId, { ...message.order, customerId: customerId.padEnd(1 + second, '!') });
    };
    const half = MAX_REQUEST_BYTES / 2;
    const [a, b, c] = [await ofBytes('a', half), await ofBytes('b', half), await ofBytes('c', half + 1)];
    expect([await sizeOf(a), await sizeOf(b), await sizeOf(c)]).toEqual([half, half, half + 1]);
    const { sqs, publisher } = subject();
    await fatesOf([publisher.publish(a), publisher.publish(b)]);
    await fatesOf([publisher.publish(a), publisher.publish(c)]);
    expect(sqs.requests.map(({ length }) => length)).toEqual([2, 1, 1]);
  });

  it('publish, given an order that fits no message, refuses it and sends nothing', async () => {
    const { sqs, publisher, counted } = subject();
    const item = { productId: 'p', name: '이'.repeat(256), quantity: 1, unitPrice: 0 };
    const tooLarge = publisher.publish(aMessage('a', { items: Array(1_000).fill(item), totalAmount: 0 }));
    await expect(tooLarge).rejects.toThrow(OrderTooLargeError);
    await expect(tooLarge).rejects.toThrow(`more than ${MAX_MESSAGE_BYTES}`);
    expect(sqs.requests).toEqual([]);
    expect(publisher.size).toBe(0);
    expect(await counted()).toEqual({});
  });

  it('publish, given a large order that packs well, sends it', async () => {
    const { sqs, publisher } = subject({
      encode: { version: 1, encoding: 'zstd', compressAboveBytes: 4_096 },
    });
    sqs.answers.push(([entry]) => ({ Successful: [{ Id: (entry as Entry).Id, MessageId: 'packed' }] }));
    const item = { productId: 'p', name: '이'.repeat(256), quantity: 1, unitPrice: 0 };
    const large = aMessage('a', { items: Array(1_000).fill(item), totalAmount: 0 });
    expect(await publisher.publish(large)).toEqual({ messageId: 'packed' });
  });

  it('publish, when the buffer is full, refuses at once and accepts again when there is room', async () => {
    const { sqs, publisher } = subject({ bufferOrders: 2 });
    const held = sqs.hold();
    const first = [publisher.publish(aMessage('a')), publisher.publish(aMessage('b'))];
    await expect(publisher.publish(aMessage('c'))).rejects.toThrow(BufferFullError);
    await held.confirm();
    expect(await fatesOf(first)).toEqual(['m-a', 'm-b']);
    await expect(publisher.publish(aMessage('d'))).resolves.toEqual({ messageId: 'm-d' });
    expect(sqs.customers).toEqual([['a', 'b'], ['d']]);
  });

  it('publish, when SQS is away, refuses with the cause kept', async () => {
    const { sqs, publisher, counted } = subject();
    const lost = new Error('ECONNREFUSED');
    sqs.answers.push(() => Promise.reject(lost));
    const refused = publisher.publish(aMessage('a'));
    await expect(refused).rejects.toThrow(QueueUnavailableError);
    await expect(refused).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE', cause: lost });
    expect(await counted()).toEqual({ unconfirmed: 1 });
    expect(publisher.size).toBe(0);
  });

  it('publish, when the breaker is open, refuses at once without a request', async () => {
    const { sqs, publisher, counted } = subject({ breakerFailures: 2 });
    sqs.answers.push(
      () => Promise.reject(new Error('down')),
      () => Promise.reject(new Error('down')),
    );
    expect(await fatesOf([publisher.publish(aMessage('a'))])).toEqual(['QUEUE_UNAVAILABLE']);
    expect(await fatesOf([publisher.publish(aMessage('b'))])).toEqual(['QUEUE_UNAVAILABLE']);
    expect(await fatesOf([publisher.publish(aMessage('c'))])).toEqual(['QUEUE_UNAVAILABLE']);
    expect(sqs.requests).toHaveLength(2);
    expect(await counted()).toEqual({ unconfirmed: 2, not_sent: 1 });
  });

  it('ping, while the breaker is closed, leaves it alone, whatever the answer', async () => {
    const { sqs, publisher } = subject({ breakerFailures: 2 });
    const down = () => Promise.reject(new Error('down'));
    for (const attempt of [1, 2, 3]) {
      sqs.answers.push(down);
      await expect(publisher.ping(), `ping ${attempt}`).rejects.toThrow('down');
    }
    // A send fails, a ping succeeds in between, a send fails again: two failures in a row all the same.
    sqs.answers.push(down, confirmAll, down);
    await expect(publisher.publish(aMessage('a'))).rejects.toThrow();
    await publisher.ping();
    await expect(publisher.publish(aMessage('b'))).rejects.toThrow();
    await expect(publisher.publish(aMessage('c'))).rejects.toThrow();
    expect(sqs.customers).toEqual([['a'], ['b']]);
  });

  it('ping, while the breaker is open, rejects without asking', async () => {
    const { sqs, publisher } = subject({ breakerFailures: 1 });
    sqs.answers.push(() => Promise.reject(new Error('down')));
    await expect(publisher.publish(aMessage('a'))).rejects.toThrow();
    await expect(publisher.ping()).rejects.toThrow();
    expect(sqs.pings).toBe(0);
  });

  it('idle, with orders on their way, resolves when all are confirmed or refused', async () => {
    const { sqs, publisher } = subject();
    const held = sqs.hold();
    const seen: string[] = [];
    const published = publisher.publish(aMessage('a')).then(() => seen.push('published'));
    await held.arrived;
    const idle = publisher.idle().then(() => seen.push('idle'));
    await held.confirm();
    await Promise.all([published, idle]);
    expect(seen).toContain('idle');
    expect(publisher.size).toBe(0);
  });

  describe('with a clock', () => {
    beforeEach(() => {
      vi.useFakeTimers();
    });
    afterEach(() => {
      vi.restoreAllMocks();
      vi.useRealTimers();
    });

    it('publish, when some entries fail, sends only these again, and each caller learns the result of its own order', async () => {
      const { sqs, publisher, counted } = subject();
      const [busy, faulty] = [failWith('InternalError'), failWith('InvalidMessageContents', true)];
      sqs.answers.push(
        ([a, b, c, d]) => ({
          Successful: [confirm(a as Entry)],
          Failed: [busy(b as Entry), faulty(c as Entry), busy(d as Entry)],
        }),
        ([b, d]) => ({ Successful: [confirm(b as Entry)], Failed: [busy(d as Entry)] }),
        ([d]) => ({ Failed: [busy(d as Entry)] }),
      );
      const fates = fatesOf(['a', 'b', 'c', 'd'].map((name) => publisher.publish(aMessage(name))));
      await vi.runAllTimersAsync();
      expect(await fates).toEqual(['m-a', 'm-b', 'ORDER_NOT_SENDABLE', 'QUEUE_UNAVAILABLE']);
      expect(sqs.customers).toEqual([['a', 'b', 'c', 'd'], ['b', 'd'], ['d']]);
      expect(await counted()).toEqual({ confirmed: 2, refused: 1, unconfirmed: 1 });
    });

    it.each(['RequestThrottled', 'ThrottlingException', 'KMS.ThrottlingException', 'SomethingNewer'])(
      "publish, given an entry that fails with %s and is the sender's fault, tries it again",
      async (code) => {
        const { sqs, publisher } = subject();
        sqs.answers.push((entries) => ({ Failed: entries.map(failWith(code, true)) }));
        const fates = fatesOf([publisher.publish(aMessage('a'))]);
        await vi.runAllTimersAsync();
        expect(await fates).toEqual(['m-a']);
      },
    );

    it('publish, given an entry that is throttled each time, refuses it for now, and not for ever', async () => {
      const { sqs, publisher, counted } = subject();
      const throttle: Answer = (entries) => ({ Failed: entries.map(failWith('RequestThrottled', true)) });
      sqs.answers.push(throttle, throttle, throttle);
      const fates = fatesOf([publisher.publish(aMessage('a'))]);
      await vi.runAllTimersAsync();
      expect(await fates).toEqual(['QUEUE_UNAVAILABLE']);
      expect(await counted()).toEqual({ unconfirmed: 1 });
    });

    it('publish, given an order too long for the queue beside others, refuses that one, confirms the others and keeps the breaker closed', async () => {
      const { sqs, publisher, breaker } = subject({ breakerFailures: 1 });
      const tooLong: Answer = (entries) =>
        entries.some((entry) => customerOf(entry) === 'long')
          ? Promise.reject(Object.assign(new Error('too long'), { name: 'BatchRequestTooLong' }))
          : confirmAll(entries);
      sqs.answers.push(tooLong, tooLong, tooLong, tooLong);
      const fates = fatesOf(['a', 'long', 'c'].map((name) => publisher.publish(aMessage(name))));
      await vi.runAllTimersAsync();
      expect(await fates).toEqual(['m-a', 'ORDER_NOT_SENDABLE', 'm-c']);
      expect(breaker.closed).toBe(true);
    });

    it('publish, when the repeated request is lost, still confirms what the first one brought', async () => {
      const { sqs, publisher } = subject();
      sqs.answers.push(
        ([a, b]) => ({ Successful: [confirm(a as Entry)], Failed: [failWith('InternalError')(b as Entry)] }),
        () => Promise.reject(new Error('connection lost')),
      );
      const fates = fatesOf(['a', 'b'].map((name) => publisher.publish(aMessage(name))));
      await vi.runAllTimersAsync();
      expect(await fates).toEqual(['m-a', 'QUEUE_UNAVAILABLE']);
    });

    it('publish, given an order whose time ends while it waits, refuses it and never sends it', async () => {
      const { sqs, publisher } = subject({ maxInFlight: 1, timeoutMs: 1_000 });
      const held = sqs.hold();
      const first = publisher.publish(aMessage('a'));
      await vi.advanceTimersByTimeAsync(0);
      await held.arrived;
      const late = fatesOf([publisher.publish(aMessage('b'))]);
      await vi.advanceTimersByTimeAsync(1_001);
      const fresh = publisher.publish(aMessage('c'));
      await vi.advanceTimersByTimeAsync(0);
      await held.confirm();
      await vi.advanceTimersByTimeAsync(10);
      expect(await first).toEqual({ messageId: 'm-a' });
      expect(await late).toEqual(['QUEUE_UNAVAILABLE']);
      expect(await fresh).toEqual({ messageId: 'm-c' });
      expect(sqs.customers).toEqual([['a'], ['c']]);
    });

    it('publish, given an order whose time is nearly over, refuses it, and leaves the others their time', async () => {
      // Vitest's clock does not reach it either.
      vi.spyOn(AbortSignal, 'timeout').mockImplementation((delayMs) => {
        const controller = new AbortController();
        setTimeout(() => controller.abort(), delayMs);
        return controller.signal;
      });
      const { sqs, publisher, breaker } = subject({ maxInFlight: 1, timeoutMs: 1_000, breakerFailures: 1 });
      const [first, second] = [sqs.hold(), sqs.hold()];
      const published = [publisher.publish(aMessage('a'))];
      await vi.advanceTimersByTimeAsync(0);
      const late = fatesOf([publisher.publish(aMessage('b'))]);
      await vi.advanceTimersByTimeAsync(990);
      published.push(...['c', 'd'].map((name) => publisher.publish(aMessage(name))));
      await vi.advanceTimersByTimeAsync(0);
      await first.confirm();
      await vi.advanceTimersByTimeAsync(200);
      await second.confirm();
      expect(await fatesOf(published)).toEqual(['m-a', 'm-c', 'm-d']);
      expect(await late).toEqual(['QUEUE_UNAVAILABLE']);
      expect(sqs.customers).toEqual([['a'], ['c', 'd']]);
      expect(breaker.closed).toBe(true);
    });
  });

  it('publish, when SQS does not answer in time, ends the request and refuses', async () => {
    const { sqs, publisher } = subject({ timeoutMs: 400 });
    sqs.hold();
    const refused = publisher.publish(aMessage('a'));
    await expect(refused).rejects.toThrow(QueueUnavailableError);
    await expect(refused).rejects.toMatchObject({ cause: { name: 'AbortError' } });
    expect(sqs.requests).toHaveLength(1);
  });

  describe('publish, with encryption,', () => {
    const confirmAny: Answer = (entries) => ({
      Successful: entries.map(({ Id }) => ({ Id, MessageId: 'm' })),
    });
    const bodiesIn = async (sqs: FakeSqs, cipher: MessageCipher) =>
      Promise.all(sqs.requests.flat().map(({ MessageBody }) => decryptMessages(MessageBody, cipher)));
    const failing: MessageCipher = {
      encrypt: () => Promise.reject(new KeyUnavailableError('KMS is away')),
      decrypt: () => Promise.reject(new KeyUnavailableError('KMS is away')),
      close: () => {},
    };

    it('of orders one by one, sends each in a message of its own, of which only id and trace can be read', async () => {
      using keys = aKeyFile();
      const cipher = await aCipher(keys.env);
      const { sqs, publisher } = subject({ cipher });
      sqs.answers.push(confirmAny);
      const messages = [aMessage('alice'), aMessage('bob')];
      expect(await fatesOf(messages.map((message) => publisher.publish(message)))).toEqual(['m', 'm']);
      const [first, ...others] = sqs.requests.flat();
      expect(others).toHaveLength(1);
      expect(first?.MessageBody).not.toContain('alice');
      expect(JSON.parse(first?.MessageBody ?? '').id).toBe(messages[0]?.order.orderId);
      expect(first?.MessageAttributes['schemaVersion']?.StringValue).toBe('3');
      const read = (await bodiesIn(sqs, cipher)).flatMap((bodies) => bodies ?? []);
      expect(read.map((body) => decodeOrderMessage(body))).toEqual(messages);
      cipher.close();
    });

    it('and packing, of bulk orders, encrypts once; where SQS refuses that message, each order by itself', async () => {
      using keys = aKeyFile();
      const cipher = await aCipher(keys.env);
      const encrypt = vi.spyOn(cipher, 'encrypt');
      const { sqs, publisher } = subject({ cipher, packing: true });
      sqs.answers.push(confirmAny);
      const publishAll = (names: string[]) =>
        fatesOf(names.map((name) => publisher.publish(aMessage(name), { bulk: true })));
      expect(await publishAll(['a', 'b', 'c'])).toEqual(['m', 'm', 'm']);
      expect(encrypt).toHaveBeenCalledTimes(1);
      expect((await bodiesIn(sqs, cipher)).map((bodies) => bodies?.length)).toEqual([3]);
      sqs.requests.length = 0;
      sqs.answers.push(
        ([entry]) => ({ Failed: [failWith('InvalidMessageContents', true)(entry as Entry)] }),
        confirmAny,
      );
      expect(await publishAll(['d', 'e'])).toEqual(['m', 'm']);
      expect((await bodiesIn(sqs, cipher)).map((bodies) => bodies?.length)).toEqual([2, 1, 1]);
      cipher.close();
    });

    /** A cipher that encrypts nothing until it is let go. */
    function aSlowCipher() {
      const held = Promise.withResolvers<void>();
      const encrypt = vi.fn(async (plaintext: Uint8Array) => {
        await held.promise;
        return Buffer.from(plaintext);
      });
      return { cipher: { ...failing, encrypt }, letGo: held.resolve };
    }

    it.each([{ packing: false }, { packing: true }])(
      'of more than a slow cipher encrypts in time, answers each at its deadline, encrypts no late one, and is ready for the next: %o',
      async ({ packing }) => {
        vi.useFakeTimers();
        onTestFinished(() => void vi.useRealTimers());
        const { cipher, letGo } = aSlowCipher();
        const { sqs, publisher, counted } = subject({ cipher, packing, timeoutMs: 1_000 });
        // Two of each client, which share a message if they are packed.
        const publishing = range(60).map((name, index) =>
          publisher.publish(aMessage(name, {}, `client-${index >> 1}`), { bulk: true }),
        );
        const fates = fatesOf(publishing);
        await vi.advanceTimersByTimeAsync(999);
        expect(publisher.size).toBe(60);
        await vi.advanceTimersByTimeAsync(1);
        expect(publisher.size).toBe(0);
        expect(new Set(await fates)).toEqual(new Set(['QUEUE_UNAVAILABLE']));
        expect(await counted()).toEqual({ unconfirmed: 60 });
        expect(cipher.encrypt).toHaveBeenCalledTimes(10);

        letGo();
        sqs.answers.push(confirmAny);
        const next = publisher.publish(aMessage('next'));
        await vi.runAllTimersAsync();
        expect(await next).toEqual({ messageId: 'm' });
        expect(cipher.encrypt).toHaveBeenCalledTimes(11);
        expect(sqs.requests.flat()).toHaveLength(1);
      },
    );

    it('of many orders at once, lets the event loop turn in between', async () => {
      const { cipher, letGo } = aSlowCipher();
      letGo();
      let turns = 0;
      let immediate = setImmediate(function count() {
        turns++;
        immediate = setImmediate(count);
      });
      onTestFinished(() => clearImmediate(immediate));
      const turnsOfOrders = new Set<number>();
      const noting = {
        ...cipher,
        encrypt: (text: Uint8Array) => cipher.encrypt(text).finally(() => turnsOfOrders.add(turns)),
      };
      const { sqs, publisher } = subject({ cipher: noting, timeoutMs: 25_000 });
      sqs.answers.push(...Array<Answer>(100).fill(confirmAny));
      const fates = await fatesOf(range(100).map((name) => publisher.publish(aMessage(name))));
      expect(new Set(fates)).toEqual(new Set(['m']));
      expect(turnsOfOrders.size).toBeGreaterThanOrEqual(10);
    });

    it('when KMS is away, refuses the order as not sent, and sends nothing', async () => {
      const { sqs, publisher, counted } = subject({ cipher: failing, packing: true });
      const names = ['a', 'b'];
      const orders = names.flatMap((name) =>
        [false, true].map((bulk) => publisher.publish(aMessage(name), { bulk })),
      );
      expect(new Set(await fatesOf(orders))).toEqual(new Set(['QUEUE_UNAVAILABLE']));
      expect(await counted()).toEqual({ not_sent: 4 });
      expect(sqs.requests).toEqual([]);
      expect(publisher.size).toBe(0);
    });
  });

  describe('publish, with packing,', () => {
    const customersIn = ({ MessageBody }: Entry) =>
      readableOrders(MessageBody).map(({ customerId }) => customerId);
    const packIdOf = ({ MessageBody }: Entry): string => JSON.parse(MessageBody).id;
    const confirmPacks: Answer = (entries) => ({
      Successful: entries.map((entry) => ({ Id: entry.Id, MessageId: packIdOf(entry) })),
    });

    it('of many bulk orders, sends up to 100 in a message and tells each in which', async () => {
      const { sqs, publisher } = subject({ packing: true });
      sqs.answers.push(confirmPacks, confirmPacks);
      const names = range(2 * MAX_PACKED_ORDERS);
      const fates = await fatesOf(names.map((name) => publisher.publish(aMessage(name), { bulk: true })));
      // Each is compressed in a thread of its own: the second may be sent first.
      const entries = sqs.requests
        .flat()
        .toSorted((a, b) => Number(customersIn(a)[0]) - Number(customersIn(b)[0]));
      expect(entries.map(customersIn)).toEqual([
        names.slice(0, MAX_PACKED_ORDERS),
        names.slice(MAX_PACKED_ORDERS),
      ]);
      const ids = entries.map(packIdOf);
      expect(fates).toEqual(names.map((name) => ids[Math.floor(Number(name) / MAX_PACKED_ORDERS)]));
      expect(publisher.size).toBe(0);
    });

    it('of a bulk order alone, and of orders that come one by one, sends them as without', async () => {
      const { sqs, publisher } = subject({ packing: true });
      expect(await publisher.publish(aMessage('a'), { bulk: true })).toEqual({ messageId: 'm-a' });
      expect(await fatesOf(['b', 'c'].map((name) => publisher.publish(aMessage(name))))).toEqual([
        'm-b',
        'm-c',
      ]);
      expect(sqs.customers).toEqual([['a'], ['b', 'c']]);
    });

    it('of bulk orders of several clients at once, never has two clients in a message', async () => {
      const { sqs, publisher } = subject({ packing: true });
      const clientOf = (n: number) => [undefined, 'shop-a', 'shop-b'][n % 3];
      sqs.answers.push(confirmPacks, confirmPacks, confirmPacks);
      await fatesOf(
        range(90).map((name, n) => publisher.publish(aMessage(name, {}, clientOf(n)), { bulk: true })),
      );
      const clientsIn = sqs.requests
        .flat()
        .map(({ MessageBody }) =>
          unpackMessages(MessageBody).map((body) => decodeOrderMessage(body).clientId),
        );
      expect(clientsIn.map((clients) => [clients.length, new Set(clients).size])).toEqual([
        [30, 1],
        [30, 1],
        [30, 1],
      ]);
      expect(new Set(clientsIn.flat())).toEqual(new Set([undefined, 'shop-a', 'shop-b']));
    });

    it("when SQS does not confirm one client's message, confirms the other clients' all the same", async () => {
      const { sqs, publisher } = subject({ packing: true });
      const isOf = (client: string) => (entry: Entry) =>
        decodeOrderMessage(unpackMessages(entry.MessageBody)[0] ?? '').clientId === client;
      const answer: Answer = (entries) => ({
        Successful: entries.filter(isOf('shop-b')).map((entry) => ({ Id: entry.Id, MessageId: 'm' })),
        Failed: entries.filter(isOf('shop-a')).map(failWith('InternalError')),
      });
      sqs.answers.push(...Array(6).fill(answer));
      const fates = await fatesOf(
        ['a', 'b', 'a', 'b'].map((shop, n) =>
          publisher.publish(aMessage(String(n), {}, `shop-${shop}`), { bulk: true }),
        ),
      );
      expect(fates).toEqual(['QUEUE_UNAVAILABLE', 'm', 'QUEUE_UNAVAILABLE', 'm']);
    });

    it('when SQS does not confirm a message, refuses every order in it', async () => {
      const { sqs, publisher } = subject({ packing: true });
      sqs.answers.push(() => Promise.reject(new Error('down')));
      const fates = await fatesOf(
        ['a', 'b'].map((name) => publisher.publish(aMessage(name), { bulk: true })),
      );
      expect(fates).toEqual(['QUEUE_UNAVAILABLE', 'QUEUE_UNAVAILABLE']);
    });

    it('when SQS never takes the message, sends each order by itself and reports the result of each', async () => {
      const { sqs, publisher } = subject({ packing: true });
      sqs.answers.push(
        (entries) => ({ Failed: entries.map(failWith('InvalidParameterValue', true)) }),
        ([a, b]) => ({
          Successful: [confirm(a as Entry)],
          Failed: [failWith('InvalidMessageContents', true)(b as Entry)],
        }),
      );
      const fates = await fatesOf(
        ['a', 'b'].map((name) => publisher.publish(aMessage(name), { bulk: true })),
      );
      expect(fates).toEqual(['m-a', 'ORDER_NOT_SENDABLE']);
    });

    it('of large orders, keeps each message below the limit', async () => {
      const { sqs, publisher } = subject({ packing: true });
      sqs.answers.push(confirmPacks, confirmPacks);
      const metadata = { note: 'x'.repeat(60_000) };
      await fatesOf(range(6).map((name) => publisher.publish(aMessage(name, { metadata }), { bulk: true })));
      const packs = await Promise.all(
        sqs.requests.flat().map(async ({ MessageBody }) => unpackMessages(MessageBody).length),
      );
      expect(packs).toEqual([3, 3]);
    });
  });

  describe('publish, with fair queues,', () => {
    const GROUP = /^[\w-]{43}$/;
    const groupsOf = ({ requests }: FakeSqs) => requests.flat().map(({ MessageGroupId }) => MessageGroupId);

    it('names the client of an order, and the customer where there is none, as a hash', async () => {
      const { sqs, publisher } = subject({ fairQueues: true });
      const messages = [
        aMessage('x', {}, 'shop-a'),
        aMessage('y', {}, 'shop-a'),
        aMessage('x', {}, 'shop-b'),
        aMessage('고객 🛒'),
        aMessage('x'),
        aMessage('shop-a'),
      ];
      await fatesOf(messages.map((message) => publisher.publish(message)));
      const groups = groupsOf(sqs);
      for (const group of groups) expect(group).toMatch(GROUP);
      expect(groups[0]).toBe(groups[1]);
      expect(new Set(groups).size).toBe(5);
    });

    it('names the client of a packed message, and nobody where it holds orders of many customers', async () => {
      const { sqs, publisher } = subject({ fairQueues: true, packing: true });
      const alone = publisher.publish(aMessage('x', {}, 'shop-a'));
      const bulk = ['a', 'b'].map((name) => publisher.publish(aMessage(name, {}, 'shop-a'), { bulk: true }));
      await fatesOf([alone, ...bulk]);
      const nobodys = ['c', 'd'].map((name) => publisher.publish(aMessage(name), { bulk: true }));
      await fatesOf(nobodys);
      const [first, second, third] = groupsOf(sqs);
      expect(first).toMatch(GROUP);
      expect([second, third]).toEqual([first, undefined]);
    });

    it('is off by default: messages name no group', async () => {
      const { sqs, publisher } = subject();
      await publisher.publish(aMessage('x', {}, 'shop-a'));
      expect(sqs.requests[0]?.[0]).not.toHaveProperty('MessageGroupId');
    });
  });
});
