import type { OrderMessage } from '@orders/shared/order/message.ts';

/** The queue, as the use case sees it. */
export interface OrderPublisher {
  /**
   * With `bulk`, the order may share a message with others published at the same time.
   *
   * Resolves only when the queue has confirmed the message: from then on the order is not lost.
   * @throws {BufferFullError} {@link OrderTooLargeError} {@link OrderNotSendableError} nothing was sent
   * @throws {QueueUnavailableError} not confirmed: it may or may not have been sent
   */
  publish(message: OrderMessage, options?: { bulk?: boolean }): Promise<{ messageId: string }>;
}
