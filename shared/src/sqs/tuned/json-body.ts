import type { MessageAttributeValue, SendMessageBatchRequest } from '@aws-sdk/client-sqs';

/**
 * Bodies of the JSON protocol, with `JSON.stringify` and `JSON.parse`; the SDK walks its schema value by value. Unknown
 * fields are passed on here, not dropped.
 */
export function toJson(input: object): string {
  return holdsBinary(input) ? JSON.stringify(input, bytesAsBase64) : JSON.stringify(input);
}

/** Undefined if it is not a JSON object. An empty body is an empty answer. */
export function parseAnswer(body: Buffer): Record<string, unknown> | undefined {
  if (body.length === 0) return {};
  try {
    const answer = JSON.parse(body.toString());
    if (typeof answer !== 'object' || Array.isArray(answer)) return undefined;
    for (const { MessageAttributes } of answer.Messages ?? []) {
      if (MessageAttributes) decodeBinary(MessageAttributes);
    }
    return answer;
  } catch {
    return undefined;
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

/** Read from its owner, because a Buffer has been through its own `toJSON` by now. */
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
