import { hash } from 'node:crypto';
import { GetQueueAttributesCommand, SendMessageBatchCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { KeyUnavailableError } from '@orders/shared/encryption/errors.ts';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { encryptMessages, type Line } from '@orders/shared/order/encrypted-message.ts';
import {
  type EncodedMessage,
  type EncodeOptions,
  encodeOrderMessage,
  MessageTooLargeError,
  type OrderMessage,
} from '@orders/shared/order/message.ts';
import { MAX_PACKED_BYTES, MAX_PACKED_ORDERS, packMessages } from '@orders/shared/order/packed-message.ts';
import { type CircuitBreaker, isBreakerOpen } from '@orders/shared/runtime/circuit-breaker.ts';
import { within } from '@orders/shared/runtime/time-limit.ts';
import { isFaultOfMessage, MAX_BATCH_ENTRIES, sendEntries } from '@orders/shared/sqs/batch.ts';
import { Batcher } from '@orders/shared/sqs/batcher.ts';
import { messageSizeBytes, stringAttributes } from '@orders/shared/sqs/message-limits.ts';
import { MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES } from '@orders/shared/sqs/queues.ts';
import {
  BufferFullError,
  OrderNotSendableError,
  OrderTooLargeError,
  QueueUnavailableError,
} from '../domain/errors.ts';
import type { OrderPublisher } from '../domain/order-publisher.ts';
import type { ProducerMetrics } from '../metrics.ts';

export type SqsOrderPublisherOptions = {
  client: SQSClient;
  queueUrl: string;
  breaker: CircuitBreaker;
  metrics: Pick<ProducerMetrics, 'ordersPublished' | 'publishDuration' | 'batchSize'>;
  encode: EncodeOptions;
  /** Without one, messages are not encrypted. */
  cipher?: MessageCipher | undefined;
  /** Whether bulk orders share messages. */
  packing: boolean;
  /** Whether messages say whose they are, for a queue that is shared out fairly. */
  fairQueues: boolean;
  lingerMs: number;
  maxInFlight: number;
  bufferOrders: number;
  timeoutMs: number;
};

/** Share of an order's time reserved for its request: an order with less left is not sent. */
const REQUEST_SHARE = 1 / 4;
/** As many as fit a request. They share one thread: of more at once, each would be as late as the last one. */
const MAX_ENCRYPTING = MAX_BATCH_ENTRIES;

const NOT_IN_TIME = 'not sent in time';

type Entry = EncodedMessage &
  Line & {
    sizeBytes: number;
    deadline: number;
    clientId: string | undefined;
    groupId: string | undefined;
  };
type Receipt = { messageId: string };
/** Takes the orders of one message at a time. */
type Encrypter = Batcher<Entry[], EncodedMessage>;

/** Publishes to SQS. Coalesces the orders of concurrent callers into batches, and bulk orders into messages too. */
export class SqsOrderPublisher implements OrderPublisher {
  readonly #options: SqsOrderPublisherOptions;
  readonly #batcher: Batcher<Entry, Receipt>;
  readonly #packer: Batcher<Entry, Receipt>;
  readonly #encrypter: Encrypter | undefined;
  #held = 0;

  constructor(options: SqsOrderPublisherOptions) {
    this.#options = options;
    const entryBytes = ({ sizeBytes }: Entry) => sizeBytes;
    const { cipher, maxInFlight, lingerMs } = options;
    this.#batcher = new Batcher<Entry, Receipt>({
      execute: (entries) => this.#sendLive(entries),
      maxEntries: MAX_BATCH_ENTRIES,
      maxBytes: MAX_REQUEST_BYTES,
      sizeOf: entryBytes,
      maxInFlight,
      lingerMs,
    });
    this.#packer = new Batcher<Entry, Receipt>({
      execute: (entries) => this.#sendPacked(entries),
      maxEntries: MAX_PACKED_ORDERS,
      maxBytes: MAX_PACKED_BYTES,
      sizeOf: entryBytes,
      maxInFlight: maxInFlight * MAX_BATCH_ENTRIES,
      lingerMs,
    });
    this.#encrypter =
      cipher &&
      new Batcher({
        execute: async ([entries = []]) => [await this.#encryptLive(entries, cipher)],
        maxEntries: 1,
        maxInFlight: MAX_ENCRYPTING,
        lingerMs: 0,
      });
  }

  /** Orders neither confirmed nor refused yet. */
  get size(): number {
    return this.#held;
  }

  async publish(message: OrderMessage, { bulk = false } = {}): Promise<Receipt> {
    const { metrics, bufferOrders, timeoutMs, encode, packing, fairQueues } = this.#options;
    if (this.#held >= bufferOrders) throw new BufferFullError(`${bufferOrders} orders are waiting already`);
    this.#held++;
    const startedAt = performance.now();
    try {
      const encoded = await encodeOrderMessage(message, encode);
      // An order large enough to be compressed by itself is not packed: nothing is compressed twice.
      const packs = packing && bulk && encoded.attributes['contentEncoding'] === 'identity';
      const entry: Entry = {
        ...encoded,
        sizeBytes: sizeOf(encoded),
        orderId: message.order.orderId,
        traceparent: message.traceparent,
        deadline: startedAt + timeoutMs,
        clientId: message.clientId,
        groupId: fairQueues ? groupOf(message) : undefined,
      };
      const receipt = await (packs ? this.#packer.add(entry) : this.#sendAlone(entry));
      metrics.ordersPublished.inc({ result: 'confirmed' });
      metrics.publishDuration.observe((performance.now() - startedAt) / 1_000);
      return receipt;
    } catch (cause) {
      if (cause instanceof OrderTooLargeError) throw cause;
      if (cause instanceof MessageTooLargeError) throw new OrderTooLargeError(cause.message, { cause });
      if (isFaultOfMessage(cause)) {
        metrics.ordersPublished.inc({ result: 'refused' });
        throw new OrderNotSendableError('the queue refuses the order', { cause });
      }
      const notSent = isBreakerOpen(cause) || cause instanceof KeyUnavailableError;
      metrics.ordersPublished.inc({ result: notSent ? 'not_sent' : 'unconfirmed' });
      throw new QueueUnavailableError(
        'the queue did not confirm the order; send it again with the same id or key',
        { cause },
      );
    } finally {
      this.#held--;
    }
  }

  /**
   * Asks SQS for the queue. While the breaker is closed, the result does not affect it: reading may work while sending
   * does not, and the other way round. While it is open, SQS is not asked; half open, this is the trial.
   * @throws if the queue does not answer, or the breaker is open
   */
  async ping(): Promise<void> {
    const { client, queueUrl, breaker } = this.#options;
    const command = new GetQueueAttributesCommand({ QueueUrl: queueUrl, AttributeNames: ['QueueArn'] });
    const ask = () => client.send(command);
    await (breaker.closed ? ask() : breaker.execute(ask));
  }

  /** Resolves when every order is confirmed or refused. */
  async idle(): Promise<void> {
    await this.#packer.idle();
    await this.#batcher.idle();
  }

  /** Orders of different clients never share a message. */
  async #sendPacked(entries: Entry[]): Promise<(Receipt | Error)[]> {
    const byClient = Map.groupBy(entries, ({ clientId }) => clientId);
    if (byClient.size === 1) return this.#sendOneClients(entries);
    const results = new Map<Entry, Receipt | Error>();
    const sending = byClient.values().map(async (group) => {
      const sent = await this.#sendOneClients(group).catch((error: Error) => group.map(() => error));
      for (const [index, entry] of group.entries()) results.set(entry, sent[index] as Receipt | Error);
    });
    await Promise.all(sending);
    return entries.map((entry) => results.get(entry) as Receipt | Error);
  }

  /** In a message of its own. */
  #sendAlone(entry: Entry): Promise<Receipt> {
    return this.#encrypter ? this.#sendEncrypted(entry, this.#encrypter) : this.#batcher.add(entry);
  }

  async #sendEncrypted(entry: Entry, encrypter: Encrypter): Promise<Receipt> {
    const encrypted = await this.#encrypt([entry], encrypter);
    return this.#batcher.add({ ...entry, ...encrypted, sizeBytes: sizeOf(encrypted) });
  }

  /** In one message. Nobody waits for it beyond their deadline, but what is under way goes on. */
  #encrypt(entries: Entry[], encrypter: Encrypter): Promise<EncodedMessage> {
    const leftMs = Math.max(0, earliest(entries) - performance.now());
    return within(leftMs, encrypter.add(entries), NOT_IN_TIME);
  }

  /** Leaves out what waited too long, as {@link #sendLive} would do afterwards. */
  async #encryptLive(entries: Entry[], cipher: MessageCipher): Promise<EncodedMessage> {
    if (earliest(entries) <= this.#needed()) throw new Error(NOT_IN_TIME);
    // Timers, requests and answers get their turn between the orders of a large batch.
    await new Promise((resolve) => setImmediate(resolve));
    return encryptMessages(entries, cipher);
  }

  #sendEachAlone(entries: Entry[]): Promise<(Receipt | Error)[]> {
    if (!this.#encrypter) return this.#batcher.addAll(entries);
    return Promise.all(entries.map((entry) => this.#sendAlone(entry).catch((error: Error) => error)));
  }

  async #sendOneClients(entries: Entry[]): Promise<(Receipt | Error)[]> {
    const [first] = entries;
    if (!first || entries.length === 1) return this.#sendEachAlone(entries);
    const { clientId } = first;
    const packed = await (this.#encrypter
      ? this.#encrypt(entries, this.#encrypter)
      : packMessages(entries.map(({ body }) => body)));
    try {
      const receipt = await this.#batcher.add({
        ...first,
        ...packed,
        sizeBytes: messageSizeBytes(packed.body, packed.attributes),
        deadline: earliest(entries),
        clientId,
        // Without a client they are several customers'.
        groupId: clientId === undefined ? undefined : first.groupId,
      });
      return entries.map(() => receipt);
    } catch (error) {
      if (!isFaultOfMessage(error)) throw error;
      // SQS's reason, such as the size of the message, need not apply to each order by itself.
      return this.#sendEachAlone(entries);
    }
  }

  /**
   * Leaves out orders that waited too long: their callers get a 503, and an order that is not sent cannot come twice.
   * Sent with the others, it would end their request at its own deadline.
   */
  async #sendLive(entries: Entry[]): Promise<(Receipt | Error)[]> {
    const needed = this.#needed();
    const live = entries.filter(({ deadline }) => deadline > needed);
    if (live.length === entries.length) return this.#send(live);
    const results = (live.length > 0 ? await this.#send(live) : []).values();
    return entries.map(({ deadline }) =>
      deadline > needed ? (results.next().value as Receipt | Error) : new Error(NOT_IN_TIME),
    );
  }

  /** An order is not sent unless its deadline is later. */
  #needed(): number {
    return performance.now() + this.#options.timeoutMs * REQUEST_SHARE;
  }

  async #send(entries: Entry[]): Promise<(Receipt | Error)[]> {
    const { client, queueUrl, breaker, metrics } = this.#options;
    metrics.batchSize.observe(entries.length);
    const remainingMs = Math.max(1, earliest(entries) - performance.now());
    const abortSignal = AbortSignal.timeout(Math.ceil(remainingMs));
    const requests = entries.map(({ body, attributes, groupId }) => ({
      MessageBody: body,
      MessageAttributes: stringAttributes(attributes),
      ...(groupId === undefined ? {} : { MessageGroupId: groupId }),
    }));
    const results = await breaker.execute(() =>
      sendEntries(requests, (Entries) =>
        client.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries }), { abortSignal }),
      ),
    );
    return results.map((result) =>
      result instanceof Error ? result : { messageId: result.MessageId ?? '' },
    );
  }
}

const earliest = (entries: Entry[]): number => Math.min(...entries.map(({ deadline }) => deadline));

/** @throws {OrderTooLargeError} SQS would not take it */
function sizeOf({ body, attributes }: EncodedMessage): number {
  const sizeBytes = messageSizeBytes(body, attributes);
  if (sizeBytes <= MAX_MESSAGE_BYTES) return sizeBytes;
  throw new OrderTooLargeError(`the message would have ${sizeBytes} bytes, more than ${MAX_MESSAGE_BYTES}`);
}

/**
 * Among whom SQS shares a queue out. As a hash: a customer's id may hold characters that SQS refuses here, and
 * what it is told here shows in its logs.
 */
const groupOf = ({ clientId, order }: OrderMessage): string =>
  hash(
    'sha256',
    JSON.stringify(clientId === undefined ? ['customer', order.customerId] : ['client', clientId]),
    'base64url',
  );
