import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import fastify from 'fastify';
import { orderIds, plainMessageOf } from '../orders.ts';
import { ready } from '../probe.ts';

/** Fastify that parses the order and answers 202: at once or, told so, when the SDK has sent it, one message each. */
const { endpoint, queueUrl } = JSON.parse(String(process.argv[2]));
const sqs = new SQSClient({ endpoint });
const nextId = orderIds();
const app = fastify();
app.post('/orders', async (request, reply) => {
  const order = { orderId: nextId(), ...(request.body as object) };
  if (process.argv[3] === 'send-each') {
    await sqs.send(
      new SendMessageCommand({ QueueUrl: queueUrl, MessageBody: plainMessageOf(order as never) }),
    );
  }
  return reply.code(202).send({ orderId: order.orderId, status: 'ACCEPTED' });
});
ready({ url: await app.listen({ host: '127.0.0.1', port: 0 }) });
