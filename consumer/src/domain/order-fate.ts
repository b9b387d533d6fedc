/**
 * What became of one message with an order that is not stored by it: it went to the dead-letter queue, or was moved back
 * to the order queue. No content of the order is in it.
 */
export type OrderFate = {
  kind: 'REJECTED' | 'REDRIVEN';
  orderId: string;
  /** Empty where the message does not say. */
  contentHash: string;
  clientId?: string | undefined;
  /** Of the message in the order queue. With order, content and kind it is the key: a fate is recorded once. */
  messageId: string;
  /** A code of REJECTION_REASONS, or one that another release knows. */
  reason: string;
  /** As the dead letter has it, without values of the order. */
  detail: string;
  /** How often SQS delivered the message. */
  attempts: number;
  failures: number;
  firstSeenAt: Date;
  /** When it was rejected, or moved back. */
  at: Date;
  /** That rejected it; empty where SQS moved the message by itself. */
  release: string;
  traceId: string;
};

/** So many fates of one order are read, the latest ones. */
export const MAX_FATES_READ = 100;

/**
 * The fate that counts for an order that is not stored: the latest rejection whose message was not moved back since, or
 * else the latest redrive. A redriven message comes back under another id, so no clocks are compared across processes.
 * @param fates in the order of their times
 */
export function currentFate(fates: readonly OrderFate[]): OrderFate | undefined {
  const redriven = new Set(fates.filter(({ kind }) => kind === 'REDRIVEN').map(({ messageId }) => messageId));
  return (
    fates.findLast(({ kind, messageId }) => kind === 'REJECTED' && !redriven.has(messageId)) ??
    fates.findLast(({ kind }) => kind === 'REDRIVEN')
  );
}
