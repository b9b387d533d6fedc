import { type Message, SQSClient } from '@aws-sdk/client-sqs';
import { Consumer } from 'sqs-consumer';
import { ready } from '../probe.ts';
import { handle, job } from './consume-job.ts';

/** sqs-consumer with as many consumers as pollers, a handler call for each batch or, told so, for each message. */
const handler =
  process.argv[3] === 'per-message'
    ? { handleMessage: (message: Message) => handle([message]).then(() => message) }
    : { handleMessageBatch: (messages: Message[]) => handle(messages).then(() => messages) };
const sqs = new SQSClient({ endpoint: job.endpoint });
for (let poller = 0; poller < job.pollers; poller++) {
  const consumer = Consumer.create({
    sqs,
    queueUrl: job.queueUrl,
    batchSize: 10,
    waitTimeSeconds: 20,
    visibilityTimeout: 60,
    ...handler,
  });
  consumer.on('error', (error) => {
    throw error;
  });
  consumer.on('processing_error', (error) => {
    throw error;
  });
  consumer.start();
}
ready();
