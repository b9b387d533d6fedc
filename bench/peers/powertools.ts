import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';
import { DeleteMessageBatchCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { ready } from '../probe.ts';
import { handle, job } from './consume-job.ts';

/** Powertools' batch processor, on loops that receive ten and delete what it does not report as failed. */
const client = new SQSClient({ endpoint: job.endpoint });
const QueueUrl = job.queueUrl;

async function loop(): Promise<never> {
  const processor = new BatchProcessor(EventType.SQS);
  for (;;) {
    const { Messages = [] } = await client.send(
      new ReceiveMessageCommand({
        QueueUrl,
        MaxNumberOfMessages: 10,
        WaitTimeSeconds: 20,
        VisibilityTimeout: 60,
      }),
    );
    if (Messages.length === 0) continue;
    const Records = Messages.map(({ MessageId = '', Body = '', ReceiptHandle = '' }) => ({
      messageId: MessageId,
      body: Body,
      receiptHandle: ReceiptHandle,
    }));
    const { batchItemFailures } = await processPartialResponse(
      { Records } as never,
      async ({ body }: { body: string }) => handle([{ Body: body }]),
      processor,
    );
    const failed = new Set(batchItemFailures.map(({ itemIdentifier }) => itemIdentifier));
    const Entries = Records.filter(({ messageId }) => !failed.has(messageId)).map((record, index) => ({
      Id: String(index),
      ReceiptHandle: record.receiptHandle,
    }));
    await client.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
  }
}
for (let poller = 0; poller < job.pollers; poller++) void loop();
ready();
