import { contentHash, type Order, type OrderRequest } from '@orders/shared/order/order.ts';
import { formatTraceparent, type TraceContext } from '@orders/shared/runtime/trace-context.ts';
import type { AcceptanceJournal } from './acceptance-journal.ts';
import { newOrderId, orderIdOfKey } from './order-id.ts';
import type { OrderPublisher } from './order-publisher.ts';

export type PlaceOrderContext = {
  trace: TraceContext;
  idempotencyKey?: string | undefined;
  /** The sender, whose the order then is; undefined where nobody was asked. */
  clientId?: string | undefined;
  /** The client sends it together with others. */
  bulk?: boolean;
};

/** Whose an idempotency key is: the order's customer's, whoever sends it, or one customer's of one client. */
export const KEY_OWNERS = ['customer', 'client'] as const;

export type PlaceOrderOptions = { keyOwner: (typeof KEY_OWNERS)[number] };

export type PlacedOrder = { orderId: string; messageId: string };

export type PlaceOrder = (request: OrderRequest, context: PlaceOrderContext) => Promise<PlacedOrder>;

/**
 * The use case: assigns the id of the order and publishes it. Resolves only when the queue has confirmed it and the journal
 * has recorded that. Only the consumer can tell whether a key or an id came with another order before
 * (docs/adr/0019-the-consumer-judges-keys.md).
 */
export function createPlaceOrder(
  publisher: OrderPublisher,
  journal: AcceptanceJournal,
  { keyOwner }: PlaceOrderOptions,
): PlaceOrder {
  const publish = async (order: Order, hash: string, context: PlaceOrderContext): Promise<PlacedOrder> => {
    const { trace, clientId, bulk = false } = context;
    const message = { order, contentHash: hash, traceparent: formatTraceparent(trace), clientId };
    const { messageId } = await publisher.publish(message, { bulk });
    const { orderId } = order;
    const { traceId } = trace;
    await journal.record({
      orderId,
      contentHash: hash,
      acceptedAt: new Date(),
      messageId,
      traceId,
      clientId,
    });
    return { orderId, messageId };
  };

  return async (request, context) => {
    const hash = contentHash(request);
    return publish({ ...request, orderId: idOf(request, context, keyOwner) }, hash, context);
  };
}

function idOf(
  { orderId, customerId }: OrderRequest,
  { idempotencyKey, clientId }: PlaceOrderContext,
  keyOwner: PlaceOrderOptions['keyOwner'],
): string {
  if (idempotencyKey === undefined) return orderId ?? newOrderId();
  return orderIdOfKey(keyOwner === 'client' ? { customerId, clientId } : { customerId }, idempotencyKey);
}
