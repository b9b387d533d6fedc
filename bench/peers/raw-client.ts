import { hash } from 'node:crypto';
import {
  DeleteMessageBatchCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  SQSClient,
} from '@aws-sdk/client-sqs';
import { commonFields, loadConfig } from '@orders/shared/runtime/config.ts';
import { createLogger } from '@orders/shared/runtime/logger.ts';
import { createMetrics } from '@orders/shared/runtime/metrics.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { CachingSigner } from '@orders/shared/sqs/tuned/caching-signer.ts';
import { UndiciHandler } from '@orders/shared/sqs/tuned/undici-handler.ts';
import { z } from 'zod';
import { AWS_ENV } from '../process.ts';

export type Received = { Body?: string | undefined; ReceiptHandle?: string | undefined }[];

/** The three operations that carry the load, ten messages each. Whatever does not succeed as a whole throws. */
export type RawClient = {
  receive: () => Promise<Received>;
  remove: (messages: Received) => Promise<void>;
  send: (bodies: string[]) => Promise<void>;
};

/** `sdk` as it comes, `tuned` as the services use it, `none`: the limit, what has to be done whoever does it. */
export type RawClientKind = 'sdk' | 'tuned' | 'none';

export function openRawClient(kind: RawClientKind, endpoint: string, queueUrl: string): RawClient {
  const call = kind === 'none' ? bareCall(endpoint) : sdkCall(kind, endpoint);
  return {
    receive: async () => {
      const { Messages } = await call.receive({
        QueueUrl: queueUrl,
        MaxNumberOfMessages: 10,
        WaitTimeSeconds: 20,
        VisibilityTimeout: 60,
      });
      return Messages ?? [];
    },
    remove: async (messages) => {
      const Entries = messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
      const { Successful } = await call.remove({ QueueUrl: queueUrl, Entries });
      if (Successful?.length !== messages.length) throw new Error('not deleted');
    },
    send: async (bodies) => {
      const Entries = bodies.map((MessageBody, index) => ({ Id: String(index), MessageBody }));
      const { Successful } = await call.send({ QueueUrl: queueUrl, Entries });
      if (Successful?.length !== bodies.length) throw new Error('not sent');
    },
  };
}

type ReceiveInput = ConstructorParameters<typeof ReceiveMessageCommand>[0];
type RemoveInput = ConstructorParameters<typeof DeleteMessageBatchCommand>[0];
type SendInput = ConstructorParameters<typeof SendMessageBatchCommand>[0];

function sdkCall(kind: 'sdk' | 'tuned', endpoint: string) {
  const client = kind === 'sdk' ? new SQSClient({ endpoint }) : tunedClient();
  return {
    receive: (input: ReceiveInput) => client.send(new ReceiveMessageCommand(input)),
    remove: (input: RemoveInput) => client.send(new DeleteMessageBatchCommand(input)),
    send: (input: SendInput) => client.send(new SendMessageBatchCommand(input)),
  };
}

function tunedClient(): SQSClient {
  const config = { ...loadConfig(z.object(commonFields), process.env), SQS_CLIENT: 'tuned' as const };
  const logger = createLogger({ ...config, LOG_LEVEL: 'warn', service: 'bench', version: '' });
  return createSqsClient({ config, logger, metrics: createMetrics('bench', '') });
}

/** With the same parts as the tuned client, but no SDK, and so no retries, no typed errors, no metrics. */
function bareCall(endpoint: string) {
  const { hostname, port, host } = new URL(endpoint);
  const handler = new UndiciHandler({ connectTimeoutMs: 2_000, requestTimeoutMs: 25_000, maxSockets: 50 });
  const credentials = {
    accessKeyId: AWS_ENV.AWS_ACCESS_KEY_ID,
    secretAccessKey: AWS_ENV.AWS_SECRET_ACCESS_KEY,
    sessionToken: AWS_ENV.AWS_SESSION_TOKEN,
  };
  const signer = new CachingSigner(() => ({
    credentials: async () => credentials,
    region: async () => AWS_ENV.AWS_REGION,
  }));
  const call = async (operation: string, input: object) => {
    const request = {
      method: 'POST',
      protocol: 'http:',
      hostname,
      port: Number(port),
      path: '/',
      query: {},
      headers: {
        host,
        'content-type': 'application/x-amz-json-1.0',
        'x-amz-target': `AmazonSQS.${operation}`,
      },
      body: Buffer.from(JSON.stringify(input)),
    };
    const signed = await signer.sign(request);
    const { response } = await handler.handle(signed as Parameters<typeof handler.handle>[0]);
    if (response.statusCode !== 200) throw new Error(`${operation} answered ${response.statusCode}`);
    return JSON.parse(String(response.body));
  };
  const check = (body: string | undefined, md5: string) => {
    if (hash('md5', body ?? '') !== md5) throw new Error('damaged');
  };
  return {
    receive: async (input: ReceiveInput): Promise<{ Messages?: Received }> => {
      const answer = await call('ReceiveMessage', input);
      for (const { Body, MD5OfBody } of answer.Messages ?? []) check(Body, MD5OfBody);
      return answer;
    },
    remove: (input: RemoveInput): Promise<{ Successful?: unknown[] }> => call('DeleteMessageBatch', input),
    send: async (input: SendInput): Promise<{ Successful?: unknown[] }> => {
      const answer = await call('SendMessageBatch', input);
      for (const [index, { MD5OfMessageBody }] of answer.Successful.entries()) {
        check(input.Entries?.[index]?.MessageBody, MD5OfMessageBody);
      }
      return answer;
    },
  };
}
