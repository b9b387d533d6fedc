import type { Client } from '@orders/shared/auth/client.ts';
import { OF_REQUEST, ProblemError, problemAnswers } from '@orders/shared/http/problem.ts';
import type { HttpServer } from '@orders/shared/http/server.ts';
import { orderSchema } from '@orders/shared/order/order.ts';
import { z } from 'zod';
import { StoreUnavailableError } from '../domain/errors.ts';
import { currentFate, type OrderFate } from '../domain/order-fate.ts';
import type { FoundOrder, OrderRepository, OwnedBy, StoredOrder } from '../domain/order-repository.ts';
import { REJECTION_REASONS, type RejectionReason } from '../domain/outcome.ts';

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 500;
const MAX_IDS = 100;
/** A page ends with the order that makes it so large. */
const PAGE_BYTES = 1024 * 1024;
/** What a look-up is reckoned at while it works: a page and its last order, or one order as most are. */
const PAGE_IN_WORK_BYTES = 2 * PAGE_BYTES;
const ORDER_IN_WORK_BYTES = 128 * 1024;

const orderId = z.uuid().toLowerCase();
const storedOrderSchema = z
  .object({
    ...orderSchema.shape,
    state: z.literal('STORED'),
    storedAt: z.iso.datetime(),
    traceId: z.string(),
  })
  .meta({ id: 'StoredOrder' });
const fateFields = {
  orderId,
  contentHash: z.string().describe('of the order that was rejected; empty where its message did not say'),
  reason: z.string().describe('stable code, as in the dead-letter queue'),
  detail: z.string().describe('what is wrong, without values of the order'),
  attempts: z.int().describe('how often its message was received'),
  firstSeenAt: z.iso.datetime(),
  traceId: z.string(),
};
const rejectedOrderSchema = z
  .object({ ...fateFields, state: z.literal('REJECTED'), rejectedAt: z.iso.datetime() })
  .meta({
    id: 'RejectedOrder',
    description: 'An order that was accepted, and is not stored: it is in the dead-letter queue.',
  });
const redrivenOrderSchema = z
  .object({ ...fateFields, state: z.literal('REDRIVEN'), redrivenAt: z.iso.datetime() })
  .meta({
    id: 'RedrivenOrder',
    description: 'An order that was rejected, and is on its way again; `reason` is why it was rejected.',
  });
const orderAnswerSchema = z.discriminatedUnion('state', [
  storedOrderSchema,
  rejectedOrderSchema,
  redrivenOrderSchema,
]);
const eventSchema = z.object({
  event: z.enum(['RECEIVED', 'REJECTED', 'REDRIVEN', 'STORED']),
  at: z.iso.datetime(),
  contentHash: z.string(),
  traceId: z.string(),
  messageId: z.string().optional().describe('in the order queue'),
  reason: z.string().optional(),
  detail: z.string().optional(),
  attempts: z.int().optional().describe('how often the message was received by then'),
  failures: z.int().optional().describe('how often the consumer that rejected it had failed on it'),
  release: z.string().optional().describe('of the consumer that rejected it'),
});
const historySchema = z
  .object({
    orderId,
    events: z.array(eventSchema),
  })
  .meta({ id: 'OrderHistory' });
const pageSchema = z.object({
  orders: z.array(storedOrderSchema),
  next: z.string().optional().describe('value of `after` for the next page; absent on the last one'),
  remaining: z
    .array(orderId)
    .optional()
    .describe('of orderIds, those that were not looked up, since the page is full: ask for them next'),
});

/** `createdAt` in milliseconds and the id of the last order of a page. */
const CURSOR = /^(-?\d{1,15})_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

const querySchema = z
  .strictObject({
    customerId: z.string().min(1).max(64).optional(),
    limit: z
      .string()
      .regex(/^\d{1,9}$/, 'must be a whole number')
      .transform(Number)
      .pipe(z.int().min(1).max(MAX_LIMIT))
      .optional()
      .meta({ type: 'integer', minimum: 1, maximum: MAX_LIMIT, pattern: undefined })
      .describe(`${DEFAULT_LIMIT} by default; a page that is large ends sooner`),
    after: z
      .string()
      .regex(CURSOR, 'must be the `next` of a page')
      .optional()
      .describe('`next` of the page before'),
    orderIds: z
      .string()
      .transform((list) => list.split(','))
      .pipe(z.array(orderId).min(1).max(MAX_IDS))
      .optional()
      .describe(`instead of customerId: up to ${MAX_IDS} ids, separated by commas`),
  })
  .refine(({ customerId, orderIds }) => (customerId === undefined) !== (orderIds === undefined), {
    error: 'either customerId or orderIds is needed',
  })
  .refine(({ orderIds, limit, after }) => orderIds === undefined || (limit ?? after) === undefined, {
    error: 'limit and after go with customerId, not with orderIds',
  });

const PROBLEMS = ['validation', ...OF_REQUEST, 'store-unavailable'] as const;

const seesAll = ({ scopes }: Client): boolean => scopes.has('orders:read:all');

/** Whose orders a client sees: its own, unless its scope is for all. Without a name and that scope it sees none. */
const seenBy = (client: Client): OwnedBy => (seesAll(client) ? {} : { ownedBy: client.id ?? '' });

/** Look-up of stored orders: a client's own, as if there were no others, or everybody's, by its scope. */
export async function orderRoutes(
  app: HttpServer,
  { repository }: { repository: OrderRepository },
): Promise<void> {
  app.get(
    '/orders/:orderId',
    {
      onRequest: app.takeBytes(ORDER_IN_WORK_BYTES),
      config: { access: 'orders:read' },
      schema: {
        tags: ['orders'],
        operationId: 'getOrder',
        summary: 'What became of an order: the order where it is stored, or why it was rejected',
        description:
          'Decide on `state`, not on the status: an order that was rejected is an answer too, with 200. `STORED` never changes. `REJECTED` may become `REDRIVEN` and then `STORED` when operators move it back.',
        params: z.object({ orderId }),
        response: { 200: orderAnswerSchema, ...problemAnswers('order-not-found', ...PROBLEMS) },
      },
    },
    async ({ params, client }) => {
      const stored = await available(() => repository.findById(params.orderId, seenBy(client)));
      if (stored) return toAnswer(stored);
      const fate = currentFate(await available(() => repository.findFates(params.orderId, seenBy(client))));
      if (fate) return toFateAnswer(fate, seesAll(client));
      throw notFound();
    },
  );

  app.get(
    '/orders/:orderId/history',
    {
      onRequest: app.takeBytes(ORDER_IN_WORK_BYTES),
      config: { access: 'orders:read' },
      schema: {
        tags: ['orders'],
        operationId: 'getOrderHistory',
        summary: 'When an order was received, rejected, redriven and stored, as far as it is known',
        description:
          'Single failures have no times; `failures` counts them. Of an order that was stored at once only that is known.',
        params: z.object({ orderId }),
        response: { 200: historySchema, ...problemAnswers('order-not-found', ...PROBLEMS) },
      },
    },
    async ({ params, client }) => {
      const whose = seenBy(client);
      const [stored, fates] = await available(() =>
        Promise.all([
          repository.findById(params.orderId, whose),
          repository.findFates(params.orderId, whose),
        ]),
      );
      if (!stored && fates.length === 0) throw notFound();
      return { orderId: params.orderId, events: historyOf(stored, fates, seesAll(client)) };
    },
  );

  app.get(
    '/orders',
    {
      onRequest: app.takeBytes(PAGE_IN_WORK_BYTES),
      config: { access: 'orders:read' },
      schema: {
        tags: ['orders'],
        operationId: 'listOrders',
        summary: "A customer's orders, newest first, or those of a list of ids, in pages of a megabyte or so",
        querystring: querySchema,
        response: { 200: pageSchema, ...problemAnswers(...PROBLEMS) },
      },
    },
    async ({ query: { customerId, orderIds = [], limit = DEFAULT_LIMIT, after }, client }) => {
      const seen = { maxBytes: PAGE_BYTES, ...seenBy(client) };
      if (customerId === undefined) {
        const ids = [...new Set(orderIds)];
        const orders = await available(() => repository.findByIds(ids, seen));
        const remaining = isFull(orders)
          ? ids.slice(ids.indexOf(orders.at(-1)?.order.orderId ?? '') + 1)
          : [];
        return { orders: orders.map(toAnswer), ...(remaining.length > 0 ? { remaining } : {}) };
      }
      const page = { ...seen, limit, after: after === undefined ? undefined : parseCursor(after) };
      const orders = await available(() => repository.findByCustomer(customerId, page));
      const last = orders.length === limit || isFull(orders) ? orders.at(-1) : undefined;
      return { orders: orders.map(toAnswer), ...(last ? { next: formatCursor(last) } : {}) };
    },
  );
}

function isFull(orders: readonly FoundOrder[]): boolean {
  return orders.reduce((bytes, { sizeBytes }) => bytes + sizeBytes, 0) >= PAGE_BYTES;
}

function toAnswer({ order, storedAt, traceId }: StoredOrder) {
  return { ...order, state: 'STORED' as const, storedAt: storedAt.toISOString(), traceId };
}

const notFound = () =>
  new ProblemError('order-not-found', 'neither stored nor rejected: unknown, or still on its way');

/** Clients are told which fields of their order are wrong. What else failed, say in the database, is for operators. */
function detailFor({ reason, detail }: OrderFate, isOperator: boolean): string {
  if (isOperator || reason === 'INVALID_ORDER') return detail;
  return Object.hasOwn(REJECTION_REASONS, reason) ? REJECTION_REASONS[reason as RejectionReason] : '';
}

function toFateAnswer(fate: OrderFate, isOperator: boolean) {
  const { orderId, contentHash, reason, attempts, firstSeenAt, traceId } = fate;
  const detail = detailFor(fate, isOperator);
  const seen = {
    orderId,
    contentHash,
    reason,
    detail,
    attempts,
    traceId,
    firstSeenAt: firstSeenAt.toISOString(),
  };
  return fate.kind === 'REJECTED'
    ? { ...seen, state: 'REJECTED' as const, rejectedAt: fate.at.toISOString() }
    : { ...seen, state: 'REDRIVEN' as const, redrivenAt: fate.at.toISOString() };
}

function historyOf(stored: StoredOrder | undefined, fates: readonly OrderFate[], isOperator: boolean) {
  const events = fates.flatMap((fate): z.infer<typeof eventSchema>[] => {
    const { kind, at, firstSeenAt, contentHash, traceId, messageId, reason, attempts, failures, release } =
      fate;
    const message = { contentHash, traceId, messageId };
    if (kind === 'REDRIVEN') return [{ event: kind, at: at.toISOString(), ...message }];
    const why = { reason, detail: detailFor(fate, isOperator), attempts, failures, release };
    return [
      { event: 'RECEIVED' as const, at: firstSeenAt.toISOString(), ...message },
      { event: kind, at: at.toISOString(), ...message, ...why },
    ];
  });
  const storing = stored && {
    event: 'STORED' as const,
    at: stored.storedAt.toISOString(),
    contentHash: stored.contentHash,
    traceId: stored.traceId,
  };
  return [...events, ...(storing ? [storing] : [])].toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at));
}

function formatCursor({ order }: StoredOrder): string {
  return `${Math.floor(Date.parse(order.createdAt))}_${order.orderId}`;
}

function parseCursor(text: string) {
  const [, createdAtMs, orderId] = CURSOR.exec(text) as unknown as [string, string, string];
  return { createdAtMs: Number(createdAtMs), orderId };
}

async function available<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (!(cause instanceof StoreUnavailableError)) throw cause;
    throw new ProblemError('store-unavailable', undefined, { cause });
  }
}
