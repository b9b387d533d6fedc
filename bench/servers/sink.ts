import { hash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import { messageOf, orderIds, orderOf, packedMessageOf } from '../orders.ts';
import { count, ready } from '../probe.ts';

/**
 * An SQS that never runs dry, never fails and keeps nothing: what is left is the cost of the client. Speaks the JSON
 * protocol, answers with right checksums, gives each message an id of its own, and counts what it is asked.
 * Arguments: the bytes of an order, how many orders are in a message.
 */
const [orderBytes, ordersAMessage] = [Number(process.argv[2]), Number(process.argv[3])];
/** What AWS bills as one request (https://aws.amazon.com/sqs/pricing/). */
const BILLED_BYTES = 64 * 1024;
const QUEUE_NAME = /[^/]+$/;

type Entry = { Id: string; MessageBody: string };
type Request = {
  MaxNumberOfMessages?: number;
  MessageAttributeNames?: string[];
  Entries?: Entry[];
  MessageBody?: string;
  QueueName?: string;
  QueueUrl?: string;
};

const nextId = orderIds();
const nextMessage = await messageSource();

const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

function answer(operation: string, text: string): string {
  switch (operation) {
    case 'ReceiveMessage': {
      const { MaxNumberOfMessages = 1, MessageAttributeNames = [] } = JSON.parse(text) as Request;
      const messages = Array.from({ length: MaxNumberOfMessages }, () =>
        nextMessage(MessageAttributeNames.length > 0),
      );
      return `{"Messages":[${messages.join(',')}]}`;
    }
    case 'DeleteMessageBatch': {
      const { Entries = [] } = JSON.parse(text) as Request;
      count('deleted', Entries.length * ordersAMessage);
      return JSON.stringify({ Successful: Entries.map(({ Id }) => ({ Id })), Failed: [] });
    }
    case 'DeleteMessage':
      count('deleted', ordersAMessage);
      return '{}';
    case 'SendMessageBatch': {
      const { Entries = [] } = JSON.parse(text) as Request;
      const Successful = Entries.map(({ Id, MessageBody }) => ({ Id, ...sent(MessageBody) }));
      return JSON.stringify({ Successful, Failed: [] });
    }
    case 'SendMessage':
      return JSON.stringify(sent((JSON.parse(text) as Request).MessageBody ?? ''));
    case 'ChangeMessageVisibilityBatch': {
      const { Entries = [] } = JSON.parse(text) as Request;
      return JSON.stringify({ Successful: Entries.map(({ Id }) => ({ Id })), Failed: [] });
    }
    case 'GetQueueUrl':
      return JSON.stringify({ QueueUrl: `${url()}/000000000000/${(JSON.parse(text) as Request).QueueName}` });
    case 'GetQueueAttributes': {
      const name = QUEUE_NAME.exec((JSON.parse(text) as Request).QueueUrl ?? '')?.[0];
      return JSON.stringify({ Attributes: { ...ATTRIBUTES, QueueArn: `${ARN}${name}` } });
    }
    default:
      throw new Error(`the sink knows no ${operation}`);
  }
}

const ARN = 'arn:aws:sqs:ap-northeast-2:000000000000:';
const ATTRIBUTES = {
  ApproximateNumberOfMessages: '1000',
  ApproximateNumberOfMessagesNotVisible: '0',
  ApproximateNumberOfMessagesDelayed: '0',
  VisibilityTimeout: '60',
  MessageRetentionPeriod: '345600',
  MaximumMessageSize: '1048576',
};

const MESSAGE_ID = '5fea7756-0ea4-451a-a703-a558b933e274';
function sent(body: string) {
  count('sent', unpackMessages(body).length);
  return { MessageId: MESSAGE_ID, MD5OfMessageBody: hash('md5', body) };
}

/**
 * Makes messages as JSON text. A small order's id stands in its message as it is, and is filled in each time; of
 * those that are compressed there is a stock.
 */
async function messageSource(): Promise<(withAttributes: boolean) => string> {
  const placeholder = '00000000-0000-7000-8000-000000000000';
  const template = await messageOf(orderOf(placeholder, orderBytes));
  if (ordersAMessage === 1 && template.attributes['contentEncoding'] === 'identity') {
    const [parts, escaped] = [template.body, JSON.stringify(template.body)].map((text) =>
      text.split(placeholder),
    );
    const attributes = attributesOf(template);
    return (withAttributes) => {
      const id = nextId();
      return textOf(id, parts?.join(id) ?? '', escaped?.join(id) ?? '', withAttributes ? attributes : '');
    };
  }
  const newOrder = () => orderOf(nextId(), orderBytes);
  const stock = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const message =
        ordersAMessage === 1
          ? await messageOf(newOrder())
          : await packedMessageOf(Array.from({ length: ordersAMessage }, newOrder));
      return { ...message, escaped: JSON.stringify(message.body), attributes: attributesOf(message) };
    }),
  );
  let next = 0;
  return (withAttributes) => {
    const { body, escaped, attributes } = stock[next++ % stock.length] as (typeof stock)[number];
    return textOf(nextId(), body, escaped, withAttributes ? attributes : '');
  };
}

function attributesOf({ attributes }: { attributes: Record<string, string> }): string {
  const entries = Object.entries(attributes).map(([name, value]) => [
    name,
    { DataType: 'String', StringValue: value },
  ]);
  return `,"MessageAttributes":${JSON.stringify(Object.fromEntries(entries))}`;
}

const textOf = (id: string, body: string, escaped: string, attributes: string) =>
  `{"MessageId":"${id}","ReceiptHandle":"${id}${HANDLE}","MD5OfBody":"${hash('md5', body)}","Body":${escaped},` +
  `"Attributes":{"ApproximateReceiveCount":"1","SentTimestamp":"${Date.now()}",` +
  `"ApproximateFirstReceiveTimestamp":"${Date.now()}"}${attributes}}`;
const HANDLE = 'AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a'.repeat(6);

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const operation = String(request.headers['x-amz-target']).split('.')[1] ?? '';
    const text = String(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
    const body = Buffer.from(answer(operation, text));
    count(operation);
    count('requests');
    count('billed', Math.max(1, Math.ceil(Math.max(text.length, body.length) / BILLED_BYTES)));
    response.writeHead(200, {
      'content-type': 'application/x-amz-json-1.0',
      'content-length': body.length,
      'x-amzn-requestid': MESSAGE_ID,
    });
    response.end(body);
  });
}).listen(0, '127.0.0.1');
await once(server, 'listening');
ready({ url: url() });
