/** Why an order was not accepted: answers and metrics derive from it. */
export type RefusalCode = 'BUFFER_FULL' | 'ORDER_TOO_LARGE' | 'ORDER_NOT_SENDABLE' | 'QUEUE_UNAVAILABLE';

export abstract class OrderRefusedError extends Error {
  abstract readonly code: RefusalCode;
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The buffer of orders waiting for the queue is full. Nothing was sent: try again soon. */
export class BufferFullError extends OrderRefusedError {
  readonly code = 'BUFFER_FULL';
}

/** The order does not fit into a message, even compressed. */
export class OrderTooLargeError extends OrderRefusedError {
  readonly code = 'ORDER_TOO_LARGE';
}

/** The queue refuses this order and always will. Nothing was sent. */
export class OrderNotSendableError extends OrderRefusedError {
  readonly code = 'ORDER_NOT_SENDABLE';
}

/**
 * The queue did not confirm the order. It may hold it anyway (a lost answer looks the same), so the client sends the same
 * order again with the same id or key, and it is stored once.
 */
export class QueueUnavailableError extends OrderRefusedError {
  readonly code = 'QUEUE_UNAVAILABLE';
}
