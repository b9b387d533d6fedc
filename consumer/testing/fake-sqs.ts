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
  /** Whether a message that is not deleted within its visibility time is delivered again. */
  redelivers = false;
  /** When each received message is delivered again, by its handle. */
  readonly #invisible = new Map<string, { message: Message; timer: NodeJS.Timeout }>();
  /** Of the server, for what it stamps; set, its answers have a `Date`. */
  clock: (() => number) | undefined;
  #wake: (() => void)[] = [];

  readonly client = {
    send: async (command: { constructor: { name: string }; input: Call['input'] }) => {
      const call = { operation: command.constructor.name.replace(/Command$/, ''), input: command.input };
      this.calls.push(call);
      const answer = (await this.intercept(call)) ?? (await this.#answer(call));
      await this.client.config.requestHandler.handle({} as never);
      return answer;
    },
    // Where the SDK has the answer's headers.
    config: { requestHandler: { handle: async () => ({ response: { headers: this.#headers() } }) } },
    destroy: () => {},
  } as unknown as SQSClient;

  /** Puts a message on the queue as SQS would deliver it. */
  put(body: string, overrides: Partial<Message> = {}): Message {
    const id = randomUUID();
    const now = String(this.clock?.() ?? Date.now());
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
        return { Messages: this.#deliver(input) };
      case 'SendMessageBatch':
        for (const entry of input.Entries ?? []) {
          if (input.QueueUrl === 'dlq') this.deadLetters.push(entry);
          else if (this.deliversWhatIsSent) this.put(entry.MessageBody ?? '');
        }
        return { Successful };
      case 'DeleteMessageBatch':
        for (const { ReceiptHandle = '' } of input.Entries ?? []) this.#reveal(ReceiptHandle, undefined);
        return { Successful };
      case 'ChangeMessageVisibilityBatch':
        for (const { ReceiptHandle = '', VisibilityTimeout } of input.Entries ?? [])
          this.#reveal(ReceiptHandle, VisibilityTimeout);
        return { Successful };
      default:
        throw new QueueDoesNotExist({ message: `the fake knows no ${operation}`, $metadata: {} });
    }
  }

  #deliver({ MaxNumberOfMessages, VisibilityTimeout }: Call['input']): Message[] {
    const messages = this.waiting.splice(0, Number(MaxNumberOfMessages));
    if (this.redelivers)
      for (const message of messages)
        this.#hide(message, message.ReceiptHandle ?? '', Number(VisibilityTimeout));
    return messages;
  }

  #hide(message: Message, handle: string, seconds: number): void {
    const timer = setTimeout(() => {
      this.#invisible.delete(handle);
      const receives = Number(message.Attributes?.ApproximateReceiveCount) + 1;
      this.put(message.Body ?? '', {
        ...message,
        ReceiptHandle: `${handle}'`,
        Attributes: { ...message.Attributes, ApproximateReceiveCount: String(receives) },
      });
    }, seconds * 1_000);
    this.#invisible.set(handle, { message, timer });
  }

  /** Sets anew when the message is delivered again; `undefined`: never. A stale handle changes nothing. */
  #reveal(handle: string, seconds: number | undefined): void {
    const { message, timer } = this.#invisible.get(handle) ?? {};
    clearTimeout(timer);
    this.#invisible.delete(handle);
    if (message && seconds !== undefined) this.#hide(message, handle, seconds);
  }

  /** Received and neither deleted nor visible again. */
  get invisible(): number {
    return this.#invisible.size;
  }

  #headers(): Record<string, string> {
    return this.clock ? { date: new Date(this.clock()).toUTCString() } : {};
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
