import type { HttpServer } from '@orders/shared/http-server.ts';
import { type OrderRequest, orderRequestSchema } from '@orders/shared/order.ts';
import {
  createProblem,
  type Problem,
  ProblemError,
  problemAnswer,
  problemSchema,
  retryAnswer,
  validationProblem,
} from '@orders/shared/problem.ts';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { OrderRefusedError } from '../domain/errors.ts';
import type { PlaceOrder, PlaceOrderContext } from '../domain/place-order.ts';
import type { ProducerMetrics } from '../metrics.ts';
import { IDEMPOTENCY_KEY_PATTERN, parseIdempotencyKey } from './idempotency-key.ts';

export type OrderRoutesOptions = {
  placeOrder: PlaceOrder;
  metrics: Pick<ProducerMetrics, 'ordersAccepted' | 'ordersRefused'>;
  statusBaseUrl: string;
};

const MAX_BATCH_ORDERS = 500;
const ORDER_BODY_LIMIT_BYTES = 1024 * 1024;
/** More would hold up the event loop for seconds, if somebody meant it to. */
const BATCH_BODY_LIMIT_BYTES = 4 * 1024 * 1024;

const acceptedSchema = z
  .object({ orderId: z.uuid(), status: z.literal('ACCEPTED'), location: z.url(), traceId: z.string() })
  .meta({ id: 'AcceptedOrder' });

/** Each is validated on its own, so that one that is wrong costs the others nothing. */
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
  headers: { location: { type: 'string', format: 'uri', description: 'where the order will be found' } },
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
    }),
  ),
});

const refusals = {
  400: problemAnswer,
  413: problemAnswer,
  415: problemAnswer,
  422: problemAnswer,
  429: retryAnswer,
  503: retryAnswer,
};

export async function orderRoutes(
  app: HttpServer,
  { placeOrder, metrics, statusBaseUrl }: OrderRoutesOptions,
): Promise<void> {
  const locationOf = (orderId: string) => `${statusBaseUrl}/orders/${orderId}`;

  /** Places one order; a refusal becomes the problem that the client gets. */
  const place = async (order: OrderRequest, context: PlaceOrderContext): Promise<string> => {
    try {
      const { orderId } = await placeOrder(order, context);
      metrics.ordersAccepted.inc();
      return orderId;
    } catch (error) {
      if (!(error instanceof OrderRefusedError)) throw error;
      metrics.ordersRefused.inc({ reason: error.code.toLowerCase() });
      throw refusalProblem(error);
    }
  };

  app.addHook('onError', async (_request, _reply, error) => {
    const status = error instanceof ProblemError ? error.problem.status : (error.statusCode ?? 500);
    // Refusals of the use case are counted where they happen: these are the requests that never got there.
    if (status < 500 && !(error.cause instanceof OrderRefusedError))
      metrics.ordersRefused.inc({ reason: 'invalid' });
  });

  app.post(
    '/orders',
    {
      bodyLimit: ORDER_BODY_LIMIT_BYTES,
      schema: {
        tags: ['orders'],
        operationId: 'placeOrder',
        summary: 'Place an order',
        description:
          '202 means that the queue has confirmed the order: it will be stored, or kept with a reason.',
        headers: z.looseObject({
          'idempotency-key': z
            .string()
            .optional()
            .meta({ pattern: IDEMPOTENCY_KEY_PATTERN })
            .describe(
              'the same key within 7 days: the same orderId, and the first order with it that is stored counts; one that differs is accepted, and kept as a conflict',
            ),
        }),
        body: orderRequestSchema,
        response: { 202: acceptedAnswer, ...refusals },
      },
    },
    async (request, reply) => {
      const idempotencyKey = parseIdempotencyKey(request.headers['idempotency-key']);
      if (idempotencyKey !== undefined && request.body.orderId !== undefined) {
        const detail = 'Idempotency-Key and orderId exclude each other: both name the order';
        throw new ProblemError(createProblem(400, 'two-identities', detail));
      }
      const orderId = await place(request.body, { trace: request.trace, idempotencyKey });
      const location = locationOf(orderId);
      return reply
        .code(202)
        .header('location', location)
        .send({ orderId, status: 'ACCEPTED' as const, location, traceId: request.trace.traceId });
    },
  );

  app.post(
    '/orders/batch',
    {
      bodyLimit: BATCH_BODY_LIMIT_BYTES,
      schema: {
        tags: ['orders'],
        operationId: 'placeOrders',
        summary: `Place up to ${MAX_BATCH_ORDERS} orders, each answered on its own`,
        description:
          'An array of orders, or an object with `orders`. Orders may carry their `orderId`; no Idempotency-Key here.',
        body: batchSchema,
        response: { 207: batchResultSchema, ...refusals },
      },
    },
    async (request, reply) => {
      if (request.headers['idempotency-key'] !== undefined) {
        const detail = 'one key cannot name many orders: give each order its orderId';
        throw new ProblemError(createProblem(400, 'idempotency-key-on-batch', detail));
      }
      const { body } = request;
      const orders = Array.isArray(body) ? body : body.orders;
      refuseRepeatedIds(orders, Array.isArray(body) ? '' : '/orders');
      const results = await Promise.all(orders.map((order, index) => placeOne(order, index, request)));
      const accepted = results.filter(({ status }) => status === 202).length;
      return reply.code(207).send({ accepted, refused: results.length - accepted, results });
    },
  );

  const placeOne = async (order: unknown, index: number, request: FastifyRequest) => {
    try {
      const parsed = orderRequestSchema.safeParse(order);
      if (!parsed.success) {
        metrics.ordersRefused.inc({ reason: 'invalid' });
        throw new ProblemError(validationProblem(parsed.error));
      }
      const orderId = await place(parsed.data, { trace: request.trace, bulk: true });
      return { index, status: 202, orderId, location: locationOf(orderId) };
    } catch (error) {
      const problem = error instanceof ProblemError ? error.problem : createProblem(500, 'internal');
      if (problem.status === 500)
        request.log.error({ err: error, traceId: request.trace.traceId }, 'order failed');
      return { index, status: problem.status, problem };
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
  if (errors.length > 0) throw new ProblemError(createProblem(400, 'repeated-order-id', undefined, errors));
}

function refusalProblem(error: OrderRefusedError): ProblemError {
  const answer = (problem: Problem, retryAfterSeconds?: number) =>
    new ProblemError(problem, { cause: error, ...(retryAfterSeconds ? { retryAfterSeconds } : {}) });
  switch (error.code) {
    case 'ORDER_TOO_LARGE':
      return answer(createProblem(413, 'order-too-large', error.message));
    case 'ORDER_NOT_SENDABLE':
      return answer(createProblem(422, 'order-not-sendable', error.message));
    case 'BUFFER_FULL':
      return answer(createProblem(429, 'buffer-full', error.message), 1);
    default:
      return answer(
        createProblem(503, 'queue-unavailable', `${error.message}; send it again with the same id or key`),
        5,
      );
  }
}
