/** A message as a receive gave it away. */
type Delivered = { MessageId: string; ReceiptHandle: string };
type Entry = Readonly<Record<string, unknown>>;

/** What one message went through that may explain a second copy of it in the DLQ. */
type Explained = { disturbed: number; extra: number };

/**
 * What was delivered to which consumer, and what is still in its hands: seen from outside, on the way between them and SQS.
 * A message is in work from the answer to its receive until the consumer asks for its delete or gives it back, a request
 * about it fails (it may have been given up then), or its lease has run out.
 */
export class DeliveryLedger {
  readonly #visibilitySeconds: number;
  /** By consumer: by receipt, the message, and when its lease ends. */
  readonly #inWork = new Map<string, Map<string, { messageId: string; untilMs: number }>>();
  readonly #messageIds = new Map<string, string>();
  readonly #explained = new Map<string, Explained>();
  readonly #peaks = new Map<string, number>();
  /** Requests that sent copies, each with how often its consumer had gone on by then after it stood still. */
  readonly #sent = new Map<string, number>();
  readonly #resumptions = new Map<string, number>();
  #interruptions = 0;

  /** @param visibilitySeconds what a consumer asks for when it keeps a message; any other time gives it back */
  constructor(visibilitySeconds: number) {
    this.#visibilitySeconds = visibilitySeconds;
  }

  /** By consumer, the most messages that it had in work at once. */
  get peaks(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#peaks);
  }

  /** How many second copies of a message its own mishaps explain, and those of all. */
  explains(messageId: string): number {
    const { disturbed = 0, extra = 0 } = this.#explained.get(messageId) ?? {};
    return disturbed + extra;
  }

  /** What may have cost any message its settlement: SQS was away, a consumer died or stood still. */
  get interruptions(): number {
    return this.#interruptions;
  }

  /** A consumer died or stood still, or SQS was away. */
  interrupted(): void {
    this.#interruptions++;
  }

  /** A consumer that stood still goes on. */
  resumed(consumer: string): void {
    this.#resumptions.set(consumer, (this.#resumptions.get(consumer) ?? 0) + 1);
  }

  /** Its process ended, and has nothing in work any more. */
  ended(consumer: string): void {
    this.#inWork.delete(consumer);
  }

  delivered(consumer: string, messages: readonly Delivered[]): void {
    const now = performance.now();
    const held = this.#inWork.get(consumer) ?? new Map();
    this.#inWork.set(consumer, held);
    for (const { MessageId, ReceiptHandle } of messages) {
      // Again, under the same receipt: SQS would not do that, a network of it may.
      if (held.has(ReceiptHandle) || this.#messageIds.has(ReceiptHandle)) this.#of(MessageId).extra++;
      this.#messageIds.set(ReceiptHandle, MessageId);
      held.set(ReceiptHandle, { messageId: MessageId, untilMs: now + this.#visibilitySeconds * 1_000 });
    }
    for (const [handle, { untilMs }] of held) if (untilMs < now) held.delete(handle);
    this.#peaks.set(consumer, Math.max(this.#peaks.get(consumer) ?? 0, held.size));
  }

  /** They are invisible for a shorter time than was asked for. */
  cut(messages: readonly Delivered[]): void {
    for (const { MessageId } of messages) this.#of(MessageId).extra++;
  }

  /** A consumer asks for these deletes, or changes of visibility. */
  asked(consumer: string, operation: string, entries: readonly Entry[]): void {
    const held = this.#inWork.get(consumer);
    for (const { ReceiptHandle, VisibilityTimeout } of entries) {
      const handle = String(ReceiptHandle);
      const lease = held?.get(handle);
      const extends_ =
        operation.startsWith('ChangeMessageVisibility') && VisibilityTimeout === this.#visibilitySeconds;
      if (lease && extends_) lease.untilMs = performance.now() + this.#visibilitySeconds * 1_000;
      else held?.delete(handle);
    }
  }

  /**
   * A consumer sends copies. One that stood still meanwhile did not see the answer in time: its client repeats the request
   * before anything could ask whether the lease still lasts. The first request may arrive after the consumer was stopped,
   * the second one not before it goes on.
   */
  sent(consumer: string, entries: readonly Entry[]): void {
    const request = requestOf(consumer, entries);
    const resumptions = this.#resumptions.get(consumer) ?? 0;
    if (resumptions > (this.#sent.get(request) ?? resumptions))
      for (const id of new Set(entries.map((entry) => messageOf(entry, this.#messageIds))))
        if (id !== undefined) this.#of(id).extra++;
    this.#sent.set(request, resumptions);
  }

  /** What a consumer asked for was refused, or done without its knowing. That it repeats it is no news then. */
  disturbed(consumer: string, operation: string, entries: readonly Entry[]): void {
    this.#sent.delete(requestOf(consumer, entries));
    const held = this.#inWork.get(consumer) ?? new Map<string, { messageId: string }>();
    // What goes back to the order queue by itself does not say which packed message it was in: any of those in work.
    const messageIds = entries.some((entry) => messageOf(entry, this.#messageIds) === undefined)
      ? [...held.values()].map(({ messageId }) => messageId)
      : entries.map((entry) => messageOf(entry, this.#messageIds) as string);
    for (const messageId of new Set(messageIds)) this.#of(messageId).disturbed++;
    if (operation === 'SendMessageBatch')
      for (const [handle, { messageId }] of held) if (messageIds.includes(messageId)) held.delete(handle);
  }

  #of(messageId: string): Explained {
    const explained = this.#explained.get(messageId) ?? { disturbed: 0, extra: 0 };
    this.#explained.set(messageId, explained);
    return explained;
  }
}

const requestOf = (consumer: string, entries: readonly Entry[]) => `${consumer} ${JSON.stringify(entries)}`;

/** Of an entry with a receipt, or of a copy on its way to the DLQ, which names the message that it was. */
function messageOf(entry: Entry, messageIds: ReadonlyMap<string, string>): string | undefined {
  if (entry['ReceiptHandle'] !== undefined) return messageIds.get(String(entry['ReceiptHandle']));
  const attributes = entry['MessageAttributes'] as Record<string, { StringValue?: string }> | undefined;
  const letter = attributes?.['deadLetter']?.StringValue;
  return letter === undefined ? undefined : (JSON.parse(letter) as { messageId: string }).messageId;
}
