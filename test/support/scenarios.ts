import { randomUUID } from 'node:crypto';
import {
  DeleteMessageCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageCommand,
  SetQueueAttributesCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { openOrderRepository } from '@orders/consumer/adapters/open-order-repository.ts';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { decodeOrderMessage } from '@orders/shared/order/message.ts';
import type { Environment } from '@orders/shared/runtime/config.ts';
import { ensureQueues, queueAttributes } from '@orders/shared/sqs/queue-admin.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { describe, expect, test, vi } from 'vitest';
import { findStored } from '../../dev/order-follower.ts';
import { scrape } from '../../scripts/prometheus-text.ts';
import { hostileMessages, sendAndAccountFor } from '../hostile/messages.ts';
import type { Backend, Capabilities, Store } from './backends.ts';
import { eventually } from './eventually.ts';
import { describeOn, type Running } from './on-backend.ts';
import { getJson, type LogLine, type Pair, post, startPair } from './pair.ts';
import { depthOf, type OwnQueues, openQueues, type Queues } from './queues.ts';

/** The same scenarios on every SQS and store: what one of them cannot do is in the table of `backends.ts`. */
export async function describeScenarios(backend: Backend, store: Store): Promise<void> {
  await describeOn(backend, store, (running) => {
    const open = (env: Environment = {}) => openScenario(running(), env, backend.capabilities);

    describe.concurrent('scenarios', () => {
      for (const [name, { env, play }] of Object.entries(SCENARIOS)) {
        test(name, async () => {
          await using scenario = await open(env);
          await play(scenario);
        });
      }
    });

    describe.concurrent('capabilities', () => {
      for (const [capability, observe] of Object.entries(OBSERVATIONS)) {
        const expected = backend.capabilities[capability as keyof Capabilities];
        test(`${capability}, is ${expected}, as the table says`, async () => {
          await using queues = await openQueues(running().backend.env);
          expect(await observe(queues)).toBe(expected);
        });
      }
    });

    // Last and alone, since the others cannot go on while it is away.
    test('restart of SQS under the running services, when its queues are there again, is got over by both', async ({
      skip,
    }) => {
      const { restart } = running().backend;
      if (!restart) return skip('it is not ours to restart');
      await using scenario = await open();
      const { pair, client, urls, names } = scenario;
      const QueueUrl = urls.deadLetterQueueUrl;
      await client.send(new SendMessageCommand({ QueueUrl, MessageBody: 'kept?' }));
      await restart();
      const kept = await depthOf(client, QueueUrl).then(
        ({ visible }) => visible === 1,
        () => false,
      );
      expect(kept).toBe(backend.capabilities.persistsOverRestart);
      await ensureQueues(client, 'dev', names);
      const orderId = await eventually(() => place(pair));
      await scenario.isStored(orderId);
    });
  });
}

type Scenario = OwnQueues & {
  capabilities: Capabilities;
  pair: Pair;
  databaseUrl: string;
  deadLetterQueue: DeadLetterQueue;
  send: (body: string) => Promise<unknown>;
  receive: (seconds: number) => Promise<Message[]>;
  isStored: (orderId: string) => Promise<void>;
  /** What the consumer made of orders, as far as SQS has confirmed it. */
  settled: (outcome?: 'processed' | 'duplicate') => LogLine[];
  depth: () => Promise<{ visible: number; inFlight: number }>;
  /** Nothing waits, nothing is under way, nothing is in the DLQ. */
  isEmpty: () => Promise<void>;
};

async function openScenario(
  { backend, store }: Running,
  env: Environment,
  capabilities: Capabilities,
): Promise<Scenario> {
  const queues = await openQueues(backend.env);
  const { client, urls } = queues;
  const databaseUrl = await store.newDatabase();
  const pair = await startPair({
    ...queues.env,
    DATABASE_URL: databaseUrl,
    ...env,
  });
  const deadLetterQueue = new DeadLetterQueue(client, urls);
  const depth = () => depthOf(client, urls.queueUrl);
  return {
    ...queues,
    capabilities,
    pair,
    databaseUrl,
    deadLetterQueue,
    depth,
    send: (MessageBody) => client.send(new SendMessageCommand({ QueueUrl: urls.queueUrl, MessageBody })),
    receive: (seconds) =>
      receive(client, urls.queueUrl, {
        VisibilityTimeout: seconds,
        MessageSystemAttributeNames: ['MessageGroupId'],
      }),
    isStored: (orderId) =>
      eventually(async () => {
        expect((await getJson(`${pair.consumerUrl}/orders/${orderId}`)).status).toBe(200);
      }),
    settled: (outcome) =>
      pair.lines.filter(
        (line) => line.message === 'order settled' && (outcome === undefined || line['outcome'] === outcome),
      ),
    isEmpty: async () => {
      await eventually(async () => expect(await depth()).toEqual({ visible: 0, inFlight: 0 }));
      expect(await depthOf(client, urls.deadLetterQueueUrl)).toEqual({ visible: 0, inFlight: 0 });
    },
    [Symbol.asyncDispose]: async () => {
      await pair[Symbol.asyncDispose]();
      await queues[Symbol.asyncDispose]();
    },
  };
}

async function receive(client: SQSClient, QueueUrl: string, options: object = {}): Promise<Message[]> {
  const { Messages } = await client.send(
    new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, ...options }),
  );
  return Messages ?? [];
}

async function place(pair: Pair, overrides: object = {}, headers: Record<string, string> = {}) {
  const { status, body } = await post(`${pair.producerUrl}/orders`, anOrderRequest(overrides), headers);
  expect(status).toBe(202);
  return body.orderId as string;
}

/** All accepted, in one request. */
async function placeBatch(pair: Pair, orders: object[]): Promise<void> {
  const { status, body } = await post(`${pair.producerUrl}/orders/batch`, { orders });
  expect(status).toBe(207);
  expect(body).toMatchObject({ accepted: orders.length, refused: 0 });
}

const newOrders = (count: number) =>
  Array.from({ length: count }, () => anOrderRequest({ orderId: randomUUID() }));
const idsOf = (orders: { orderId?: string | undefined }[]) => orders.map(({ orderId }) => orderId ?? '');

const NOT_AN_ORDER = JSON.stringify({
  specversion: '1.0',
  type: 'order.placed.v1',
  id: '1',
  source: '/x',
  data: { customerId: '' },
});
const NEWER = NOT_AN_ORDER.replace('order.placed.v1', 'order.placed.v999');
const UNKNOWN = NOT_AN_ORDER.replace('order.placed.v1', 'order.cancelled.v1');

const HOSTILE_SEED = 20_261_123;

type Play = { env?: Environment; play: (scenario: Scenario) => Promise<void> };

const SCENARIOS: Record<string, Play> = {
  'order, posted, is stored as it was sent': {
    play: async ({ pair, isStored, isEmpty }) => {
      const orderId = await place(pair, { customerId: 'C-왕복-🛒' });
      await isStored(orderId);
      const { body } = await getJson(`${pair.consumerUrl}/orders/${orderId}`);
      expect(body).toMatchObject({
        ...anOrderRequest({ customerId: 'C-왕복-🛒' }),
        orderId,
        state: 'STORED',
      });
      await isEmpty();
    },
  },

  'batch of 100, 20 of which were sent before, is accepted, and each order is stored once': {
    play: async ({ pair, settled, isEmpty }) => {
      const orders = newOrders(100);
      await placeBatch(pair, orders.slice(0, 20));
      await placeBatch(pair, orders);
      await eventually(() => expect(settled()).toHaveLength(120));
      expect((await findStored(pair.consumerUrl, idsOf(orders))).size).toBe(100);
      expect(idsOf(settled('processed') as { orderId?: string }[]).sort()).toEqual(idsOf(orders).sort());
      expect(settled('duplicate')).toHaveLength(20);
      await isEmpty();
    },
  },

  'order, sent twice with one idempotency key, is processed once': {
    play: async ({ pair, settled, isEmpty }) => {
      const headers = { 'idempotency-key': randomUUID() };
      const first = await place(pair, {}, headers);
      expect(await place(pair, { createdAt: '2026-11-22T10:00:00Z' }, headers)).toBe(first);
      await eventually(() => expect(settled()).toHaveLength(2));
      expect(settled('processed')).toMatchObject([{ orderId: first }]);
      expect(settled('duplicate')).toMatchObject([{ orderId: first }]);
      await isEmpty();
    },
  },

  'rubbish, ends in the DLQ with its reason, is still there after a look, and goes back by redrive': {
    play: async ({ pair, send, deadLetterQueue, depth }) => {
      const reasons = async () =>
        (await deadLetterQueue.peek(10)).map(({ deadLetter }) => deadLetter?.reason).sort();
      const all = ['INVALID_ORDER', 'NOT_JSON', 'UNKNOWN_VERSION'];
      for (const body of ['not json', NOT_AN_ORDER, UNKNOWN]) await send(body);
      await eventually(async () => expect(await reasons()).toEqual(all));
      expect(await reasons()).toEqual(all);
      await pair.stopConsumer();

      expect(await deadLetterQueue.redrive({ dryRun: true })).toBe(3);
      expect(await depth()).toEqual({ visible: 0, inFlight: 0 });
      expect(await deadLetterQueue.redrive({ limit: 1 })).toBe(1);
      await eventually(async () => expect(await depth()).toEqual({ visible: 1, inFlight: 0 }));
      expect(await reasons()).toHaveLength(2);
      expect(await deadLetterQueue.redrive({})).toBe(2);
      expect(await reasons()).toEqual([]);
      await pair.startConsumerAgain();
      await eventually(async () => expect(await reasons()).toEqual(all));
    },
  },

  'rubbish that is rejected again and again, two redrives at once, move it once each and end': {
    play: async ({ pair, client, urls, send, deadLetterQueue }) => {
      const waiting = () => eventually(async () => expect(await deadLetterQueue.peek(10)).toHaveLength(3));
      for (const body of ['not json', NOT_AN_ORDER, UNKNOWN]) await send(body);
      await waiting();
      const another = new DeadLetterQueue(client, urls);
      const moved = await Promise.all([deadLetterQueue.redrive({}), another.redrive({})]);
      expect(Math.max(...moved)).toBeLessThanOrEqual(3);
      expect(moved[0] + moved[1]).toBeGreaterThanOrEqual(3);
      await waiting();
      await pair.stopConsumer();
      expect(await deadLetterQueue.redrive({ dryRun: true })).toBe(3);
    },
  },

  'order with an id that is taken, ends in the DLQ as a conflict, and the first is kept': {
    play: async ({ pair, isStored, deadLetterQueue }) => {
      const orderId = randomUUID();
      await place(pair, { orderId });
      await isStored(orderId);
      await place(pair, { orderId, customerId: 'C-OTHER' });
      const [letter] = await eventually(async () => {
        const letters = await deadLetterQueue.peek(10);
        expect(letters).toHaveLength(1);
        return letters;
      });
      expect(letter?.deadLetter).toMatchObject({ reason: 'CONFLICT', attempts: 1 });
      expect(decodeOrderMessage(letter?.message.body ?? '').order).toMatchObject({
        orderId,
        customerId: 'C-OTHER',
      });
      expect((await getJson(`${pair.consumerUrl}/orders/${orderId}`)).body.customerId).toBe('C-1001');
    },
  },

  'message received too often, is moved to the DLQ by SQS, has no reason there, and is stored after a redrive':
    {
      play: async ({ pair, client, urls, receive, deadLetterQueue, isStored, isEmpty }) => {
        await pair.stopConsumer();
        const { RedrivePolicy } = await queueAttributes(client, urls.queueUrl);
        const policy = JSON.stringify({ ...JSON.parse(RedrivePolicy ?? '{}'), maxReceiveCount: 2 });
        await client.send(
          new SetQueueAttributesCommand({
            QueueUrl: urls.queueUrl,
            Attributes: { RedrivePolicy: policy },
          }),
        );
        const orderId = await place(pair);
        // As one would that dies of it each time. Nobody else receives, and SQS moves it when someone asks again.
        const letters = await eventually(async () => {
          await receive(0);
          const letters = await deadLetterQueue.peek(10);
          expect(letters).toHaveLength(1);
          return letters;
        });
        expect(letters[0]?.deadLetter).toBeUndefined();
        expect(await deadLetterQueue.redrive({})).toBe(1);
        await pair.startConsumerAgain();
        await isStored(orderId);
        await isEmpty();
      },
    },

  'message of a newer version, is released for a newer consumer, neither deleted nor dead-lettered': {
    play: async ({ pair, send, depth, client, urls }) => {
      await send(NEWER);
      await eventually(() =>
        expect(pair.lines).toContainEqual(
          expect.objectContaining({ message: 'message released', cause: 'newer-version', delaySeconds: 60 }),
        ),
      );
      await pair.stopConsumer();
      expect(await depth()).toEqual({ visible: 0, inFlight: 1 });
      expect(await depthOf(client, urls.deadLetterQueueUrl)).toEqual({ visible: 0, inFlight: 0 });
    },
  },

  'message of a consumer that died after its commit, comes again when its visibility ran out, and is a duplicate':
    {
      play: async ({ pair, databaseUrl, receive, isEmpty, settled }) => {
        await pair.stopConsumer();
        const orderId = await place(pair);
        const [message] = await eventually(async () => {
          const messages = await receive(2);
          expect(messages).toHaveLength(1);
          return messages;
        });
        const { order, contentHash } = decodeOrderMessage(message?.Body ?? '');
        const other = await openOrderRepository(databaseUrl, {
          poolSize: 1,
          connectTimeoutMs: 5_000,
          statementTimeoutMs: 5_000,
        });
        expect(await other.saveAll([{ order, contentHash, traceId: '' }])).toMatchObject([[{}, 'stored']]);
        await other.close();
        await pair.startConsumerAgain();
        await eventually(() =>
          expect(settled()).toMatchObject([{ orderId, outcome: 'duplicate', receiveCount: 2 }]),
        );
        await isEmpty();
      },
    },

  '200 mutated messages, with all characters that SQS takes, are each stored or dead-lettered at the first receive':
    {
      env: { NEWER_VERSION_REJECT_SECONDS: '0' },
      play: async ({ pair, client, urls, capabilities }) => {
        const messages = [...hostileMessages(200, HOSTILE_SEED, { astral: capabilities.astralCharacters })];
        const { consumerUrl } = pair;
        const { deadLettered } = await sendAndAccountFor(messages, { client, urls, consumerUrl });
        expect(deadLettered).toBeGreaterThan(100);
      },
    },

  'queues, made by several at once and again, are the same, and what drifted is mended': {
    play: async ({ client, names, urls, capabilities }) => {
      const ensure = () => ensureQueues(client, 'dev', names);
      for (const { queue, deadLetterQueue } of await Promise.all([ensure(), ensure(), ensure()])) {
        expect(queue).toEqual({ name: names.queue, url: urls.queueUrl, created: false, drift: [], left: [] });
        expect(deadLetterQueue).toMatchObject({ url: urls.deadLetterQueueUrl, created: false, drift: [] });
      }
      const found = await queueAttributes(client, urls.queueUrl);
      const { deadLetterTargetArn } = JSON.parse(found.RedrivePolicy ?? '{}');
      const drifted = {
        VisibilityTimeout: '7',
        RedrivePolicy: JSON.stringify({ deadLetterTargetArn, maxReceiveCount: 3 }),
        ...(capabilities.allQueueAttributes ? { MessageRetentionPeriod: '3600' } : {}),
      };
      await client.send(new SetQueueAttributesCommand({ QueueUrl: urls.queueUrl, Attributes: drifted }));
      const { drift } = (await ensure()).queue;
      expect(drift.map(({ attribute }) => attribute).sort()).toEqual(Object.keys(drifted).sort());
      expect((await ensure()).queue.drift).toEqual([]);
      const mended = await queueAttributes(client, urls.queueUrl);
      expect(mended.VisibilityTimeout).toBe(found.VisibilityTimeout);
      expect(JSON.parse(mended.RedrivePolicy ?? '{}')).toEqual(JSON.parse(found.RedrivePolicy ?? '{}'));
    },
  },

  'move task, where there is one, brings all dead letters back, and what SQS does not know of too': {
    play: async ({ capabilities, pair, send, deadLetterQueue, depth, client, urls }) => {
      await send('not json');
      await send(NOT_AN_ORDER);
      const dead = () => depthOf(client, urls.deadLetterQueueUrl);
      await eventually(async () => expect(await dead()).toEqual({ visible: 2, inFlight: 0 }));
      await pair.stopConsumer();
      if (capabilities.moveTasks) {
        await deadLetterQueue.startMoveTask(100);
        await eventually(async () => expect(await depth()).toEqual({ visible: 2, inFlight: 0 }));
        expect(await dead()).toEqual({ visible: 0, inFlight: 0 });
      } else {
        await expect(deadLetterQueue.startMoveTask()).rejects.toThrow();
        expect(await dead()).toEqual({ visible: 2, inFlight: 0 });
      }
    },
  },

  'poll under way at a stop, is left to finish, and what it brings is worked off': {
    env: { SQS_WAIT_TIME_SECONDS: '3', POLLERS: '1' },
    play: async ({ pair, settled, depth }) => {
      const emptyPolls = async () => (await scrape(pair.consumerUrl)).value('sqs_empty_polls_total');
      // Behind a poll that ended just now, the next has its whole wait time before it.
      const before = await emptyPolls();
      await eventually(async () => expect(await emptyPolls()).toBeGreaterThan(before));
      const stopped = pair.stopConsumer();
      const orderId = await place(pair);
      await stopped;
      expect(pair.lines).toContainEqual(
        expect.objectContaining({ message: 'consumer drained', released: 0 }),
      );
      expect(settled('processed')).toMatchObject([{ orderId }]);
      expect(await depth()).toEqual({ visible: 0, inFlight: 0 });
    },
  },

  'fair queues, say at the start what the endpoint does with groups, and orders arrive, with their group where it is kept':
    {
      env: { FAIR_QUEUES: 'on' },
      play: async ({ pair, capabilities, receive, isStored }) => {
        const findings = pair.lines.flatMap(({ finding }) =>
          /MessageGroupId/.test(String(finding)) ? finding : [],
        );
        const wanted = capabilities.keepsMessageGroups
          ? /^the endpoint keeps/
          : /^the endpoint (drops|refuses)/;
        // Of AWS itself it is known.
        if (pair.endpoint !== 'aws') expect(findings).toEqual([expect.stringMatching(wanted)]);
        await isStored(await place(pair));
        if (!capabilities.keepsMessageGroups) return;
        await pair.stopConsumer();
        await place(pair, { customerId: 'a' });
        await place(pair, { customerId: 'b' });
        const received: Message[] = [];
        await eventually(async () => {
          received.push(...(await receive(60)));
          expect(received).toHaveLength(2);
        });
        const groups = received.map(({ Attributes }) => Attributes?.['MessageGroupId']);
        expect(groups).toEqual([expect.stringMatching(/^[\w-]{43}$/), expect.stringMatching(/^[\w-]{43}$/)]);
        expect(new Set(groups).size).toBe(2);
      },
    },

  'stop with 300 orders in the queue, releases none, leaves none in flight, and a restart stores each once': {
    play: async ({ pair, settled, depth, isEmpty }) => {
      await pair.stopConsumer();
      const orders = newOrders(300);
      await placeBatch(pair, orders);
      await pair.startConsumerAgain();
      await vi.waitUntil(() => settled().length > 0, { timeout: 30_000, interval: 1 });
      await pair.stopConsumer();
      const drained = pair.lines.findLast(({ message }) => message === 'consumer drained');
      expect(drained).toMatchObject({ released: 0 });
      const atStop = settled('processed').length;
      expect(atStop).toBeLessThan(300);
      await eventually(async () => expect(await depth()).toEqual({ visible: 300 - atStop, inFlight: 0 }));

      await pair.startConsumerAgain();
      await eventually(() => expect(settled()).toHaveLength(300));
      expect(idsOf(settled('processed') as { orderId?: string }[]).sort()).toEqual(idsOf(orders).sort());
      expect((await findStored(pair.consumerUrl, idsOf(orders))).size).toBe(300);
      await isEmpty();
    },
  },
};

/** How each capability shows. `persistsOverRestart` shows in the scenario of the restart. */
const OBSERVATIONS: Record<
  Exclude<keyof Capabilities, 'persistsOverRestart'>,
  (queues: Queues) => Promise<boolean>
> = {
  moveTasks: ({ client, urls }) =>
    new DeadLetterQueue(client, urls).startMoveTask().then(
      () => true,
      () => false,
    ),

  systemAttributeNames: async ({ client, urls }) => {
    await client.send(new SendMessageCommand({ QueueUrl: urls.queueUrl, MessageBody: 'x' }));
    const [message] = await receive(client, urls.queueUrl, {
      MessageSystemAttributeNames: ['ApproximateReceiveCount'],
    });
    expect(message).toBeDefined();
    return message?.Attributes?.['ApproximateReceiveCount'] === '1';
  },

  rejectsBogusReceiptHandle: ({ client, urls }) =>
    client.send(new DeleteMessageCommand({ QueueUrl: urls.queueUrl, ReceiptHandle: 'bogus' })).then(
      () => false,
      () => true,
    ),

  redrivePolicyMoves: async ({ client, urls }) => {
    const { QueueArn: deadLetterTargetArn } = await queueAttributes(client, urls.deadLetterQueueUrl);
    const RedrivePolicy = JSON.stringify({ deadLetterTargetArn, maxReceiveCount: 1 });
    await client.send(
      new SetQueueAttributesCommand({ QueueUrl: urls.queueUrl, Attributes: { RedrivePolicy } }),
    );
    await client.send(new SendMessageCommand({ QueueUrl: urls.queueUrl, MessageBody: 'x' }));
    expect(await receive(client, urls.queueUrl, { VisibilityTimeout: 0 })).toHaveLength(1);
    await receive(client, urls.queueUrl, { VisibilityTimeout: 0 });
    return (await depthOf(client, urls.deadLetterQueueUrl)).visible === 1;
  },

  astralCharacters: async ({ client, urls }) =>
    client.send(new SendMessageCommand({ QueueUrl: urls.queueUrl, MessageBody: '🛒' })).then(
      () => true,
      () => false,
    ),

  keepsMessageGroups: async ({ client, urls }) => {
    const message = { QueueUrl: urls.queueUrl, MessageBody: 'x', MessageGroupId: 'a-client' };
    const error = await client.send(new SendMessageCommand(message)).catch((error: Error) => error.name);
    if (typeof error === 'string') {
      expect(error).toMatch(/^InvalidParameterValue/);
      return false;
    }
    const [received] = await receive(client, urls.queueUrl, {
      MessageSystemAttributeNames: ['MessageGroupId'],
    });
    expect(received).toBeDefined();
    return received?.Attributes?.['MessageGroupId'] === 'a-client';
  },

  allQueueAttributes: async ({ client, urls }) => {
    const attributes = await queueAttributes(client, urls.queueUrl);
    const names = ['SqsManagedSseEnabled', 'MessageRetentionPeriod', 'MaximumMessageSize'] as const;
    return names.every((name) => attributes[name] !== undefined);
  },
};
