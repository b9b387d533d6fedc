import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { SendMessageBatchCommand, SendMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { encodeOrderMessage } from '@orders/shared/order/message.ts';
import { contentHash, type OrderRequest, orderRequestSchema } from '@orders/shared/order/order.ts';
import { stringAttributes } from '@orders/shared/sqs/message-limits.ts';
import { readOrders } from '../../dev/sample-orders/open-orders.ts';
import { CLIENTS, type ClientKeys } from './client-keys.ts';
import type { Poison, SentOrder } from './invariants.ts';
import type { Random } from './random.ts';

/** Metadata that names the submission, so that whatever is found anywhere can be traced back to it. */
export const TAG = 'submission';

/** How an order is posted. */
export type Way = 'own id' | 'key' | 'no id';

/** What contradicts itself must be refused, whatever else happens. */
const INVALID_SHARE = 0.03;

/** An order to be sent, perhaps more than once, and what was answered. */
export type Submission = SentOrder & {
  order: OrderRequest & { metadata: Record<string, string> };
  key: string | undefined;
  /** May be sent again: it has an id or a key of its own. */
  repeatable: boolean;
  invalid: boolean;
  orderIds: Set<string>;
  oddAnswers: number[];
};

/** So many that the database refuses for ever, and as many that it refuses until they have failed once. */
const REFUSED_EACH = 3;
const SAMPLE = path.join(import.meta.dirname, '..', '..', 'dev', 'sample-orders', 'cdnow-sample.txt');
/** PUBLISH_TIMEOUT_MS, and more than a busy machine takes. */
const REQUEST_TIMEOUT_MS = 12_000;

/**
 * The purchases of the sample as orders of this trial, with large ones and pairs that contradict each other; with
 * `twoClients`, some of a key that both use, each for an order of its own.
 */
export async function createSubmissions(
  random: Random,
  most: number,
  { twoClients = false } = {},
): Promise<Submission[]> {
  const submissions: Submission[] = [];
  for await (const line of readOrders(SAMPLE, { limit: most })) {
    if ('error' in line) throw line.error;
    const { orderId: _sampleId, ...order } = orderRequestSchema.parse(line.order);
    const way = random.chance(0.75) ? 'own id' : random.pick<Way>(['key', 'no id']);
    const submission = createSubmission(random.chance(0.05) ? enlarged(order) : order, way);
    submissions.push(submission);
    if (way === 'own id' && random.chance(0.05)) submissions.push(contradicting(submission));
    if (way === 'key' && twoClients && random.chance(0.5)) submissions.push(sharingKey(submission));
    if (random.chance(INVALID_SHARE)) submissions.push(createInvalid(order));
  }
  return submissions;
}

export function createSubmission(
  order: OrderRequest,
  way: Way,
  orderId = randomUUID() as string,
): Submission {
  const tag = randomUUID();
  return {
    tag,
    order: {
      ...order,
      ...(way === 'own id' ? { orderId } : {}),
      metadata: { ...order.metadata, [TAG]: tag },
    },
    key: way === 'key' ? randomUUID() : undefined,
    repeatable: way !== 'no id',
    invalid: false,
    answer: 'none',
    confirmed: 0,
    orderIds: new Set(way === 'own id' ? [orderId] : []),
    oddAnswers: [],
  };
}

/** Orders whose customers the database is to refuse. */
export function createRefused({ orderId: _orderId, ...order }: OrderRequest): Submission[] {
  const each = Array.from({ length: REFUSED_EACH });
  return (['for ever', 'once'] as const).flatMap((refused) =>
    each.map(() => ({
      ...createSubmission({ ...order, customerId: `refused-${randomUUID()}` }, 'own id'),
      refused,
    })),
  );
}

function createInvalid(order: OrderRequest): Submission {
  const totalAmount = order.totalAmount + 1;
  return { ...createSubmission({ ...order, totalAmount }, 'own id'), invalid: true };
}

/** Large enough to be packed. */
function enlarged(order: OrderRequest): OrderRequest {
  const extra = Array.from({ length: 60 }, (_, index) => ({
    productId: `SKU-${index}`,
    name: `Collector's edition, volume ${index}, of the complete recordings`,
    quantity: 1,
    unitPrice: 0,
  }));
  return { ...order, items: [...order.items, ...extra] };
}

/** Another order of the same id: whichever is stored first stays, the other one is a conflict. */
function contradicting({ order }: Submission): Submission {
  const { orderId, metadata: _metadata, ...content } = order;
  return createSubmission({ ...content, customerId: `${order.customerId}-2` }, 'own id', orderId);
}

/** The other client's order, of another content, for the same customer under the same key: neither meets the other. */
function sharingKey(submission: Submission): Submission {
  const { metadata: _metadata, ...order } = submission.order;
  const [mine, others] = CLIENTS;
  submission.clientId = mine;
  return { ...createSubmission(order, 'key'), key: submission.key, clientId: others };
}

/** Posts orders to the producer, as its clients where they have keys, and notes what it was told of each. */
export class Client {
  readonly #producerUrl: string;
  readonly #keys: ClientKeys | undefined;
  /** Requests that got no answer at all, in words, although their connection stayed. */
  readonly unanswered: string[] = [];

  constructor(producerUrl: string, keys?: ClientKeys) {
    this.#producerUrl = producerUrl;
    this.#keys = keys;
  }

  async post(submission: Submission): Promise<void> {
    const headers = submission.key === undefined ? {} : { 'idempotency-key': submission.key };
    const answer = await this.#request('/orders', submission.order, headers, this.#clientOf(submission));
    if (!answer) return this.#note(submission, undefined);
    this.#note(submission, answer.status, (answer.body as { orderId?: string } | undefined)?.orderId);
  }

  /** In one request per client. */
  async postBatch(submissions: readonly Submission[]): Promise<void> {
    const byClient = Map.groupBy(submissions, (each) => this.#clientOf(each));
    await Promise.all(byClient.entries().map(([clientId, batch]) => this.#postBatchAs(clientId, batch)));
  }

  async #postBatchAs(clientId: string | undefined, submissions: readonly Submission[]): Promise<void> {
    const orders = submissions.map(({ order }) => order);
    const answer = await this.#request('/orders/batch', { orders }, {}, clientId);
    const results = (answer?.body as { results?: { status: number; orderId?: string }[] } | undefined)
      ?.results;
    for (const [index, submission] of submissions.entries()) {
      const result = answer?.status === 207 ? results?.[index] : answer;
      this.#note(submission, result?.status, results?.[index]?.orderId);
    }
  }

  /** Whoever posts it first posts it always. */
  #clientOf(submission: Submission): string | undefined {
    submission.clientId ??= this.#keys?.pick();
    return submission.clientId;
  }

  #request(route: string, body: unknown, headers: Record<string, string>, clientId: string | undefined) {
    const send = (own: Record<string, string>) => this.#send(route, body, { ...headers, ...own });
    return this.#keys ? this.#keys.send(clientId, send) : send({});
  }

  async #send(route: string, body: unknown, headers: Record<string, string>) {
    try {
      const response = await fetch(this.#producerUrl + route, {
        method: 'POST',
        // Kept alive, they would look like a leak of the producer.
        headers: { 'content-type': 'application/json', connection: 'close', ...headers },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      // What was answered counts, also when its body breaks off.
      const answered: unknown = await response.json().catch(() => undefined);
      return { status: response.status, body: answered };
    } catch (error) {
      if ((error as Error).name === 'TimeoutError')
        this.unanswered.push(`POST ${route} got no answer within ${REQUEST_TIMEOUT_MS} ms`);
      return undefined;
    }
  }

  #note(submission: Submission, status: number | undefined, orderId?: string): void {
    if (orderId !== undefined) submission.orderIds.add(orderId.toLowerCase());
    if (submission.invalid) submission.answer = 'refused';
    else if (status === 202) submission.answer = 'accepted';
    else if (submission.answer !== 'accepted') submission.answer = 'unknown';
    if (status === 202) submission.confirmed++;
    // 429 comes before the order is read.
    const expected = submission.invalid ? [422, 429] : [202, 429, 503];
    if (status !== undefined && !expected.includes(status)) submission.oddAnswers.push(status);
  }
}

type PoisonKind = { reason: string; make: (order: OrderRequest, random: Random) => Promise<Message> };
export type Message = { body: string; attributes: Readonly<Record<string, string>> };

const POISON: PoisonKind[] = [
  { reason: 'NOT_JSON', make: async () => ({ body: `not JSON ${randomUUID()}`, attributes: {} }) },
  {
    reason: 'NOT_AN_ENVELOPE',
    make: async () => ({ body: JSON.stringify({ hello: randomUUID() }), attributes: {} }),
  },
  {
    reason: 'UNKNOWN_VERSION',
    make: (order) => envelope(order, (event) => ({ ...event, type: 'order.placed.v0' })),
  },
  {
    reason: 'NEWER_VERSION',
    make: (order) => envelope(order, (event) => ({ ...event, type: 'order.placed.v99' })),
  },
  {
    reason: 'UNREADABLE_CONTENT',
    make: (order) =>
      envelope(order, ({ data: _data, ...event }) => ({
        ...event,
        contentencoding: 'gzip',
        data_base64: Buffer.from('not gzip').toString('base64'),
      })).then(({ body }) => ({ body, attributes: {} })),
  },
  {
    reason: 'ATTRIBUTE_MISMATCH',
    make: async (order) => ({
      ...(await envelope(order)),
      attributes: { contentEncoding: 'gzip' },
    }),
  },
  {
    reason: 'CONTENT_HASH_MISMATCH',
    make: (order) => envelope(order, (event) => ({ ...event, contenthash: 'v1:0' })),
  },
  {
    reason: 'INVALID_ORDER',
    make: (order) =>
      envelope(order, (event) => ({ ...event, data: { ...(event['data'] as object), totalAmount: -1 } })),
  },
];

/** Of an order, as the producer would send it, or spoilt. */
export async function envelope(
  order: OrderRequest,
  spoil: (event: Record<string, unknown>) => Record<string, unknown> = (event) => event,
  orderId: string = randomUUID(),
): Promise<Message> {
  const { body } = await encodeOrderMessage(
    { order: { ...order, orderId }, contentHash: contentHash(order), traceparent: undefined },
    { version: 1, encoding: 'identity', compressAboveBytes: 1 },
  );
  return { body: JSON.stringify(spoil(JSON.parse(body))), attributes: {} };
}

const MAX_REQUEST_BYTES = 200_000;

/** Straight to the queue, as many in a request as fit. Resolves with the id of each message, in order. */
export async function sendMessages(
  client: SQSClient,
  QueueUrl: string,
  messages: readonly Message[],
): Promise<string[]> {
  const ids: string[] = [];
  for (let start = 0; start < messages.length; ) {
    let bytes = 0;
    let end = start;
    while (end < messages.length && end - start < 10) {
      bytes += Buffer.byteLength(messages[end]?.body ?? '');
      if (end > start && bytes > MAX_REQUEST_BYTES) break;
      end++;
    }
    const Entries = messages.slice(start, end).map(({ body, attributes }, index) => ({
      Id: String(index),
      MessageBody: body,
      MessageAttributes: stringAttributes(attributes),
    }));
    const { Successful = [] } = await client.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
    if (Successful.length !== Entries.length) throw new Error('SQS does not take a flood');
    const byEntry = new Map(Successful.map(({ Id, MessageId }) => [Id, MessageId ?? '']));
    ids.push(...Entries.map(({ Id }) => byEntry.get(Id) ?? ''));
    start = end;
  }
  return ids;
}

/** One message of each kind that can never be stored, sent past the producer. */
export async function sendPoison(
  client: SQSClient,
  queueUrl: string,
  order: OrderRequest,
  random: Random,
): Promise<Poison> {
  const { reason, make } = random.pick(POISON);
  const { body, attributes } = await make(order, random);
  await client.send(
    new SendMessageCommand({
      QueueUrl: queueUrl,
      MessageBody: body,
      MessageAttributes: stringAttributes(attributes),
    }),
  );
  return { body, reason };
}
