import { hash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

export type HeldSqs = AsyncDisposable & {
  endpoint: string;
  /** Confirms what was sent, and from now on at once. */
  release: () => void;
};

/** An SQS that takes messages and confirms none until it is told to: what was accepted waits in the producer. */
export async function openHeldSqs(): Promise<HeldSqs> {
  const held = Promise.withResolvers<void>();
  const server = http.createServer(async (request, response) => {
    const body = await text(request).catch(() => '');
    response.setHeader('content-type', 'application/x-amz-json-1.0');
    switch (String(request.headers['x-amz-target'])) {
      case 'AmazonSQS.GetQueueUrl':
        return response.end(
          JSON.stringify({ QueueUrl: `${endpoint}/000000000000/${JSON.parse(body).QueueName}` }),
        );
      case 'AmazonSQS.SendMessageBatch': {
        const Successful = JSON.parse(body).Entries.map((entry: { Id: string; MessageBody: string }) => ({
          Id: entry.Id,
          MessageId: entry.Id,
          MD5OfMessageBody: hash('md5', entry.MessageBody),
        }));
        await held.promise;
        return response.end(JSON.stringify({ Successful, Failed: [] }));
      }
      default:
        return response.end(
          '{"Attributes":{"QueueArn":"arn:aws:sqs:ap-northeast-2:000000000000:order-queue"}}',
        );
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    endpoint,
    release: held.resolve,
    [Symbol.asyncDispose]: async () => {
      held.resolve();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
