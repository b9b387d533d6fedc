import { contentHash, type Order, type OrderRequest } from '@orders/shared/order.ts';
import { formatTraceparent, type TraceContext } from '@orders/shared/trace-context.ts';
import { LRUCache } from 'lru-cache';
import type { AcceptanceJournal } from './acceptance-journal.ts';
import { IdempotencyKeyReusedError } from './errors.ts';
import { newOrderId, orderIdOfKey } from './order-id.ts';
import type { OrderPublisher } from './order-publisher.ts';

export type PlaceOrderContext = {
  trace: TraceContext;
  idempotencyKey?: string | undefined;
  /** Who sends, where that is known; else keys belong to the order's customer. */
  clientId?: string | undefined;
  /** One of many that the client sends together. */
  bulk?: boolean;
};

export type PlacedOrder = { orderId: string; messageId: string };

export type PlaceOrder = (request: OrderRequest, context: PlaceOrderContext) => Promise<PlacedOrder>;

/**
 * The use case: gives the order its id and has it published. Resolves only when the queue has confirmed it and the
 * journal has recorded that.
 * The memory of keys is a courtesy of one process; what it misses, the consumer finds as a conflict.
 */
export function createPlaceOrder(
  publisher: OrderPublisher,
  journal: AcceptanceJournal,
  options: { rememberedKeys: number },
): PlaceOrder {
  const hashOfKeyedOrder =
    options.rememberedKeys > 0 ? new LRUCache<string, string>({ max: options.rememberedKeys }) : undefined;

  const publish = async (order: Order, hash: string, context: PlaceOrderContext): Promise<PlacedOrder> => {
    const { trace, bulk = false } = context;
    const message = { order, contentHash: hash, traceparent: formatTraceparent(trace) };
    const { messageId } = await publisher.publish(message, { bulk });
    const { orderId } = order;
    const { traceId } = trace;
    await journal.record({ orderId, contentHash: hash, acceptedAt: new Date(), messageId, traceId });
    return { orderId, messageId };
  };

  return async (request, context) => {
    const { idempotencyKey, clientId } = context;
    const hash = contentHash(request);
    if (idempotencyKey === undefined) {
      return publish({ ...request, orderId: request.orderId ?? newOrderId() }, hash, context);
    }
    const owner =
      clientId === undefined
        ? ({ kind: 'customer', id: request.customerId } as const)
        : ({ kind: 'client', id: clientId } as const);
    const orderId = orderIdOfKey(owner, idempotencyKey);
    const known = hashOfKeyedOrder?.get(orderId);
    if (known !== undefined && known !== hash) {
      throw new IdempotencyKeyReusedError('this idempotency key was used for another order');
    }
    const placed = await publish({ ...request, orderId }, hash, context);
    hashOfKeyedOrder?.set(orderId, hash);
    return placed;
  };
}
