import type { SQSClient } from '@aws-sdk/client-sqs';
import type { Logger } from '@orders/shared/logger.ts';
import { queueDepth } from '@orders/shared/queue-admin.ts';
import type { ConsumerMetrics } from '../metrics.ts';

export type QueueSamplerOptions = {
  client: SQSClient;
  queues: Record<string, string>;
  intervalSeconds: number;
  metrics: Pick<ConsumerMetrics, 'queueMessages'>;
  logger: Logger;
};

/** Samples the depth of queues into the metrics, now and then. Answers a function that stops it. */
export function startQueueSampler({
  client,
  queues,
  intervalSeconds,
  metrics,
  logger,
}: QueueSamplerOptions): () => void {
  const sample = async () => {
    for (const [queue, url] of Object.entries(queues)) {
      const { visible, inFlight, delayed } = await queueDepth(client, url);
      for (const [state, messages] of Object.entries({ visible, in_flight: inFlight, delayed }))
        metrics.queueMessages.set({ queue, state }, messages);
    }
  };
  const sampleOrWarn = () => void sample().catch((err) => logger.warn({ err }, 'queue depth not sampled'));
  sampleOrWarn();
  const timer = setInterval(sampleOrWarn, intervalSeconds * 1_000);
  return () => clearInterval(timer);
}
