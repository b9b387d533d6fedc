/** An order that the queue has confirmed. */
export type AcceptedOrder = {
  orderId: string;
  /** Tells orders with the same id apart. */
  contentHash: string;
  /** When the queue confirmed it. */
  acceptedAt: Date;
  /** Of the message in the order queue. An order sent again gets a new one each time. */
  messageId: string;
  traceId: string;
  /** Who placed it; undefined where nobody was asked. */
  clientId?: string | undefined;
};

/** A record of accepted orders, apart from queue and store, which `scripts/reconcile.sh` checks them against. */
export interface AcceptanceJournal {
  /**
   * Resolves when the operating system has the order's line, or when the line is given up and operators are told. Never
   * rejects, and never delays an order much longer than a second: the order is in the queue, with or without its line.
   */
  record(order: AcceptedOrder): Promise<void>;
}
