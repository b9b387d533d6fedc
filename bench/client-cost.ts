import { type ChildProcess, fork } from 'node:child_process';
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import {
  DeleteMessageBatchCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { commonFields, loadConfig } from '@orders/shared/config.ts';
import { createLogger } from '@orders/shared/logger.ts';
import { createMetrics } from '@orders/shared/metrics.ts';
import { CachingSigner } from '@orders/shared/sqs/caching-signer.ts';
import { UndiciHandler } from '@orders/shared/sqs/undici-handler.ts';
import { createSqsClient } from '@orders/shared/sqs-client.ts';
import { z } from 'zod';

/**
 * Processor seconds that a client of SQS takes for 10,000 messages, against a server in a process of its own that
 * answers at once: tuned, plain, and the same requests without the SDK, in runs that take turns, each in a new process.
 *
 * usage: node bench/client-cost.ts [--rounds=5] [--messages=20000] [--json]
 */
const CLIENTS = ['plain', 'tuned', 'no SDK'] as const;
const WORKLOADS = ['receive 10 + delete 10', 'send 10'] as const;
type Client = (typeof CLIENTS)[number];
type Workload = (typeof WORKLOADS)[number];
type Cost = { cpuSeconds: number; perSecond: number };
type Costs = Record<Workload, Cost>;
type Job = { client: Client; url: string; messages: number };

const POLLERS = 5;
const SENDERS = 20;
const TEN = Array.from({ length: 10 }, (_, index) => String(index));
const BODY = JSON.stringify({ specversion: '1.0', type: 'order.placed.v1', data: 'x'.repeat(440) });
const TRACE = { DataType: 'String', StringValue: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' };
const MessageAttributes = {
  contentType: { DataType: 'String', StringValue: 'application/json' },
  traceparent: TRACE,
};

async function compare(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      messages: { type: 'string', default: '20000' },
      json: { type: 'boolean', default: false },
    },
  });
  const server = fork(import.meta.filename, ['sink']);
  const url = await message<string>(server);
  const results: Record<Client, Costs[]> = { plain: [], tuned: [], 'no SDK': [] };
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const client of CLIENTS) {
      const job: Job = { client, url, messages: Number(values.messages) };
      const env = {
        ...process.env,
        APP_ENV: 'production',
        AWS_ENDPOINT_URL: url,
        AWS_ACCESS_KEY_ID: 'bench',
        AWS_SECRET_ACCESS_KEY: 'secret',
        AWS_SESSION_TOKEN: 'token'.repeat(100),
      };
      const worker = fork(import.meta.filename, ['run', JSON.stringify(job)], { env });
      results[client].push(await message<Costs>(worker));
    }
  }
  server.kill();
  const rows = WORKLOADS.flatMap((workload) => {
    const cpu = (client: Client) => median(results[client].map((costs) => costs[workload].cpuSeconds));
    return CLIENTS.map((client) => ({
      workload,
      client,
      'CPU-s per 10,000': round(cpu(client)),
      from: round(Math.min(...results[client].map((costs) => costs[workload].cpuSeconds))),
      to: round(Math.max(...results[client].map((costs) => costs[workload].cpuSeconds))),
      'of plain': round(cpu(client) / cpu('plain')),
      'messages/s': Math.round(median(results[client].map((costs) => costs[workload].perSecond))),
    }));
  });
  if (values.json) console.log(JSON.stringify(rows, undefined, 2));
  else console.table(rows);
}

async function message<T>(child: ChildProcess): Promise<T> {
  const ended = once(child, 'exit').then(() =>
    Promise.reject(new Error('the process ended without a result')),
  );
  ended.catch(() => {});
  const [result] = await Promise.race([once(child, 'message'), ended]);
  return result as T;
}

async function run({ client, messages }: Job): Promise<void> {
  const { receive, remove, send } = client === 'no SDK' ? bare() : ofSdk(client);
  const workloads: Record<Workload, () => Promise<void>> = {
    'receive 10 + delete 10': async () => remove(await receive()),
    'send 10': send,
  };
  const costs: Partial<Costs> = {};
  for (const workload of WORKLOADS) {
    const lanes = workload === 'send 10' ? SENDERS : POLLERS;
    await repeat(workloads[workload], messages / 10, lanes); // warm
    const before = process.cpuUsage();
    const startedAt = performance.now();
    await repeat(workloads[workload], messages / 10, lanes);
    const { user, system } = process.cpuUsage(before);
    costs[workload] = {
      cpuSeconds: ((user + system) / 1e6 / messages) * 10_000,
      perSecond: (messages / (performance.now() - startedAt)) * 1_000,
    };
  }
  process.send?.(costs, () => process.exit(0));
}

async function repeat(work: () => Promise<void>, times: number, lanes: number): Promise<void> {
  let left = times;
  const lane = async () => {
    while (left-- > 0) await work();
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

const QueueUrl = 'http://sqs.ap-northeast-2.amazonaws.com/000000000000/order-queue';
const receiveInput = {
  QueueUrl,
  MaxNumberOfMessages: 10,
  WaitTimeSeconds: 20,
  VisibilityTimeout: 60,
  MessageAttributeNames: ['All'],
  MessageSystemAttributeNames: ['ApproximateReceiveCount' as const, 'SentTimestamp' as const],
};
type Received = { ReceiptHandle?: string | undefined }[];
const deleteInput = (messages: Received) => ({
  QueueUrl,
  Entries: messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle })),
});
const sendInput = () => ({
  QueueUrl,
  Entries: TEN.map((Id) => ({ Id, MessageBody: BODY, MessageAttributes })),
});

function ofSdk(SQS_CLIENT: 'plain' | 'tuned') {
  const config = { ...loadConfig(z.object(commonFields), process.env), SQS_CLIENT };
  const logger = createLogger({ ...config, LOG_LEVEL: 'warn', service: 'bench', version: '' });
  const metrics = createMetrics('bench', '');
  const client: SQSClient = createSqsClient({ config, logger, metrics });
  return {
    receive: async () => (await client.send(new ReceiveMessageCommand(receiveInput))).Messages ?? [],
    remove: async (messages: Received) => {
      const { Successful } = await client.send(new DeleteMessageBatchCommand(deleteInput(messages)));
      if (Successful?.length !== 10) throw new Error('not deleted');
    },
    send: async () => {
      const abortSignal = AbortSignal.timeout(5_000); // as order-producer does
      const { Successful } = await client.send(new SendMessageBatchCommand(sendInput()), { abortSignal });
      if (Successful?.length !== 10) throw new Error('not sent');
    },
  };
}

/** The limit: what has to be done whoever does it, with the same parts, and no retries, no errors, no metrics. */
function bare() {
  const { hostname, port, host } = new URL(String(process.env['AWS_ENDPOINT_URL']));
  const handler = new UndiciHandler({ connectTimeoutMs: 2_000, requestTimeoutMs: 5_000, maxSockets: 50 });
  const credentials = {
    accessKeyId: 'bench',
    secretAccessKey: 'secret',
    sessionToken: 'token'.repeat(100),
  };
  const signer = new CachingSigner(() => ({
    credentials: async () => credentials,
    region: async () => 'ap-northeast-2',
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
    return JSON.parse(String(response.body));
  };
  const check = (body: string, md5: string) => {
    if (hash('md5', body) !== md5) throw new Error('damaged');
  };
  return {
    receive: async (): Promise<Received> => {
      const { Messages } = await call('ReceiveMessage', receiveInput);
      for (const { Body, MD5OfBody } of Messages) check(Body, MD5OfBody);
      return Messages;
    },
    remove: async (messages: Received) => {
      const { Successful } = await call('DeleteMessageBatch', deleteInput(messages));
      if (Successful.length !== 10) throw new Error('not deleted');
    },
    send: async () => {
      const input = sendInput();
      const { Successful } = await call('SendMessageBatch', input);
      for (const [index, { MD5OfMessageBody }] of Successful.entries()) {
        check(input.Entries[index]?.MessageBody ?? '', MD5OfMessageBody);
      }
    },
  };
}

async function sink(): Promise<void> {
  const md5 = hash('md5', BODY);
  const messages = TEN.map((id) => ({
    MessageId: `5fea7756-0ea4-451a-a703-a558b933e2${id}4`,
    ReceiptHandle: `${id}${'AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a'.repeat(6)}==`,
    MD5OfBody: md5,
    Body: BODY,
    Attributes: { ApproximateReceiveCount: '1', SentTimestamp: '1767225600000' },
    MD5OfMessageAttributes: md5,
    MessageAttributes,
  }));
  const answers: Record<string, string> = {
    ReceiveMessage: JSON.stringify({ Messages: messages }),
    DeleteMessageBatch: JSON.stringify({ Successful: TEN.map((Id) => ({ Id })), Failed: [] }),
    SendMessageBatch: JSON.stringify({
      Successful: messages.map(({ MessageId }, index) => ({
        Id: String(index),
        MessageId,
        MD5OfMessageBody: md5,
        MD5OfMessageAttributes: md5,
      })),
      Failed: [],
    }),
  };
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      const operation = String(request.headers['x-amz-target']).split('.')[1] ?? '';
      response.setHeader('content-type', 'application/x-amz-json-1.0');
      response.setHeader('x-amzn-requestid', '5fea7756-0ea4-451a-a703-a558b933e274');
      response.end(answers[operation]);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  process.send?.(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}

if (process.argv[2] === 'sink') await sink();
else if (process.argv[2] === 'run') await run(JSON.parse(String(process.argv[3])));
else await compare();
