import { contentHash, type Order, type OrderRequest } from '@orders/shared/order/order.ts';
import { formatTraceparent, type TraceContext } from '@orders/shared/runtime/trace-context.ts';
import type { AcceptanceJournal } from './acceptance-journal.ts';
import { newOrderId, orderIdOfKey } from './order-id.ts';
import type { OrderPublisher } from './order-publisher.ts';

export type PlaceOrderContext = {
  trace: TraceContext;
  idempotencyKey?: string | undefined;
  /** The sender, if known; otherwise keys belong to the order's customer. */
  clientId?: string | undefined;
  /** The client sends it together with others. */
  bulk?: boolean;
};

export type PlacedOrder = { orderId: string; messageId: string };

export type PlaceOrder = (request: OrderRequest, context: PlaceOrderContext) => Promise<PlacedOrder>;

/**
 * The use case: assigns the id of the order and publishes it. Resolves only when the queue has confirmed it and the journal
 * has recorded that. Only the consumer can tell whether a key or an id came with another order before
 * (docs/adr/0019-the-consumer-judges-keys.md).
 */
export function createPlaceOrder(publisher: OrderPublisher, journal: AcceptanceJournal): PlaceOrder {
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
    const hash = contentHash(request);
    return publish({ ...request, orderId: idOf(request, context) }, hash, context);
  };
}

function idOf(
  { orderId, customerId }: OrderRequest,
  { idempotencyKey, clientId }: PlaceOrderContext,
): string {
  if (idempotencyKey === undefined) return orderId ?? newOrderId();
  return clientId === undefined
    ? orderIdOfKey({ kind: 'customer', id: customerId }, idempotencyKey)
    : orderIdOfKey({ kind: 'client', id: clientId }, idempotencyKey);
}
