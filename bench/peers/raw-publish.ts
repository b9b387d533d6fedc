import { orderIds, orderOf, plainMessageOf } from '../orders.ts';
import { job, publishForever } from './publish-job.ts';
import { openRawClient, type RawClientKind } from './raw-client.ts';

/** SendMessageBatch of ten, by the client that the argument names. */
const { send } = openRawClient(process.argv[3] as RawClientKind, job.endpoint, job.queueUrl);
const nextId = orderIds();
publishForever({ lanes: job.batchesInFlight, orders: 10 }, () =>
  send(Array.from({ length: 10 }, () => plainMessageOf(orderOf(nextId())))),
);
