import type { MessageAttributeValue, SendMessageBatchRequest } from '@aws-sdk/client-sqs';
import { AwsJson1_0Protocol } from '@aws-sdk/core/protocols';

type Serialize = Parameters<AwsJson1_0Protocol['serializeRequest']>;
type Deserialize = Parameters<AwsJson1_0Protocol['deserializeResponse']>;
type Endpoint = Parameters<AwsJson1_0Protocol['updateServiceEndpoint']>[1];

const HOT = new Set([
  'SendMessageBatch',
  'ReceiveMessage',
  'DeleteMessageBatch',
  'ChangeMessageVisibilityBatch',
]);

/**
 * The operations that carry the load by `JSON.stringify` and `JSON.parse`; the rest, and every error, by the SDK,
 * which walks its schema value by value. What the SDK does not know is passed on here, and not dropped.
 */
export class FastJsonProtocol extends AwsJson1_0Protocol {
  override async serializeRequest<I extends object>(schema: Serialize[0], input: I, context: Serialize[2]) {
    if (!HOT.has(schema.name)) return super.serializeRequest(schema, input, context);
    const { endpointV2 } = context as { endpointV2?: Endpoint };
    const request = new (this.getRequestType())({ method: 'POST' });
    this.updateServiceEndpoint(request, endpointV2 ?? (await context.endpoint()));
    if (!request.path.endsWith('/')) request.path += '/';
    request.headers['content-type'] = 'application/x-amz-json-1.0';
    request.headers['x-amz-target'] = `${this.serviceTarget}.${schema.name}`;
    request.headers['x-amzn-query-mode'] = 'true'; // SQS then adds the older error code, which the SDK reads
    request.body = Buffer.from(
      holdsBinary(input) ? JSON.stringify(input, bytesAsBase64) : JSON.stringify(input),
    );
    return request;
  }

  override async deserializeResponse<O extends { $metadata: object }>(
    schema: Deserialize[0],
    context: Deserialize[1],
    response: Deserialize[2],
  ): Promise<O> {
    if (!HOT.has(schema.name) || this.isErrorResponse(response.statusCode)) {
      return super.deserializeResponse(schema, context, response);
    }
    const text = String(response.body);
    const answer = text === '' ? {} : JSON.parse(text);
    for (const { MessageAttributes } of answer.Messages ?? []) {
      if (MessageAttributes) decodeBinary(MessageAttributes);
    }
    answer.$metadata = this.deserializeMetadata(response);
    return answer;
  }
}

function holdsBinary({ Entries }: Partial<SendMessageBatchRequest>): boolean {
  return (
    Entries?.some(
      ({ MessageAttributes, MessageSystemAttributes }) =>
        (MessageAttributes && Object.values(MessageAttributes).some(isBinary)) ||
        (MessageSystemAttributes && Object.values(MessageSystemAttributes).some(isBinary)),
    ) ?? false
  );
}

const isBinary = ({ BinaryValue, BinaryListValues }: MessageAttributeValue) =>
  BinaryValue !== undefined || BinaryListValues !== undefined;

/** From its owner, since a Buffer has been through its own `toJSON` by now. */
function bytesAsBase64(this: Record<string, unknown>, key: string, value: unknown): unknown {
  const bytes = this[key];
  return bytes instanceof Uint8Array ? Buffer.from(bytes).toString('base64') : value;
}

type Binary = { BinaryValue?: unknown; BinaryListValues?: unknown };

function decodeBinary(attributes: Record<string, Binary>): void {
  for (const value of Object.values(attributes)) {
    if (value.BinaryValue) value.BinaryValue = fromBase64(value.BinaryValue);
    if (value.BinaryListValues)
      value.BinaryListValues = (value.BinaryListValues as unknown[]).map(fromBase64);
  }
}

const fromBase64 = (text: unknown) => Uint8Array.from(Buffer.from(String(text), 'base64'));
