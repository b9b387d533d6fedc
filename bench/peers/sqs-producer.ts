import { SQSClient } from '@aws-sdk/client-sqs';
import { Producer } from 'sqs-producer';
import { orderIds, orderOf, plainMessageOf } from '../orders.ts';
import { job, publishForever } from './publish-job.ts';

/** sqs-producer, given arrays of ten or, told so, single messages. */
const producer = Producer.create({
  queueUrl: job.queueUrl,
  sqs: new SQSClient({ endpoint: job.endpoint }),
});
const nextId = orderIds();
const message = () => {
  const id = nextId();
  return { id, body: plainMessageOf(orderOf(id)) };
};
if (process.argv[3] === 'single') {
  publishForever({ lanes: job.batchesInFlight * 10, orders: 1 }, () => producer.send(message()));
} else {
  publishForever({ lanes: job.batchesInFlight, orders: 10 }, () =>
    producer.send(Array.from({ length: 10 }, message)),
  );
}
