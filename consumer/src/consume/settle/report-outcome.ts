import type { Logger } from '@orders/shared/runtime/logger.ts';
import { DUPLICATE, type Outcome, PROCESSED } from '../../domain/outcome.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import type { ReceivedMessage } from '../../queue/received-message.ts';
import type { MessageInWork, ReceivedOrder } from '../read-messages.ts';

export function countOutcome(metrics: Pick<ConsumerMetrics, 'outcomes'>, outcome: Outcome, times = 1): void {
  const cause = 'cause' in outcome ? outcome.cause : '';
  metrics.outcomes.inc({ outcome: outcome.kind, cause }, times);
}

export function countStored(
  metrics: Pick<ConsumerMetrics, 'outcomes'>,
  orders: readonly ReceivedOrder[],
): void {
  const duplicates = orders.filter(({ outcome }) => outcome.kind === 'duplicate').length;
  if (duplicates > 0) countOutcome(metrics, DUPLICATE, duplicates);
  if (orders.length > duplicates) countOutcome(metrics, PROCESSED, orders.length - duplicates);
}

/** The objective (docs/metrics.md): an order is stored within this time of being sent. */
export const LATE_AFTER_MS = 30_000;

/** Counts the orders of messages that were stored late, by the clock of this machine against that of SQS. */
export function countLate(
  metrics: Pick<ConsumerMetrics, 'ordersStoredLate'>,
  messages: readonly MessageInWork[],
): void {
  const lateBefore = Date.now() - LATE_AFTER_MS;
  for (const { lease, orders } of messages) {
    if (Number(lease.message.sentAt ?? Number.POSITIVE_INFINITY) >= lateBefore) continue;
    metrics.ordersStoredLate.inc(orders.filter(({ outcome }) => outcome.kind === 'processed').length);
  }
}

/** Made only for a line that is written: it costs more than the rest of a settled order together. */
export const loggerOf = (
  logger: Logger,
  { messageId, receiveCount }: ReceivedMessage,
  received?: ReceivedOrder,
): Logger =>
  logger.child({
    orderId: received?.order?.orderId,
    clientId: received?.order && received.clientId,
    traceId: received?.traceId,
    messageId,
    receiveCount,
  });
