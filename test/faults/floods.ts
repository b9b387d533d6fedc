import { randomUUID } from 'node:crypto';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { packMessages } from '@orders/shared/order/packed-message.ts';
import { queueDepth } from '@orders/shared/sqs/queue-admin.ts';
import type { Fault, FaultScene } from './fault.ts';
import type { Poison } from './invariants.ts';
import type { SqsFault } from './sqs-fault-proxy.ts';
import { createSubmission, envelope, type Message, type Submission, sendMessages } from './workload.ts';

/** Messages of one outcome: what a faulty client, a rollback or an attack sends. */
type Outcome = 'unreadable' | 'conflict' | 'newer version';

/** Of a flood, and how many orders are in each message of it. */
const SINGLE = { messages: 300, orders: 1 };
const PACKED = { messages: 15, orders: 100 };
/** SQS is that far away while a flood lasts, which is longer than it is from an emulator. */
const DISTANCE_MS = 20;
const FLOOD_LIMIT_MS = 6_000;
const POLL_MS = 100;

/** The largest order that the door takes, and the largest batch. */
const MAX_ORDER_BYTES = 256 * 1024;
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
const MIN_ORDER_BYTES = 200;
const SIZED_ORDERS = 100;
/** Without the request around it. */
const SPARE_BYTES = 1_024;
const ITEM_BYTES = 300;

export const FLOODS: readonly Fault[] = [
  flood('flood of unreadable messages', 'unreadable', SINGLE),
  flood('flood of unreadable messages, packed', 'unreadable', PACKED),
  flood('flood of conflicts', 'conflict', SINGLE),
  flood('flood of conflicts, packed', 'conflict', PACKED),
  flood('flood of newer versions', 'newer version', SINGLE),
  flood('flood of newer versions, packed', 'newer version', PACKED),
  deadLetterQueue('DLQ slow', ({ random }) => ({ kind: 'slow', delayMs: random.integer(300, 900) })),
  deadLetterQueue('DLQ hangs', () => ({ kind: 'hang' })),
  deadLetterQueue('DLQ throttles', ({ random }) => ({
    kind: 'refuse',
    status: 400,
    code: 'ThrottlingException',
    share: random.pick([0.5, 1]),
  })),
  { name: 'orders of every size', needs: { room: true }, run: postEverySize },
  { name: 'unfinished uploads', needs: {}, run: leaveUploads },
];

function flood(name: string, outcome: Outcome, size: typeof SINGLE): Fault {
  return {
    name,
    needs: {},
    run: async (scene) => {
      const { proxy, sqs, queues, note } = scene;
      const distance = await proxy.inject({ kind: 'slow', delayMs: DISTANCE_MS });
      const sent = await pour(scene, outcome, size);
      note(`${name}: ${sent} messages sent`);
      const deadline = performance.now() + FLOOD_LIMIT_MS;
      const isOver = async () =>
        Object.values(await queueDepth(sqs, queues.queueUrl)).every((count) => count === 0);
      while (performance.now() < deadline && !(await isOver())) await sleep(POLL_MS);
      await distance.end();
      return sent;
    },
  };
}

/** The DLQ alone misbehaves, while there is much for it. Its strikes are requests. */
function deadLetterQueue(name: string, make: (scene: FaultScene) => SqsFault): Fault {
  return {
    name,
    needs: {},
    run: async (scene) => {
      const { proxy, random, deadLetterQueue: queue, note } = scene;
      const fault = { ...make(scene), queue, operations: ['SendMessage', 'SendMessageBatch'] };
      const active = await proxy.inject(fault);
      note(`${name}: ${JSON.stringify(fault)}`);
      await pour(scene, 'unreadable', SINGLE, random.pick([200, 2_000, 60_000]));
      // The first ones by themselves: what follows is received while they wait.
      await sleep(random.between(2_000, 4_500));
      await active.end();
      return active.hits;
    },
  };
}

/** Straight to the queue. Resolves with how many messages were sent. */
export async function pour(
  scene: FaultScene,
  outcome: Outcome,
  { messages, orders }: typeof SINGLE,
  fillerBytes = 0,
): Promise<number> {
  const { sqs, queues, model, sent } = scene;
  const orderId = randomUUID();
  const filler = 'x'.repeat(fillerBytes);
  const one = async (): Promise<{ message: Message; submission?: Submission; reason?: string }> => {
    if (outcome === 'conflict') {
      const submission = createSubmission({ ...model, customerId: 'C-flood' }, 'own id', orderId);
      submission.answer = 'accepted';
      return { submission, message: await envelope(submission.order, undefined, orderId) };
    }
    if (outcome === 'newer version') {
      const message = await envelope(model, (event) => ({ ...event, type: 'order.placed.v99' }));
      return { message, reason: 'NEWER_VERSION' };
    }
    return { message: { body: `not JSON ${randomUUID()} ${filler}`, attributes: {} }, reason: 'NOT_JSON' };
  };
  const groups = await Promise.all(
    Array.from({ length: messages }, () => Promise.all(Array.from({ length: orders }, one))),
  );
  const asSent = await Promise.all(
    groups.map(async (group) => {
      const [first] = group;
      return group.length === 1 && first
        ? first.message
        : packMessages(group.map(({ message }) => message.body));
    }),
  );
  const ids = await sendMessages(sqs, queues.queueUrl, asSent);
  for (const [index, group] of groups.entries()) {
    const carrier = ids[index] as string;
    for (const { message, submission, reason } of group) {
      if (submission) sent.orders([{ ...submission, carrier }]);
      else sent.poison([{ body: message.body, reason, carrier } as Poison]);
    }
  }
  return messages;
}

/** Orders of all sizes that the door takes, singly, in batches, and many of the largest at once. */
async function postEverySize({ random, client, model, sent, note }: FaultScene): Promise<number> {
  const { orderId: _orderId, ...order } = model;
  const ofSize = (bytes: number) => {
    const sized = { ...order, customerId: SIZED_CUSTOMER };
    const missing = bytes - SPARE_BYTES - JSON.stringify(sized).length;
    const extra = Array.from({ length: Math.max(0, Math.floor(missing / ITEM_BYTES)) }, (_, index) => ({
      productId: `SKU-${index}`,
      // As texts that people write are: they shrink to a few tenths.
      name: words(random, ITEM_BYTES - 60),
      quantity: 1,
      unitPrice: 0,
    }));
    return createSubmission({ ...sized, items: [...sized.items, ...extra] }, 'own id');
  };
  const sizes = Array.from({ length: SIZED_ORDERS }, () =>
    Math.round(MIN_ORDER_BYTES * (MAX_ORDER_BYTES / MIN_ORDER_BYTES) ** random.between(0, 1)),
  );
  const single = sizes.map(ofSize);
  const burst = Array.from({ length: random.integer(60, 240) }, () => ofSize(MAX_ORDER_BYTES));
  const batch = Array.from({ length: Math.floor(MAX_BATCH_BYTES / MAX_ORDER_BYTES) - 1 }, () =>
    ofSize(MAX_ORDER_BYTES),
  );
  const all = [...single, ...burst, ...batch];
  sent.orders(all);
  note(`${all.length} orders of every size, ${burst.length} of the largest at once`);
  await Promise.all(single.map((each) => sleep(random.between(0, 1_500)).then(() => client.post(each))));
  await Promise.all([...burst.map((each) => client.post(each)), client.postBatch(batch)]);
  return all.filter(({ answer }) => answer === 'accepted').length;
}

export const SIZED_CUSTOMER = 'C-of-every-size';

/** Many clients that have sent all but the last byte of the largest batch, and then send nothing. */
async function leaveUploads({ random, producer, note }: FaultScene): Promise<number> {
  const body = Buffer.alloc(MAX_BATCH_BYTES - 1, ' ');
  const { hostname, port } = new URL(producer.url);
  const head = `POST /orders/batch HTTP/1.1\r\nHost: ${hostname}\r\nContent-Type: application/json\r\nContent-Length: ${MAX_BATCH_BYTES}\r\n\r\n`;
  let taken = 0;
  const sockets = Array.from({ length: random.integer(40, 120) }, () => {
    const socket = net.connect(Number(port), hostname);
    socket.on('error', () => {});
    socket.once('connect', () => taken++);
    socket.resume();
    socket.write(head);
    socket.write(body);
    return socket;
  });
  note(`${sockets.length} uploads of ${MAX_BATCH_BYTES} bytes left unfinished`);
  await sleep(random.between(1_500, 3_000));
  for (const socket of sockets) socket.destroy();
  return taken;
}

const WORDS =
  'the customer asks for a box with ribbon and a card that says thanks, left at the door by noon'.split(' ');

function words(random: FaultScene['random'], length: number): string {
  let text = '';
  while (text.length < length) text += `${random.pick(WORDS)} ${random.integer(0, 9_999)} `;
  return text.slice(0, length).trim();
}
