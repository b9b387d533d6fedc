/** An order that the queue has confirmed. */
export type AcceptedOrder = {
  orderId: string;
  /** Two orders of one id differ in it. */
  contentHash: string;
  /** When the queue confirmed it. */
  acceptedAt: Date;
  /** Of the message in the order queue. An order that is sent again has one each time. */
  messageId: string;
  traceId: string;
};

/** Evidence of what was accepted, kept apart from the queue and the store, for `scripts/reconcile.sh` to check them. */
export interface AcceptanceJournal {
  /**
   * Resolves when the operating system has the order's line, or when it is given up and that is reported to operators.
   * Never rejects, and never keeps an order waiting for much longer than a second: the order is in the queue, whatever
   * becomes of its line.
   */
  record(order: AcceptedOrder): Promise<void>;
}
