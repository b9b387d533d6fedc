import { contentHash, type OrderRequest } from '@orders/shared/order.ts';
import { formatTraceparent, type TraceContext } from '@orders/shared/trace-context.ts';
import { LRUCache } from 'lru-cache';
import { IdempotencyKeyReusedError } from './errors.ts';
import { newOrderId, orderIdOfKey } from './order-id.ts';
import type { OrderPublisher } from './order-publisher.ts';

export type PlaceOrderContext = {
  trace: TraceContext;
  idempotencyKey?: string | undefined;
  /** Who sends, where that is known; else keys belong to the order's customer. */
  clientId?: string | undefined;
};

export type PlacedOrder = { orderId: string; messageId: string };

export type PlaceOrder = (request: OrderRequest, context: PlaceOrderContext) => Promise<PlacedOrder>;

/**
 * The use case: gives the order its id and has it published. Resolves only when the queue has confirmed it.
 * The memory of keys is a courtesy of one process; what it misses, the consumer finds as a conflict.
 */
export function createPlaceOrder(publisher: OrderPublisher, options: { rememberedKeys: number }): PlaceOrder {
  const hashOfKeyedOrder =
    options.rememberedKeys > 0 ? new LRUCache<string, string>({ max: options.rememberedKeys }) : undefined;

  return async (request, { trace, idempotencyKey, clientId }) => {
    const hash = contentHash(request);
    const traceparent = formatTraceparent(trace);
    if (idempotencyKey === undefined) {
      const order = { ...request, orderId: request.orderId ?? newOrderId() };
      const { messageId } = await publisher.publish({ order, contentHash: hash, traceparent });
      return { orderId: order.orderId, messageId };
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
    const { messageId } = await publisher.publish({
      order: { ...request, orderId },
      contentHash: hash,
      traceparent,
    });
    hashOfKeyedOrder?.set(orderId, hash);
    return { orderId, messageId };
  };
}
