import { spawnSync } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http, { type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import {
  BatchEntryIdsNotDistinct,
  ChangeMessageVisibilityBatchCommand,
  CreateQueueCommand,
  DeleteMessageBatchCommand,
  EmptyBatchRequest,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  InvalidMessageContents,
  type Message,
  OverLimit,
  QueueDoesNotExist,
  ReceiptHandleIsInvalid,
  ReceiveMessageCommand,
  RequestThrottled,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSServiceException,
  TooManyEntriesInBatchRequest,
} from '@aws-sdk/client-sqs';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Emulator, startEmulator } from '../../../../dev/emulator.ts';
import { captureLog } from '../../../testing/log-lines.ts';
import { createSqsClient, type SqsClientOptions } from '../client.ts';

/**
 * What the tuned client promises: all that the plain one does, the same table of cases through both. Where they
 * differ, which is on damaged messages and on an answer that stops, a case of its own says so.
 */
type Kind = 'plain' | 'tuned';
const KINDS: Kind[] = ['plain', 'tuned'];
const REGION = 'ap-northeast-2';
const QUEUE_URL = `https://sqs.${REGION}.amazonaws.com/000000000000/orders`;

function createClient(kind: Kind, endpoint: string, config: Partial<SqsClientOptions['config']> = {}) {
  const { logger, lines } = captureLog();
  const client = createSqsClient({
    config: {
      APP_ENV: 'staging',
      AWS_REGION: REGION,
      AWS_ENDPOINT_URL: endpoint,
      AWS_ENDPOINT_URL_SQS: undefined,
      SQS_CONNECT_TIMEOUT_MS: 1_000,
      SQS_REQUEST_TIMEOUT_MS: 2_000,
      SQS_MAX_ATTEMPTS: 3,
      SQS_MAX_SOCKETS: 5,
      SQS_CLIENT: kind,
      ...config,
    },
    logger,
  });
  onTestFinished(() => client.destroy());
  return { client, lines };
}

type Recorded = { method: string; url: string; headers: IncomingHttpHeaders; body: string };
type Answer = { status?: number; headers?: Record<string, string>; body?: unknown };
type Scripted = Answer | ((response: ServerResponse, request: Recorded) => void);

/** An SQS that answers as scripted, the last answer again and again, and keeps what it was asked. */
async function startScript(...script: Scripted[]) {
  const requests: Recorded[] = [];
  const server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method = '', url = '', headers } = request;
    const recorded = { method, url, headers, body: Buffer.concat(chunks).toString() };
    const step = script[Math.min(requests.length, script.length - 1)];
    requests.push(recorded);
    if (typeof step === 'function') step(response, recorded);
    else answer(response, step);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
  });
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { server, endpoint, requests };
}

function answer(response: ServerResponse, { status = 200, headers = {}, body = {} }: Answer = {}) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/x-amz-json-1.0',
    'x-amzn-requestid': 'request-1',
    ...headers,
  });
  response.end(text);
}

const md5 = (text: string) => createHash('md5').update(text).digest('hex');
const failure = (type: string, status: number, headers: Record<string, string> = {}): Answer => ({
  status,
  headers,
  body: { __type: `com.amazonaws.sqs#${type}`, message: `it was ${type}` },
});
const send = (bodies: string[] = ['one']) =>
  new SendMessageBatchCommand({
    QueueUrl: QUEUE_URL,
    Entries: bodies.map((MessageBody, index) => ({ Id: String(index), MessageBody })),
  });
const receive = () => new ReceiveMessageCommand({ QueueUrl: QUEUE_URL, MaxNumberOfMessages: 10 });
const remove = () =>
  new DeleteMessageBatchCommand({ QueueUrl: QUEUE_URL, Entries: [{ Id: '0', ReceiptHandle: 'handle' }] });
const sent = (...bodies: string[]): Answer => ({
  body: {
    Successful: bodies.map((body, index) => ({
      Id: String(index),
      MessageId: `m${index}`,
      MD5OfMessageBody: md5(body),
    })),
  },
});
const caught = (promise: Promise<unknown>): Promise<Record<string, unknown>> =>
  promise.then(
    (value) => expect.fail(`resolved: ${JSON.stringify(value)}`),
    (error: unknown) => error as Record<string, unknown>,
  );

class Sha256 {
  readonly #hash;
  constructor(secret?: Uint8Array | string) {
    this.#hash = secret ? createHmac('sha256', secret) : createHash('sha256');
  }
  update(data: Uint8Array) {
    this.#hash.update(data);
  }
  async digest() {
    return new Uint8Array(this.#hash.digest());
  }
}

type Credentials = { accessKeyId: string; secretAccessKey: string; sessionToken?: string };

/** As SQS checks it: everything that must be signed is, and the SDK's own implementation comes to the same signature. */
async function expectSigned({ method, url, headers, body }: Recorded, credentials: Credentials) {
  const { authorization = '', 'x-amz-date': date = '' } = headers as Record<string, string>;
  const signedNames = /SignedHeaders=([^,]+)/.exec(authorization)?.[1]?.split(';') ?? [];
  const mustBeSigned = Object.keys(headers).filter((name) => /^(host|content-type|x-amz-.*)$/.test(name));
  expect(signedNames).toEqual(expect.arrayContaining(mustBeSigned));
  const signingDate = new Date(date.replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/, '$1-$2-$3T$4:$5:$6Z'));
  const reference = new SignatureV4({
    credentials,
    region: REGION,
    service: 'sqs',
    sha256: Sha256 as unknown as ConstructorParameters<typeof SignatureV4>[0]['sha256'],
    applyChecksum: false,
  });
  const signed = await reference.sign(
    {
      method,
      protocol: 'http:',
      hostname: 'localhost',
      path: url,
      query: {},
      headers: Object.fromEntries(signedNames.map((name) => [name, String(headers[name])])),
      body,
    },
    { signingDate },
  );
  expect(authorization).toBe(signed.headers['authorization']);
  expect(headers['x-amz-security-token']).toBe(credentials.sessionToken);
}

const KEYS = { accessKeyId: 'AKIATEST', secretAccessKey: 'secret' };
function useCredentials({ accessKeyId, secretAccessKey, sessionToken }: Credentials, expiration?: Date) {
  vi.stubEnv('AWS_ACCESS_KEY_ID', accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', secretAccessKey);
  vi.stubEnv('AWS_SESSION_TOKEN', sessionToken);
  vi.stubEnv('AWS_CREDENTIAL_EXPIRATION', expiration?.toISOString());
}

beforeEach(() => {
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
  vi.stubEnv('AWS_PROFILE', undefined);
  useCredentials(KEYS);
  vi.spyOn(Math, 'random').mockReturnValue(0); // the SDK's back-off has full jitter: none
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

describe.each(KINDS)('%s client, asked by', (kind) => {
  it('each of the hot operations, sends what SQS documents', async () => {
    const { endpoint, requests } = await startScript({});
    const { client } = createClient(kind, endpoint);
    await client.send(send());
    await client.send(receive());
    await client.send(remove());
    await client.send(
      new ChangeMessageVisibilityBatchCommand({
        QueueUrl: QUEUE_URL,
        Entries: [{ Id: '0', ReceiptHandle: 'handle', VisibilityTimeout: 0 }],
      }),
    );
    expect(requests.map(({ method, url, headers }) => [method, url, headers['x-amz-target']])).toEqual([
      ['POST', '/', 'AmazonSQS.SendMessageBatch'],
      ['POST', '/', 'AmazonSQS.ReceiveMessage'],
      ['POST', '/', 'AmazonSQS.DeleteMessageBatch'],
      ['POST', '/', 'AmazonSQS.ChangeMessageVisibilityBatch'],
    ]);
    expect(requests.map(({ body }) => JSON.parse(body))).toEqual([
      { QueueUrl: QUEUE_URL, Entries: [{ Id: '0', MessageBody: 'one' }] },
      { QueueUrl: QUEUE_URL, MaxNumberOfMessages: 10 },
      { QueueUrl: QUEUE_URL, Entries: [{ Id: '0', ReceiptHandle: 'handle' }] },
      { QueueUrl: QUEUE_URL, Entries: [{ Id: '0', ReceiptHandle: 'handle', VisibilityTimeout: 0 }] },
    ]);
    for (const { headers, body } of requests) {
      expect(headers).toMatchObject({
        host: endpoint.replace('http://', ''),
        'content-type': 'application/x-amz-json-1.0',
        'content-length': String(Buffer.byteLength(body)),
        'x-amzn-query-mode': 'true',
        'user-agent': expect.stringContaining('aws-sdk'),
        'amz-sdk-request': 'attempt=1; max=3',
        'amz-sdk-invocation-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
      });
    }
  });

  it('a send with attributes of every type, writes bytes as base64', async () => {
    const { endpoint, requests } = await startScript({});
    const { client } = createClient(kind, endpoint);
    const attributes = {
      text: { DataType: 'String', StringValue: '한국어 😀 "\\\u2028\n' },
      number: { DataType: 'Number.int', StringValue: '-12' },
      bytes: { DataType: 'Binary', BinaryValue: Uint8Array.of(0, 255, 128, 10) },
      buffer: { DataType: 'Binary', BinaryValue: Buffer.from('bytes') },
      none: { DataType: 'Binary', BinaryValue: new Uint8Array() },
      list: { DataType: 'Binary', BinaryListValues: [Uint8Array.of(1), Uint8Array.of(2)] },
    };
    await client.send(
      new SendMessageBatchCommand({
        QueueUrl: QUEUE_URL,
        Entries: [
          { Id: 'a', MessageBody: 'one', MessageAttributes: attributes, DelaySeconds: 0 },
          { Id: 'b', MessageBody: '한국어 😀', MessageGroupId: 'group' },
        ],
      }),
    );
    expect(JSON.parse(requests[0]?.body ?? '').Entries).toEqual([
      {
        Id: 'a',
        MessageBody: 'one',
        DelaySeconds: 0,
        MessageAttributes: {
          text: attributes.text,
          number: attributes.number,
          bytes: { DataType: 'Binary', BinaryValue: 'AP+ACg==' },
          buffer: { DataType: 'Binary', BinaryValue: 'Ynl0ZXM=' },
          none: { DataType: 'Binary', BinaryValue: '' },
          list: { DataType: 'Binary', BinaryListValues: ['AQ==', 'Ag=='] },
        },
      },
      { Id: 'b', MessageBody: '한국어 😀', MessageGroupId: 'group' },
    ]);
    expect(attributes.bytes.BinaryValue).toEqual(Uint8Array.of(0, 255, 128, 10));

    const AWSTraceHeader = { DataType: 'Binary', BinaryValue: Uint8Array.of(7) };
    const entry = { Id: 'c', MessageBody: 'one', MessageSystemAttributes: { AWSTraceHeader } };
    await client.send(new SendMessageBatchCommand({ QueueUrl: QUEUE_URL, Entries: [entry] }));
    expect(requests[1]?.body).toContain('"BinaryValue":"Bw=="');
  });

  it('a receive, answers messages with bytes as bytes, and passes over what it does not know', async () => {
    const Body = '한국어 😀 "\\\u2028\n';
    const message = {
      MessageId: 'm',
      ReceiptHandle: 'h',
      Body,
      MD5OfBody: md5(Body),
      Attributes: { ApproximateReceiveCount: '3' },
    };
    const { endpoint } = await startScript({
      body: {
        Messages: [
          {
            ...message,
            Novelty: { deep: [1] },
            MessageAttributes: {
              text: { DataType: 'String', StringValue: 'ü', Novelty: 1 },
              bytes: { DataType: 'Binary', BinaryValue: 'AP+ACg==' },
              list: { DataType: 'Binary', BinaryListValues: ['AQ=='] },
            },
          },
          { ...message, MessageId: 'n' },
        ],
        Novelty: true,
      },
    });
    const { client } = createClient(kind, endpoint);
    const { Messages, $metadata } = await client.send(receive());
    expect(Messages).toMatchObject([
      {
        ...message,
        MessageAttributes: {
          text: { DataType: 'String', StringValue: 'ü' },
          bytes: { DataType: 'Binary', BinaryValue: Uint8Array.of(0, 255, 128, 10) },
          list: { DataType: 'Binary', BinaryListValues: [Uint8Array.of(1)] },
        },
      },
      { ...message, MessageId: 'n' },
    ]);
    expect(Messages?.[0]?.MessageAttributes?.['bytes']?.BinaryValue?.constructor).toBe(Uint8Array);
    expect($metadata).toMatchObject({ httpStatusCode: 200, requestId: 'request-1', attempts: 1 });
  });

  it.each([{}, { Messages: [] }, { Messages: null }, ''])(
    'a receive that %j answers, has no message',
    async (body) => {
      const { endpoint } = await startScript({ body });
      const { Messages, $metadata } = await createClient(kind, endpoint).client.send(receive());
      expect(Messages ?? []).toEqual([]);
      expect($metadata.httpStatusCode).toBe(200);
    },
  );

  it('a batch that fails in part, answers both parts', async () => {
    const Failed = [{ Id: '1', Code: 'ReceiptHandleIsInvalid', SenderFault: true, Message: 'no' }];
    const { endpoint, requests } = await startScript({ body: { Successful: [{ Id: '0' }], Failed } });
    const result = await createClient(kind, endpoint).client.send(remove());
    expect(result).toMatchObject({ Successful: [{ Id: '0' }], Failed });
    expect(requests).toHaveLength(1);
  });

  it.each([
    ['QueueDoesNotExist', 400, 'AWS.SimpleQueueService.NonExistentQueue;Sender', QueueDoesNotExist, 1],
    ['ReceiptHandleIsInvalid', 400, 'ReceiptHandleIsInvalid;Sender', ReceiptHandleIsInvalid, 1],
    ['InvalidMessageContents', 400, undefined, InvalidMessageContents, 1],
    ['OverLimit', 403, 'OverLimit;Sender', OverLimit, 1],
    ['RequestThrottled', 403, 'RequestThrottled;Sender', RequestThrottled, 3],
    ['ThrottlingException', 400, undefined, SQSServiceException, 3],
    ['ThrottlingException', 429, undefined, SQSServiceException, 3],
    ['AccessDeniedException', 403, undefined, SQSServiceException, 1],
    ['InternalFailure', 500, undefined, SQSServiceException, 3],
    ['ServiceUnavailable', 503, undefined, SQSServiceException, 3],
    ['Unheard', 400, undefined, SQSServiceException, 1],
  ] as const)(
    'an SQS that answers %s with %i, rejects with that error',
    async (type, status, query, Class, attempts) => {
      const { endpoint, requests } = await startScript(
        failure(type, status, query ? { 'x-amzn-query-error': query } : {}),
      );
      const error = await caught(createClient(kind, endpoint).client.send(remove()));
      expect(error).toBeInstanceOf(Class);
      expect(error).toBeInstanceOf(SQSServiceException);
      expect({ ...error, message: error['message'] }).toMatchObject({
        name: type,
        message: `it was ${type}`,
        $fault: status < 500 ? 'client' : 'server',
        $metadata: { httpStatusCode: status, requestId: 'request-1', attempts },
        ...(query ? { Code: query.split(';')[0], Type: 'Sender' } : {}),
      });
      expect(requests.map(({ headers }) => headers['amz-sdk-request'])).toEqual(
        Array.from({ length: attempts }, (_, index) => `attempt=${index + 1}; max=3`),
      );
    },
  );

  it.each([
    ['500', failure('InternalFailure', 500)],
    ['throttling', failure('RequestThrottled', 403)],
    ['a page of a proxy', { status: 502, body: '<html>', headers: { 'content-type': 'text/html' } }],
    ['a reset', (response: ServerResponse) => response.socket?.resetAndDestroy()],
    ['a hang-up', (response: ServerResponse) => response.socket?.end()],
    [
      'an answer cut off',
      (response: ServerResponse) => {
        response.writeHead(200, { 'content-length': '100' });
        response.write('{"Successful":', () => response.socket?.destroy());
      },
    ],
    [
      'an answer cut off on a connection that ends anyway',
      (response: ServerResponse) => {
        response.writeHead(200, { 'content-length': '100', connection: 'close' });
        response.write('{"Successful":', () => response.socket?.end());
      },
    ],
  ] as [string, Scripted][])('%s at first, tries again and succeeds', async (_, first) => {
    const { endpoint, requests } = await startScript(first, sent('one'));
    const { Successful, $metadata } = await createClient(kind, endpoint).client.send(send());
    expect(Successful).toMatchObject([{ MessageId: 'm0' }]);
    expect($metadata.attempts).toBe(2);
    expect(requests).toHaveLength(2);
    expect(requests[1]?.headers['amz-sdk-invocation-id']).toBe(requests[0]?.headers['amz-sdk-invocation-id']);
    expect(requests[1]?.body).toBe(requests[0]?.body);
  });

  it('an SQS that says how long to wait, waits', async () => {
    const throttled = failure('RequestThrottled', 403, { 'retry-after': '0.2' });
    const { endpoint } = await startScript(throttled, sent('one'));
    const { $metadata } = await createClient(kind, endpoint).client.send(send());
    expect($metadata.totalRetryDelay).toBeGreaterThan(150);
  });

  it('one attempt only, does not try again', async () => {
    const { endpoint, requests } = await startScript(failure('InternalFailure', 500));
    const { client } = createClient(kind, endpoint, { SQS_MAX_ATTEMPTS: 1 });
    await caught(client.send(receive()));
    expect(requests).toHaveLength(1);
  });

  it.each(['5', '"text"', '[]'])('an SQS that answers 200 and %s, does not fail', async (body) => {
    const { endpoint, requests } = await startScript({ body });
    const { Messages } = await createClient(kind, endpoint).client.send(receive());
    expect(Messages ?? []).toEqual([]);
    expect(requests).toHaveLength(1);
  });

  it("adaptive retries, are the SDK's alone, and end with the signal", async () => {
    vi.stubEnv('AWS_RETRY_MODE', 'adaptive');
    const { endpoint, requests } = await startScript(failure('RequestThrottled', 403), sent('one'));
    const { client } = createClient(kind, endpoint);
    expect((await client.send(send())).Successful).toHaveLength(1);
    expect(requests).toHaveLength(2);
  });

  it('the same command again after a failure, answers', async () => {
    const { endpoint } = await startScript(
      failure('AccessDeniedException', 403),
      failure('AccessDeniedException', 403),
      {},
    );
    const { client } = createClient(kind, endpoint);
    const command = receive();
    await caught(client.send(command));
    await caught(client.send(command));
    expect((await client.send(command)).$metadata.httpStatusCode).toBe(200);
  });

  it('an SQS that answers 200 and no JSON, rejects once', async () => {
    const { endpoint, requests } = await startScript({ body: '<html>' });
    const error = await caught(createClient(kind, endpoint).client.send(receive()));
    expect(error).toMatchObject({ name: 'SyntaxError', $metadata: { httpStatusCode: 200 } });
    expect(requests).toHaveLength(1);
  });

  it('nobody there, rejects after all attempts', async () => {
    const { server, endpoint } = await startScript({});
    await new Promise((resolve) => server.close(resolve));
    const error = await caught(createClient(kind, endpoint).client.send(receive()));
    expect(error).toMatchObject({ code: 'ECONNREFUSED', $metadata: { attempts: 3 } });
  });

  it.each(['destroy', 'resetAndDestroy'] as const)(
    'an SQS that always hangs up (%s), rejects after all attempts',
    async (hangUp) => {
      const { endpoint, requests } = await startScript((response) => response.socket?.[hangUp]());
      const error = await caught(createClient(kind, endpoint).client.send(receive()));
      expect(error).toMatchObject({ name: 'TimeoutError', code: 'ECONNRESET', $metadata: { attempts: 3 } });
      expect(requests).toHaveLength(3);
    },
  );

  it('an SQS that never answers, rejects after all time-outs', async () => {
    const { endpoint, requests } = await startScript(() => {});
    const { client } = createClient(kind, endpoint, { SQS_REQUEST_TIMEOUT_MS: 100 });
    const error = await caught(client.send(receive()));
    expect(error).toMatchObject({ name: 'TimeoutError', code: 'ETIMEDOUT', $metadata: { attempts: 3 } });
    expect(requests).toHaveLength(3);
  });

  it('a connection that does not come about, rejects after a time-out', async () => {
    const silent = net.createServer((socket) => void socket.on('error', () => {})).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    onTestFinished(() => void silent.close());
    const { client } = createClient(kind, `https://127.0.0.1:${(silent.address() as AddressInfo).port}`, {
      SQS_CONNECT_TIMEOUT_MS: 100,
      SQS_REQUEST_TIMEOUT_MS: kind === 'plain' ? 200 : 60_000, // the plain one waits for TCP only
      SQS_MAX_ATTEMPTS: 1,
    });
    expect(await caught(client.send(receive()))).toMatchObject({ name: 'TimeoutError' });
  });

  it('a signal that is aborted, rejects before, on the way and between attempts', async () => {
    const arrived = Promise.withResolvers<ServerResponse>();
    const script = await startScript((response) => arrived.resolve(response));
    const { client } = createClient(kind, script.endpoint);
    const reason = new Error('enough');
    const before = await caught(client.send(receive(), { abortSignal: AbortSignal.abort(reason) }));
    expect(before).toMatchObject({ name: 'AbortError' });
    expect(script.requests).toHaveLength(0);

    const controller = new AbortController();
    const pending = caught(client.send(receive(), { abortSignal: controller.signal }));
    const closed = once(await arrived.promise, 'close');
    controller.abort(reason);
    expect(await pending).toMatchObject({ name: 'AbortError' });
    await closed;
    expect(script.requests).toHaveLength(1);

    const throttling = await startScript(failure('RequestThrottled', 403, { 'retry-after': '60' }));
    const other = createClient(kind, throttling.endpoint).client;
    const waiting = new AbortController();
    const failed = caught(other.send(receive(), { abortSignal: waiting.signal }));
    await vi.waitFor(() => expect(throttling.requests).toHaveLength(1), { timeout: 30_000 });
    setTimeout(() => waiting.abort(), 50);
    expect(await failed).toMatchObject({ name: 'AbortError' });
    expect(throttling.requests).toHaveLength(1);
  });

  it('a signal that is aborted while it waits for a connection, is not sent', async () => {
    const held: ServerResponse[] = [];
    const script = await startScript((response) => void held.push(response));
    const { client } = createClient(kind, script.endpoint, { SQS_MAX_SOCKETS: 1 });
    const first = client.send(remove());
    await vi.waitFor(() => expect(held).toHaveLength(1), { timeout: 30_000 });
    const controller = new AbortController();
    const second = caught(client.send(remove(), { abortSignal: controller.signal }));
    setImmediate(() => controller.abort());
    expect(await second).toMatchObject({ name: 'AbortError' });
    answer(held[0] as ServerResponse, { body: { Successful: [{ Id: '0' }] } });
    expect((await first).Successful).toHaveLength(1);
    const third = client.send(remove());
    await vi.waitFor(() => expect(held).toHaveLength(2), { timeout: 30_000 });
    answer(held[1] as ServerResponse);
    await third;
    expect(script.requests).toHaveLength(2);
  });

  it('more requests than connections, lets them wait for each other', async () => {
    let busy = 0;
    let most = 0;
    const { endpoint, requests } = await startScript((response) => {
      most = Math.max(most, ++busy);
      setTimeout(() => {
        busy--;
        answer(response);
      }, 20);
    });
    const { client } = createClient(kind, endpoint, { SQS_MAX_SOCKETS: 2 });
    await Promise.all(Array.from({ length: 7 }, () => client.send(remove())));
    expect([requests.length, most]).toEqual([7, 2]);
  });

  it('requests one after the other, keeps the connection, and replaces one that SQS has closed', async () => {
    const { server, endpoint, requests } = await startScript({});
    const sockets: net.Socket[] = [];
    server.on('connection', (socket) => void sockets.push(socket));
    const { client } = createClient(kind, endpoint);
    for (let n = 0; n < 10; n++) await client.send(remove());
    const kept = sockets.length;
    expect(kept).toBeLessThanOrEqual(2);
    const closed = sockets.map((socket) => once(socket, 'close'));
    server.closeIdleConnections();
    await Promise.all(closed);
    await client.send(remove());
    expect([sockets.length, requests.length]).toEqual([kept + 1, 11]);
  });

  it('proxies in the environment, goes past them', async () => {
    for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy']) {
      vi.stubEnv(name, 'http://127.0.0.1:9');
    }
    const { endpoint, requests } = await startScript({});
    await createClient(kind, endpoint).client.send(remove());
    expect(requests).toHaveLength(1);
  });

  it('an operation that is not hot, is answered as well', async () => {
    const { endpoint, requests } = await startScript(
      { body: { QueueUrl: QUEUE_URL } },
      failure('QueueDoesNotExist', 400),
    );
    const { client } = createClient(kind, endpoint);
    const command = () => new GetQueueUrlCommand({ QueueName: 'orders' });
    expect((await client.send(command())).QueueUrl).toBe(QUEUE_URL);
    expect(await caught(client.send(command()))).toBeInstanceOf(QueueDoesNotExist);
    for (const request of requests) await expectSigned(request, KEYS);
  });

  it('a queue of another host and no endpoint, goes to that host', async () => {
    const { endpoint, requests } = await startScript({});
    vi.stubEnv('AWS_ENDPOINT_URL', undefined);
    const { client } = createClient(kind, endpoint, { AWS_ENDPOINT_URL: 'aws' });
    const QueueUrl = `${endpoint}/000000000000/orders`;
    await client.send(new ReceiveMessageCommand({ QueueUrl }));
    expect(requests).toHaveLength(1);
    await expectSigned(requests[0] as Recorded, KEYS);
  });
});

describe.each(KINDS)('%s client, its signature', (kind) => {
  it.each([
    ['key', KEYS, ''],
    ['session token', { ...KEYS, sessionToken: 'a+long/token==' }, ''],
    ['path in the endpoint', KEYS, "/some%20place/it's/"],
  ])('with a %s, is what the reference computes', async (_, credentials, base) => {
    useCredentials(credentials);
    const { endpoint, requests } = await startScript({});
    const { client } = createClient(kind, endpoint + base);
    await client.send(send(['한국어 😀']));
    await client.send(receive());
    await client.send(send(['한국어 😀']), { abortSignal: new AbortController().signal });
    expect(requests).toHaveLength(3);
    for (const request of requests) await expectSigned(request, credentials);
    expect(requests[0]?.url).toBe(base || '/');
    expect(requests[0]?.headers.authorization).toContain(`/${REGION}/sqs/aws4_request`);
  });

  it('of credentials about to expire, is made with the next, even between two attempts', async () => {
    const soon = new Date(Date.now() + 60_000);
    const old = { accessKeyId: 'AKIAOLD', secretAccessKey: 'old', sessionToken: 'token' };
    const next = { accessKeyId: 'AKIANEW', secretAccessKey: 'new' };
    useCredentials(old, soon);
    const { endpoint, requests } = await startScript(
      {},
      (response) => {
        useCredentials(next, soon);
        answer(response, failure('InternalFailure', 500));
      },
      failure('InternalFailure', 500), // while it is signed, the SDK asks for the next in the background
      {},
    );
    const { client } = createClient(kind, endpoint);
    await client.send(receive());
    await client.send(receive());
    expect(requests).toHaveLength(4);
    await expectSigned(requests[0] as Recorded, old);
    await expectSigned(requests[1] as Recorded, old);
    await expectSigned(requests[3] as Recorded, next);
  });

  it('of credentials that are good for long, asks for them once', async () => {
    useCredentials(KEYS, new Date(Date.now() + 3_600_000));
    const { endpoint, requests } = await startScript({});
    const { client } = createClient(kind, endpoint);
    await client.send(receive());
    useCredentials({ accessKeyId: 'AKIANEW', secretAccessKey: 'new' });
    await client.send(receive());
    for (const request of requests) await expectSigned(request, KEYS);
  });

  it('without credentials, is none: the request is not sent', async () => {
    useCredentials({ accessKeyId: '', secretAccessKey: '' });
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent');
    vi.stubEnv('AWS_CONFIG_FILE', '/nonexistent');
    const { endpoint, requests } = await startScript({});
    const error = await caught(createClient(kind, endpoint).client.send(receive()));
    expect(error).toMatchObject({ name: 'CredentialsProviderError' });
    expect(requests).toHaveLength(0);
  });

  const roleOfSts = (): Answer => ({
    headers: { 'content-type': 'text/xml' },
    body: `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>
      <SecretAccessKey>role</SecretAccessKey><SessionToken>session</SessionToken>
      <Expiration>${new Date(Date.now() + 3_600_000).toISOString()}</Expiration></Credentials>
      </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
  });
  async function makeFolder(): Promise<string> {
    const folder = await mkdtemp(path.join(tmpdir(), 'credentials-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    return folder;
  }
  async function useServiceAccount(stsEndpoint: string): Promise<void> {
    const token = path.join(await makeFolder(), 'token');
    await writeFile(token, 'web-identity');
    useCredentials({ accessKeyId: '', secretAccessKey: '' });
    vi.stubEnv('AWS_WEB_IDENTITY_TOKEN_FILE', token);
    vi.stubEnv('AWS_ROLE_ARN', 'arn:aws:iam::000000000000:role/consumer');
    vi.stubEnv('AWS_ENDPOINT_URL_STS', stsEndpoint);
  }

  it('for a service account of Kubernetes, is made with what STS gives for its token', async () => {
    const { endpoint, requests } = await startScript(roleOfSts(), {});
    await useServiceAccount(endpoint);
    const { client } = createClient(kind, endpoint);
    await client.send(receive());
    const [sts, sqs] = requests as [Recorded, Recorded];
    expect(sts.body).toContain('WebIdentityToken=web-identity');
    await expectSigned(sqs, { accessKeyId: 'ASIAROLE', secretAccessKey: 'role', sessionToken: 'session' });
  });

  it('of credentials that hang, ends with the signal, and is not made when they come', async () => {
    const asked = Promise.withResolvers<ServerResponse>();
    const sts = await startScript((response) => asked.resolve(response));
    await useServiceAccount(sts.endpoint);
    const { endpoint, requests } = await startScript({});
    const { client } = createClient(kind, endpoint, { SQS_REQUEST_TIMEOUT_MS: 60_000 });
    const controller = new AbortController();
    const pending = caught(client.send(receive(), { abortSignal: controller.signal }));
    const response = await asked.promise;
    controller.abort();
    expect(await pending).toMatchObject({ name: 'AbortError' });
    answer(response, roleOfSts());
    await client.send(receive());
    expect(requests).toHaveLength(1);
  });

  it('of credentials that hang, is given up in the time of a request', async () => {
    const folder = await makeFolder();
    const pidFile = path.join(folder, 'pid');
    const config = path.join(folder, 'config');
    await writeFile(config, `[default]\ncredential_process = echo $$ > ${pidFile} && exec sleep 60\n`);
    useCredentials({ accessKeyId: '', secretAccessKey: '' });
    vi.stubEnv('AWS_CONFIG_FILE', config);
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent');
    const { endpoint, requests } = await startScript({});
    const { client } = createClient(kind, endpoint, { SQS_REQUEST_TIMEOUT_MS: 300 });
    const failed = caught(client.send(receive()));
    const pid = await vi.waitFor(
      async () => Number((await readFile(pidFile, 'utf8')).trim() || expect.fail()),
      { timeout: 30_000 },
    );
    onTestFinished(() => void process.kill(pid));
    expect(await failed).toMatchObject({ name: 'TimeoutError', message: 'no credentials within 300 ms' });
    expect(await caught(client.send(remove()))).toMatchObject({ name: 'TimeoutError' });
    expect(requests).toHaveLength(0);
  });

  const HOUR_MS = 3_600_000;
  const inAnHour = () => ({ date: new Date(Date.now() + HOUR_MS).toUTCString() });
  const dateOf = ({ headers }: Recorded) =>
    new Date(String(headers['x-amz-date']).replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)/, '$1-$2-$3T$4:$5:'));
  const aheadMs = (request: Recorded | undefined) => dateOf(request as Recorded).getTime() - Date.now();

  it.each(['InvalidSignatureException', 'RequestTimeTooSkewed', 'SignatureDoesNotMatch'])(
    'of a clock that is wrong, after %s, has the time of SQS',
    async (type) => {
      const { endpoint, requests } = await startScript(failure(type, 403, inAnHour()), {});
      const { client } = createClient(kind, endpoint);
      await client.send(receive());
      await client.send(receive());
      expect(requests).toHaveLength(3);
      expect(Math.abs(aheadMs(requests[0]))).toBeLessThan(10_000);
      expect(Math.abs(aheadMs(requests[1]) - HOUR_MS)).toBeLessThan(10_000);
      for (const request of requests) await expectSigned(request, KEYS);
    },
  );

  it('of a clock that is wrong, under load, costs no request', async () => {
    const { endpoint, requests } = await startScript((response, request) => {
      const refused = Math.abs(aheadMs(request) - HOUR_MS) > 300_000;
      answer(
        response,
        refused ? failure('InvalidSignatureException', 403, inAnHour()) : { headers: inAnHour() },
      );
    });
    const { client } = createClient(kind, endpoint);
    await Promise.all(Array.from({ length: 20 }, () => client.send(receive())));
    expect(requests.length).toBeGreaterThan(20);
  });

  it('of requests that fail while others do, are tried as often as they may be', async () => {
    const now = () => ({ date: new Date().toUTCString() });
    const { endpoint, requests } = await startScript((response) =>
      answer(response, failure('InternalFailure', 500, now())),
    );
    const { client } = createClient(kind, endpoint, { SQS_MAX_ATTEMPTS: 1, SQS_MAX_SOCKETS: 20 });
    await Promise.all(Array.from({ length: 20 }, () => caught(client.send(receive()))));
    expect(requests).toHaveLength(20);
  });

  it('of a clock that drifts, follows the answers', async () => {
    const { endpoint, requests } = await startScript({ headers: inAnHour() });
    const { client } = createClient(kind, endpoint);
    await client.send(receive());
    await client.send(receive());
    expect(Math.abs(aheadMs(requests[1]) - HOUR_MS)).toBeLessThan(10_000);
  });

  it('that is refused for another reason, is not tried again', async () => {
    const { endpoint, requests } = await startScript(failure('InvalidSignatureException', 403));
    const error = await caught(createClient(kind, endpoint).client.send(receive()));
    expect(error).toMatchObject({ name: 'InvalidSignatureException' });
    expect(requests).toHaveLength(1);
  });
});

const OPENSSL = 'openssl';
const openssl = spawnSync(OPENSSL, [
  ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
  ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', '-', '-out', '-'],
]);

describe.skipIf(openssl.status !== 0).each(KINDS)('%s client over TLS', (kind) => {
  const pem = String(openssl.stdout);
  const before = tls.getCACertificates('default');
  afterEach(() => tls.setDefaultCACertificates(before));

  async function startTls() {
    const server = https.createServer({ key: pem, cert: pem }, (_request, response) => answer(response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    return `https://localhost:${(server.address() as AddressInfo).port}`;
  }

  it('and a certificate of nobody known, sends nothing', async () => {
    const { client } = createClient(kind, await startTls());
    expect(await caught(client.send(receive()))).toMatchObject({
      code: 'DEPTH_ZERO_SELF_SIGNED_CERT',
      $metadata: { attempts: 1 },
    });
  });

  it('and a certificate that is trusted, is answered', async () => {
    tls.setDefaultCACertificates([...before, pem]);
    const { client } = createClient(kind, await startTls());
    expect((await client.send(receive())).$metadata.httpStatusCode).toBe(200);
  });
});

describe('both clients', () => {
  it('send the same, whatever it is', async () => {
    const { endpoint, requests } = await startScript({});
    const clients = KINDS.map((kind) => createClient(kind, endpoint).client);
    const bytes = fc.uint8Array({ maxLength: 20 });
    const attribute = fc.oneof(
      fc.record({ DataType: fc.constant('String'), StringValue: fc.string({ unit: 'binary' }) }),
      fc.record({ DataType: fc.constant('Binary'), BinaryValue: bytes }),
      fc.record({ DataType: fc.constant('Binary'), BinaryListValues: fc.array(bytes, { maxLength: 3 }) }),
      fc.record({
        DataType: fc.constant('String'),
        StringListValues: fc.array(fc.string(), { maxLength: 3 }),
      }),
    );
    const entry = fc.record(
      {
        Id: fc.stringMatching(/^[a-z0-9_-]{1,3}$/),
        MessageBody: fc.string({ unit: 'binary' }),
        DelaySeconds: fc.nat(900),
        MessageAttributes: fc.dictionary(fc.string(), attribute, { maxKeys: 4 }),
        MessageDeduplicationId: fc.string(),
      },
      { requiredKeys: ['Id', 'MessageBody'] },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 3 }), async (Entries) => {
        requests.length = 0;
        for (const client of clients) {
          await client.send(new SendMessageBatchCommand({ QueueUrl: QUEUE_URL, Entries }));
        }
        const [plain, tuned] = requests;
        expect(JSON.parse(tuned?.body ?? '')).toEqual(JSON.parse(plain?.body ?? ''));
      }),
      { numRuns: 50 },
    );
  });

  it('reject a single message that SQS took on damaged', async () => {
    const { endpoint } = await startScript({ body: { MessageId: 'm', MD5OfMessageBody: md5('another') } });
    const command = () => new SendMessageCommand({ QueueUrl: QUEUE_URL, MessageBody: 'one' });
    for (const kind of KINDS)
      await expect(createClient(kind, endpoint).client.send(command())).rejects.toThrow();
  });
});

describe('tuned client, other than the plain one,', () => {
  const message = (MessageId: string, Body: string, MD5OfBody: string | undefined) => ({
    MessageId,
    Body,
    MD5OfBody,
  });

  it('of a batch with damaged messages, answers the sound ones and logs the others', async () => {
    const { endpoint } = await startScript({
      body: {
        Messages: [
          message('a', 'one', md5('one')),
          message('b', 'two', md5('other')),
          message('c', '한국어', md5('한국어')),
          message('d', 'four', undefined),
        ],
      },
    });
    const { client, lines } = createClient('tuned', endpoint);
    const { Messages } = await client.send(receive());
    expect(Messages?.map(({ MessageId }) => MessageId)).toEqual(['a', 'c']);
    expect(lines.filter(({ level }) => level === 'WARN')).toMatchObject([{ messageIds: ['b', 'd'] }]);
    await expect(createClient('plain', endpoint).client.send(receive())).rejects.toThrow('MD5');
  });

  it('of a batch where SQS took on another body, fails that entry alone', async () => {
    const body = {
      Successful: [
        { Id: '3', MessageId: 'c' },
        { Id: '0', MessageId: 'a', MD5OfMessageBody: md5('one') },
        { Id: '1', MessageId: 'b', MD5OfMessageBody: md5('other') },
      ],
      Failed: [{ Id: '2', Code: 'InternalError', SenderFault: false }],
    };
    const { endpoint } = await startScript({ body });
    const command = () => send(['one', 'two', 'three', 'four']);
    const { Successful, Failed } = await createClient('tuned', endpoint).client.send(command());
    expect(Successful?.map(({ Id }) => Id)).toEqual(['0']);
    expect(Failed).toMatchObject([
      { Id: '2', Code: 'InternalError' },
      { Id: '3', Code: 'ChecksumMismatch', SenderFault: false },
      { Id: '1', Code: 'ChecksumMismatch', SenderFault: false },
    ]);
    await expect(createClient('plain', endpoint).client.send(command())).rejects.toThrow('MD5');
  });

  it('of an answer without end, gives up at 64 MiB', async () => {
    let sentBytes = 0;
    const { endpoint } = await startScript((response) => {
      const chunk = Buffer.alloc(1024 * 1024, ' ');
      const more = () => {
        while (!response.destroyed && sentBytes < 2 ** 30) {
          sentBytes += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', more);
        }
      };
      response.writeHead(200);
      more();
    });
    const { client } = createClient('tuned', endpoint, {
      SQS_MAX_ATTEMPTS: 1,
      SQS_REQUEST_TIMEOUT_MS: 15_000,
    });
    expect(await caught(client.send(receive()))).toMatchObject({ code: 'UND_ERR_RES_EXCEEDED_MAX_SIZE' });
    expect(sentBytes).toBeLessThan(256 * 1024 * 1024);
  });

  it('of an answer that stops on the way, gives up at the time-out', async () => {
    const { endpoint } = await startScript((response) => {
      response.writeHead(200, { 'content-length': '100' }).write('{');
    });
    const { client } = createClient('tuned', endpoint, {
      SQS_REQUEST_TIMEOUT_MS: 100,
      SQS_MAX_ATTEMPTS: 1,
    });
    expect(await caught(client.send(receive()))).toMatchObject({ name: 'TimeoutError', code: 'ETIMEDOUT' });
  });

  it('destroyed with a request under way, rejects it', async () => {
    const arrived = Promise.withResolvers<void>();
    const { endpoint, requests } = await startScript(() => arrived.resolve());
    const { client } = createClient('tuned', endpoint);
    const pending = caught(client.send(receive()));
    await arrived.promise;
    client.destroy();
    expect(await pending).toMatchObject({ code: 'UND_ERR_DESTROYED' });
    expect(requests).toHaveLength(1);
  });
});

describe.each(KINDS)('%s client on the emulator', (kind) => {
  let emulator: Emulator;
  beforeAll(async () => {
    emulator = await startEmulator({ port: 0 });
  });
  afterAll(() => emulator.stop());

  async function openQueue(attributes: Record<string, string> = {}) {
    const { client } = createClient(kind, emulator.endpoint);
    const QueueName = `${kind}-${crypto.randomUUID()}${attributes['FifoQueue'] ? '.fifo' : ''}`;
    const { QueueUrl = '' } = await client.send(
      new CreateQueueCommand({ QueueName, Attributes: attributes }),
    );
    return { client, QueueUrl };
  }

  it('sends, receives, gives back and deletes', async () => {
    const { client, QueueUrl } = await openQueue();
    const MessageAttributes = {
      text: { DataType: 'String', StringValue: '한국어' },
      number: { DataType: 'Number', StringValue: '12.5' },
      bytes: { DataType: 'Binary', BinaryValue: Uint8Array.of(0, 255, 128) },
    };
    const bodies = Array.from({ length: 10 }, (_, index) => `order ${index} 한국어 "\\\n`);
    const Entries = bodies.map((MessageBody, index) => ({ Id: `e${index}`, MessageBody, MessageAttributes }));
    const { Successful, Failed } = await client.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
    expect(Successful?.map(({ Id }) => Id)).toEqual(Entries.map(({ Id }) => Id));
    expect(Failed ?? []).toEqual([]);

    const poll = async () => {
      const { Messages = [] } = await client.send(
        new ReceiveMessageCommand({
          QueueUrl,
          MaxNumberOfMessages: 10,
          MessageAttributeNames: ['All'],
          MessageSystemAttributeNames: ['All'],
        }),
      );
      return Messages;
    };
    const entries = (messages: Message[]) =>
      messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
    const first = await poll();
    expect(first.map(({ Body }) => Body).sort()).toEqual(bodies.sort());
    for (const { MessageAttributes: received, Attributes } of first) {
      expect(received).toMatchObject(MessageAttributes);
      expect(Attributes).toMatchObject({ ApproximateReceiveCount: '1' });
    }
    expect(await poll()).toEqual([]);
    const back = await client.send(
      new ChangeMessageVisibilityBatchCommand({
        QueueUrl,
        Entries: entries(first).map((entry) => ({ ...entry, VisibilityTimeout: 0 })),
      }),
    );
    expect(back.Successful).toHaveLength(10);
    const second = await poll();
    expect(second.map(({ Attributes }) => Attributes?.ApproximateReceiveCount)).toEqual(Array(10).fill('2'));
    const deleted = await client.send(new DeleteMessageBatchCommand({ QueueUrl, Entries: entries(second) }));
    expect(deleted.Successful).toHaveLength(10);
    const { Attributes } = await client.send(
      new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ['All'] }),
    );
    expect(Attributes).toMatchObject({
      ApproximateNumberOfMessages: '0',
      ApproximateNumberOfMessagesNotVisible: '0',
    });
  });

  it('keeps the order of a FIFO queue and drops what is sent twice', async () => {
    const { client, QueueUrl } = await openQueue({ FifoQueue: 'true' });
    const Entries = ['a', 'b', 'c', 'b'].map((MessageBody, index) => ({
      Id: String(index),
      MessageBody,
      MessageGroupId: 'group',
      MessageDeduplicationId: MessageBody,
    }));
    const { Successful } = await client.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
    expect(Successful?.every(({ SequenceNumber }) => /^\d+$/.test(SequenceNumber ?? ''))).toBe(true);
    const received: (string | undefined)[] = [];
    for (let n = 0; n < 4; n++) {
      const { Messages = [] } = await client.send(
        new ReceiveMessageCommand({ QueueUrl, MessageSystemAttributeNames: ['All'] }),
      );
      for (const { Body, ReceiptHandle, Attributes } of Messages) {
        received.push(Body);
        expect(Attributes).toMatchObject({ MessageGroupId: 'group' });
        await client.send(new DeleteMessageBatchCommand({ QueueUrl, Entries: [{ Id: '0', ReceiptHandle }] }));
      }
    }
    expect(received).toEqual(['a', 'b', 'c']);
  });

  it('rejects with the error that the queue names', async () => {
    const { client, QueueUrl } = await openQueue();
    const missing = QueueUrl.replace(/[^/]+$/, 'no-such-queue');
    const batch = (ids: string[], url = QueueUrl) =>
      client.send(
        new SendMessageBatchCommand({
          QueueUrl: url,
          Entries: ids.map((Id) => ({ Id, MessageBody: 'one' })),
        }),
      );
    expect(await caught(batch(['a'], missing))).toBeInstanceOf(QueueDoesNotExist);
    expect(await caught(batch([]))).toBeInstanceOf(EmptyBatchRequest);
    expect(await caught(batch(['a', 'a']))).toBeInstanceOf(BatchEntryIdsNotDistinct);
    const eleven = Array.from({ length: 11 }, (_, index) => String(index));
    expect(await caught(batch(eleven))).toBeInstanceOf(TooManyEntriesInBatchRequest);
  });

  it('answers what failed of a batch beside what did not', async () => {
    const { client, QueueUrl } = await openQueue();
    const sending = await client.send(
      new SendMessageBatchCommand({
        QueueUrl,
        Entries: [
          { Id: 'a', MessageBody: 'one' },
          { Id: 'b', MessageBody: '\u0001' },
        ],
      }),
    );
    expect(sending.Successful).toMatchObject([{ Id: 'a' }]);
    expect(sending.Failed).toMatchObject([{ Id: 'b', Code: 'InvalidMessageContents', SenderFault: true }]);
    const Entries = [{ Id: '0', ReceiptHandle: 'nonsense', VisibilityTimeout: 0 }];
    const changing = await client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries }));
    expect(changing.Failed).toMatchObject([{ Id: '0', Code: 'ReceiptHandleIsInvalid', SenderFault: true }]);
  });
});
