import type { Logger } from '@orders/shared/runtime/logger.ts';
import type { Outcome } from '../../domain/outcome.ts';
import type { ProcessedMessage } from '../../domain/process-messages.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import type { ReceivedMessage } from '../../queue/received-message.ts';
import type { Lease } from '../lease.ts';

/** A message, or one of those in a packed message, and what became of it. */
export type Part = { body: string; processed: ProcessedMessage };

/** A received message, and what became of all that was in it. */
export type Settlement = { lease: Lease; parts: readonly Part[] };

export const isStoredPart = ({ processed: { outcome } }: Part): boolean =>
  outcome.kind === 'processed' || outcome.kind === 'duplicate';

/** All that was in the message is in the store. */
export const isStored = ({ parts }: Settlement): boolean => parts.every(isStoredPart);

export function countOutcome(metrics: Pick<ConsumerMetrics, 'outcomes'>, outcome: Outcome, times = 1): void {
  const cause = 'cause' in outcome ? outcome.cause : '';
  metrics.outcomes.inc({ outcome: outcome.kind, cause }, times);
}

export function countStored(metrics: Pick<ConsumerMetrics, 'outcomes'>, parts: readonly Part[]): void {
  const duplicates = parts.filter(({ processed }) => processed.outcome.kind === 'duplicate').length;
  if (duplicates > 0) countOutcome(metrics, { kind: 'duplicate' }, duplicates);
  if (parts.length > duplicates) countOutcome(metrics, { kind: 'processed' }, parts.length - duplicates);
}

/** Made only for a line that is written: it costs more than the rest of a settled order together. */
export const loggerOf = (
  logger: Logger,
  { messageId, receiveCount }: ReceivedMessage,
  { orderId, traceId }: Partial<ProcessedMessage>,
): Logger => logger.child({ orderId, traceId, messageId, receiveCount });
