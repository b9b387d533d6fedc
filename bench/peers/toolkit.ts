import { SQSClient } from '@aws-sdk/client-sqs';
import { MessageHandlerConfigBuilder } from '@message-queue-toolkit/core';
import { AbstractSqsConsumer, AbstractSqsPublisher } from '@message-queue-toolkit/sqs';
import { z } from 'zod';
import { orderIds, orderOf } from '../orders.ts';
import { ready } from '../probe.ts';

/** message-queue-toolkit: as consumer or as publisher, as the argument says; it has no batches of either kind. */
const envelope = z.looseObject({ id: z.string(), type: z.literal('order.placed.v1') });
type Envelope = z.infer<typeof envelope>;

const quiet = () => {};
const logger = { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet, fatal: quiet } as never;
const fail = (error: unknown): never => {
  throw error;
};
const job = JSON.parse(String(process.argv[2]));
const dependencies = {
  sqsClient: new SQSClient({ endpoint: job.endpoint }),
  logger,
  errorReporter: { report: ({ error }: { error: Error }) => fail(error) },
  consumerErrorResolver: { processError: (error: unknown) => fail(error) },
  transactionObservabilityManager: {
    start: quiet,
    startWithGroup: quiet,
    stop: quiet,
    addCustomAttributes: quiet,
  },
};
const queue = {
  locatorConfig: { queueUrl: job.queueUrl },
  messageTypeResolver: { messageTypePath: 'type' },
  messageTimestampField: 'time',
};

if (process.argv[3] === 'publish') await publish();
else await consume();

async function consume(): Promise<void> {
  const { handle } = await import('./consume-job.ts');
  class Orders extends AbstractSqsConsumer<Envelope, undefined> {
    constructor() {
      const handlers = new MessageHandlerConfigBuilder<Envelope, undefined>()
        .addConfig(envelope, async (message) => {
          await handle([{ Body: job.database ? JSON.stringify(message) : '' }]);
          return { result: 'success' };
        })
        .build();
      super(
        dependencies,
        {
          ...queue,
          handlers,
          concurrentConsumersAmount: job.pollers,
          consumerOverrides: { batchSize: 10, waitTimeSeconds: 20 },
        },
        undefined,
      );
    }
  }
  await new Orders().start();
  ready();
}

async function publish(): Promise<void> {
  const { publishForever } = await import('./publish-job.ts');
  class Orders extends AbstractSqsPublisher<Envelope> {
    constructor() {
      super(dependencies, { ...queue, messageSchemas: [envelope] });
    }
  }
  const publisher = new Orders();
  await publisher.init();
  const nextId = orderIds();
  publishForever({ lanes: job.batchesInFlight * 10, orders: 1 }, () => {
    const order = orderOf(nextId());
    const message: Envelope = {
      id: order.orderId,
      type: 'order.placed.v1',
      specversion: '1.0',
      source: '/order-producer',
      time: new Date().toISOString(),
      datacontenttype: 'application/json',
      contentencoding: 'identity',
      data: order,
    };
    return publisher.publish(message);
  });
}
