import { GetQueueAttributesCommand, type SQSClient } from '@aws-sdk/client-sqs';
import type { Logger } from '@orders/shared/logger.ts';
import type { ConsumerMetrics } from '../metrics.ts';

export type QueueSamplerOptions = {
  client: SQSClient;
  queues: Record<string, string>;
  intervalSeconds: number;
  metrics: Pick<ConsumerMetrics, 'queueMessages'>;
  logger: Logger;
};

const STATES = {
  visible: 'ApproximateNumberOfMessages',
  in_flight: 'ApproximateNumberOfMessagesNotVisible',
  delayed: 'ApproximateNumberOfMessagesDelayed',
} as const;

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
      const command = new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: Object.values(STATES) });
      const { Attributes = {} } = await client.send(command);
      for (const [state, attribute] of Object.entries(STATES)) {
        metrics.queueMessages.set({ queue, state }, Number(Attributes[attribute] ?? 0));
      }
    }
  };
  const sampleOrWarn = () => void sample().catch((err) => logger.warn({ err }, 'queue depth not sampled'));
  sampleOrWarn();
  const timer = setInterval(sampleOrWarn, intervalSeconds * 1_000);
  return () => clearInterval(timer);
}
