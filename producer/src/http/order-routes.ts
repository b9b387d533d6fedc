import { setImmediate } from 'node:timers/promises';
import {
  createProblem,
  OF_BODY,
  OF_REQUEST,
  ProblemError,
  type ProblemKind,
  problemAnswers,
  problemSchema,
  validationError,
} from '@orders/shared/http/problem.ts';
import type { HttpServer } from '@orders/shared/http/server.ts';
import { type OrderRequest, orderRequestSchema } from '@orders/shared/order/order.ts';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { OrderRefusedError, type RefusalCode } from '../domain/errors.ts';
import type { PlaceOrder, PlaceOrderContext } from '../domain/place-order.ts';
import type { ProducerMetrics, RefusalReason } from '../metrics.ts';
import { IDEMPOTENCY_KEY_PATTERN, parseIdempotencyKey } from './idempotency-key.ts';

export type OrderRoutesOptions = {
  placeOrder: PlaceOrder;
  metrics: Pick<ProducerMetrics, 'ordersAccepted' | 'ordersRefused'>;
  /** Where clients look their orders up; without it, answers have no `Location`. */
  statusBaseUrl: string | undefined;
  maxOrderBytes: number;
  maxBatchBytes: number;
};

const MAX_BATCH_ORDERS = 500;
/** After this time other requests and probes have their turn: a batch of invalid orders can take seconds. */
const MAX_TURN_MS = 25;

const acceptedSchema = z
  .object({
    orderId: z.uuid(),
    status: z.literal('ACCEPTED'),
    location: z.url().optional(),
    traceId: z.string(),
  })
  .meta({ id: 'AcceptedOrder' });

/** Each order is validated on its own, so that an invalid one does not affect the others. */
const batchOrders = z
  .array(z.unknown())
  .min(1)
  .max(MAX_BATCH_ORDERS)
  .meta({ items: { $ref: '#/components/schemas/OrderRequestInput' } });
const batchSchema = z.union([z.strictObject({ orders: batchOrders }), batchOrders], {
  error: `must be an array of 1 to ${MAX_BATCH_ORDERS} orders, or an object with such an array as orders`,
});

const acceptedAnswer = {
  description: 'Confirmed by the queue',
  headers: { location: { type: 'string', format: 'uri', description: 'where to look the order up' } },
  content: { 'application/json': { schema: acceptedSchema } },
};

const batchResultSchema = z.object({
  accepted: z.int(),
  refused: z.int(),
  results: z.array(
    z.object({
      index: z.int(),
      status: z.int(),
      orderId: z.string().optional(),
      location: z.string().optional(),
      problem: problemSchema.optional(),
      retryAfterSeconds: z
        .int()
        .optional()
        .describe('after how many seconds to send this order again; only with 429 and 503'),
    }),
  ),
});

const batchAnswer = {
  description: 'One status per order',
  headers: {
    'retry-after': {
      type: 'integer',
      minimum: 1,
      description: 'seconds, if an order was refused only for now: the longest retryAfterSeconds',
    },
  },
  content: { 'application/json': { schema: batchResultSchema } },
};

/** The answer to each refusal. A new refusal code does not compile until it has an answer here. */
const KIND_OF_REFUSAL = {
  ORDER_TOO_LARGE: 'order-too-large',
  ORDER_NOT_SENDABLE: 'order-not-sendable',
  BUFFER_FULL: 'buffer-full',
  QUEUE_UNAVAILABLE: 'queue-unavailable',
} as const satisfies Record<RefusalCode, ProblemKind>;

export async function orderRoutes(
  app: HttpServer,
  { placeOrder, metrics, statusBaseUrl, maxOrderBytes, maxBatchBytes }: OrderRoutesOptions,
): Promise<void> {
  const locationOf = (orderId: string) =>
    statusBaseUrl === undefined ? {} : { location: `${statusBaseUrl}/orders/${orderId}` };

  const countRefused = (reason: RefusalReason) => metrics.ordersRefused.inc({ reason });

  /** Places one order; a refusal becomes the problem that the client gets. */
  const place = async (order: OrderRequest, context: PlaceOrderContext): Promise<string> => {
    try {
      const { orderId } = await placeOrder(order, context);
      metrics.ordersAccepted.inc();
      return orderId;
    } catch (error) {
      if (!(error instanceof OrderRefusedError)) throw error;
      countRefused(error.code.toLowerCase() as Lowercase<RefusalCode>);
      throw new ProblemError(KIND_OF_REFUSAL[error.code], error.message, { cause: error });
    }
  };

  app.addHook('onError', async (_request, _reply, error) => {
    const status = error instanceof ProblemError ? error.problem.status : (error.statusCode ?? 500);
    // Refusals of the use case are counted there. These are the requests that never reached it.
    if (status >= 500 || error.cause instanceof OrderRefusedError) return;
    if (error instanceof ProblemError && error.kind === 'rate-limited') countRefused('rate_limited');
    else countRefused(status === 429 ? 'busy' : 'invalid');
  });

  app.post(
    '/orders',
    {
      bodyLimit: maxOrderBytes,
      config: { access: 'orders:write' },
      schema: {
        tags: ['orders'],
        operationId: 'placeOrder',
        summary: 'Place an order',
        description:
          '202 means that the queue has confirmed the order: it will be stored, or kept in the dead-letter queue with a ' +
          'reason. If an object has a JSON key twice, the last one counts.',
        headers: z.looseObject({
          'idempotency-key': z
            .string()
            .optional()
            .meta({ pattern: IDEMPOTENCY_KEY_PATTERN })
            .describe(
              'Within 7 days the same key gives the same orderId, and only the first order stored with it counts. An order with other content is accepted and kept as a conflict.',
            ),
        }),
        body: orderRequestSchema,
        response: {
          202: acceptedAnswer,
          ...problemAnswers(
            ...OF_BODY,
            ...OF_REQUEST,
            'idempotency-key-malformed',
            'two-identities',
            'inconsistent-order',
            ...Object.values(KIND_OF_REFUSAL),
          ),
        },
      },
    },
    async (request, reply) => {
      const idempotencyKey = parseIdempotencyKey(request.headers['idempotency-key']);
      if (idempotencyKey !== undefined && request.body.orderId !== undefined) {
        const detail = 'use either Idempotency-Key or orderId, not both: each identifies the order';
        throw new ProblemError('two-identities', detail);
      }
      const { trace, client } = request;
      const orderId = await place(request.body, { trace, idempotencyKey, clientId: client.id });
      const found = locationOf(orderId);
      return reply
        .code(202)
        .headers(found)
        .send({ orderId, status: 'ACCEPTED' as const, ...found, traceId: request.trace.traceId });
    },
  );

  app.post(
    '/orders/batch',
    {
      bodyLimit: maxBatchBytes,
      config: { access: 'orders:write' },
      schema: {
        tags: ['orders'],
        operationId: 'placeOrders',
        summary: `Place up to ${MAX_BATCH_ORDERS} orders, with one result per order`,
        description:
          'An array of orders, or an object with `orders`. An order may have its own `orderId`; a batch has no Idempotency-Key.',
        body: batchSchema,
        response: {
          207: batchAnswer,
          ...problemAnswers(...OF_BODY, ...OF_REQUEST, 'idempotency-key-on-batch', 'repeated-order-id'),
        },
      },
    },
    async (request, reply) => {
      if (request.headers['idempotency-key'] !== undefined) {
        const detail = 'one key cannot identify many orders: give each order its own orderId';
        throw new ProblemError('idempotency-key-on-batch', detail);
      }
      const { body } = request;
      const orders = Array.isArray(body) ? body : body.orders;
      app.chargeOrders(request, reply, orders.length);
      refuseRepeatedIds(orders, Array.isArray(body) ? '' : '/orders');
      // A smaller body cannot hold an order that is too large.
      const maxBytes =
        Number(request.headers['content-length']) <= maxOrderBytes ? Number.POSITIVE_INFINITY : maxOrderBytes;
      const placed = [];
      let pauseAt = performance.now() + MAX_TURN_MS;
      for (const [index, order] of orders.entries()) {
        if (performance.now() > pauseAt) {
          await setImmediate();
          pauseAt = performance.now() + MAX_TURN_MS;
        }
        placed.push(placeOne(order, index, request, maxBytes));
      }
      const results = await Promise.all(placed);
      const accepted = results.filter(({ status }) => status === 202).length;
      const retryAfterSeconds = Math.max(0, ...results.map((result) => result.retryAfterSeconds ?? 0));
      if (retryAfterSeconds > 0) reply.header('retry-after', String(retryAfterSeconds));
      return reply.code(207).send({ accepted, refused: results.length - accepted, results });
    },
  );

  const placeOne = async (
    order: unknown,
    index: number,
    request: FastifyRequest,
    maxBytes: number,
  ): Promise<z.infer<typeof batchResultSchema>['results'][number]> => {
    try {
      if (maxBytes < Number.POSITIVE_INFINITY && Buffer.byteLength(JSON.stringify(order)) > maxBytes) {
        countRefused('invalid');
        throw new ProblemError('too-large', `the order has more than ${maxBytes} bytes`);
      }
      const parsed = orderRequestSchema.safeParse(order);
      if (!parsed.success) {
        countRefused('invalid');
        throw validationError(parsed.error);
      }
      const { trace, client } = request;
      const orderId = await place(parsed.data, { trace, clientId: client.id, bulk: true });
      return { index, status: 202, orderId, ...locationOf(orderId) };
    } catch (error) {
      const problem = error instanceof ProblemError ? error.problem : createProblem('internal');
      if (problem.status === 500)
        request.log.error({ err: error, traceId: request.trace.traceId }, 'order failed');
      const { retryAfterSeconds } = error as Partial<ProblemError>;
      return { index, status: problem.status, problem, ...(retryAfterSeconds ? { retryAfterSeconds } : {}) };
    }
  };
}

function refuseRepeatedIds(orders: unknown[], prefix: string): void {
  const firstIndex = new Map<string, number>();
  const errors = orders.flatMap((order, index) => {
    const id = (order as { orderId?: unknown } | null)?.orderId;
    if (typeof id !== 'string') return [];
    const first = firstIndex.get(id.toLowerCase());
    if (first === undefined) {
      firstIndex.set(id.toLowerCase(), index);
      return [];
    }
    return [{ pointer: `${prefix}/${index}/orderId`, detail: `the same orderId as order ${first}` }];
  });
  if (errors.length > 0) throw new ProblemError('repeated-order-id', undefined, { errors });
}
