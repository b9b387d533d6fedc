import { QueueDoesNotExist, type SQSClient } from '@aws-sdk/client-sqs';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { queueDepth } from '@orders/shared/sqs/queue-admin.ts';
import type { ConsumerMetrics } from '../metrics.ts';

export type QueueSamplerOptions = {
  client: SQSClient;
  queues: Record<string, string>;
  intervalSeconds: number;
  metrics: Pick<ConsumerMetrics, 'queueMessages'>;
  logger: Logger;
};

/**
 * Samples the depth of queues into the metrics. A queue that no longer exists is logged as an `ERROR`, once until it
 * exists again: somebody must act. Returns a function that stops it.
 */
export function startQueueSampler({
  client,
  queues,
  intervalSeconds,
  metrics,
  logger,
}: QueueSamplerOptions): () => void {
  const gone = new Set<string>();
  const sample = async ([queue, url]: [name: string, url: string]) => {
    try {
      const { visible, inFlight, delayed } = await queueDepth(client, url);
      for (const [state, messages] of Object.entries({ visible, in_flight: inFlight, delayed }))
        metrics.queueMessages.set({ queue, state }, messages);
      gone.delete(queue);
    } catch (err) {
      if (!(err instanceof QueueDoesNotExist)) logger.warn({ err, queue }, 'queue depth not sampled');
      else if (!gone.has(queue)) logger.error({ err, queue }, 'queue does not exist any more');
      if (err instanceof QueueDoesNotExist) gone.add(queue);
    }
  };
  const sampleAll = () => void Promise.all(Object.entries(queues).map(sample));
  sampleAll();
  const timer = setInterval(sampleAll, intervalSeconds * 1_000);
  return () => clearInterval(timer);
}
