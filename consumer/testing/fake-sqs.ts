import { randomUUID } from 'node:crypto';
import type { Message, MessageAttributeValue, SQSClient } from '@aws-sdk/client-sqs';
import { QueueDoesNotExist } from '@aws-sdk/client-sqs';

type Entry = {
  Id: string;
  ReceiptHandle?: string;
  VisibilityTimeout?: number;
  MessageBody?: string;
  MessageAttributes?: Record<string, MessageAttributeValue>;
};
export type Call = {
  operation: string;
  input: Record<string, unknown> & { Entries?: Entry[]; QueueUrl?: string };
};

/**
 * A queue and its DLQ in memory, behind the `send` of the SDK's client: every call is recorded, and a test can have
 * any call fail, hang or answer otherwise.
 */
export class FakeSqs {
  readonly calls: Call[] = [];
  readonly waiting: Message[] = [];
  readonly deadLetters: Entry[] = [];
  /** Asked first; what it answers is the answer. */
  intercept: (call: Call) => unknown = () => undefined;
  /** Whether messages that are sent to the queue are delivered. */
  deliversWhatIsSent = false;
  #wake: (() => void)[] = [];

  readonly client = {
    send: async (command: { constructor: { name: string }; input: Call['input'] }) => {
      const call = { operation: command.constructor.name.replace(/Command$/, ''), input: command.input };
      this.calls.push(call);
      return (await this.intercept(call)) ?? this.#answer(call);
    },
    destroy: () => {},
  } as unknown as SQSClient;

  /** Puts a message on the queue as SQS would deliver it. */
  put(body: string, overrides: Partial<Message> = {}): Message {
    const id = randomUUID();
    const now = String(Date.now());
    const message: Message = {
      MessageId: id,
      ReceiptHandle: `handle-${id}`,
      Body: body,
      Attributes: { ApproximateReceiveCount: '1', SentTimestamp: now, ApproximateFirstReceiveTimestamp: now },
      ...overrides,
    };
    this.waiting.push(message);
    for (const wake of this.#wake.splice(0)) wake();
    return message;
  }

  /** The entries of all batch calls of one operation, in order. */
  entries(operation: string): Entry[] {
    return this.calls
      .filter((call) => call.operation === operation)
      .flatMap(({ input }) => input.Entries ?? []);
  }

  deletedHandles(): (string | undefined)[] {
    return this.entries('DeleteMessageBatch').map(({ ReceiptHandle }) => ReceiptHandle);
  }

  async #answer({ operation, input }: Call): Promise<unknown> {
    const Successful = (input.Entries ?? []).map(({ Id }) => ({ Id, MessageId: randomUUID() }));
    switch (operation) {
      case 'ReceiveMessage':
        if (this.waiting.length === 0) await this.#arrival(Number(input['WaitTimeSeconds'] ?? 0) * 1_000);
        return { Messages: this.waiting.splice(0, Number(input['MaxNumberOfMessages'])) };
      case 'SendMessageBatch':
        for (const entry of input.Entries ?? []) {
          if (input.QueueUrl === 'dlq') this.deadLetters.push(entry);
          else if (this.deliversWhatIsSent) this.put(entry.MessageBody ?? '');
        }
        return { Successful };
      case 'DeleteMessageBatch':
      case 'ChangeMessageVisibilityBatch':
        return { Successful };
      default:
        throw new QueueDoesNotExist({ message: `the fake knows no ${operation}`, $metadata: {} });
    }
  }

  #arrival(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
