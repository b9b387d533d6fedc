import type { Logger } from '@orders/shared/runtime/logger.ts';
import { DUPLICATE, type Outcome, PROCESSED } from '../../domain/outcome.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import type { ReceivedMessage } from '../../queue/received-message.ts';
import type { ReceivedOrder } from '../read-messages.ts';

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
