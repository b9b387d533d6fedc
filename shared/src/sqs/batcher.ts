export type BatcherOptions<T, R> = {
  /** Carries out a batch. Returns one result per item, in order; a rejection applies to every item. */
  execute: (items: T[]) => Promise<(R | Error)[]>;
  maxEntries: number;
  /** Upper bound of the sum of `sizeOf`; by default none. */
  maxBytes?: number;
  sizeOf?: (item: T) => number;
  /** Batches under way at once. */
  maxInFlight: number;
  /** How long an item waits for others while a batch is under way. When none is, nothing waits. */
  lingerMs: number;
};

type Waiting<T, R> = { item: T; sizeBytes: number; answer: (result: R | Error) => void };

/**
 * Coalesces single items of concurrent callers into batches, as Nagle's algorithm does with bytes: at once when
 * nothing is under way, else when a batch is full or has waited for `lingerMs`. Each caller gets the result of its
 * own item. An item larger than `maxBytes` is sent alone; callers must refuse it if they have to.
 */
export class Batcher<T, R> {
  readonly #options: BatcherOptions<T, R>;
  readonly #waiting: Waiting<T, R>[] = [];
  readonly #idle: (() => void)[] = [];
  #inFlight = 0;
  #itemsInFlight = 0;
  #scheduled = false;
  #lingerTimer: NodeJS.Timeout | undefined;

  constructor(options: BatcherOptions<T, R>) {
    this.#options = options;
  }

  /** Items waiting or under way. */
  get size(): number {
    return this.#waiting.length + this.#itemsInFlight;
  }

  /** Resolves with the item's own result or rejects with its own error. */
  add(item: T): Promise<R> {
    return new Promise((resolve, reject) => {
      this.#enqueue(item, (result) => (result instanceof Error ? reject(result) : resolve(result)));
    });
  }

  /** Resolves with the result of each, in order, when all have one. Never rejects. */
  addAll(items: readonly T[]): Promise<(R | Error)[]> {
    return new Promise((resolve) => {
      const results = new Array<R | Error>(items.length);
      let open = items.length;
      if (open === 0) resolve([]);
      for (const [index, item] of items.entries()) {
        this.#enqueue(item, (result) => {
          results[index] = result;
          if (--open === 0) resolve(results);
        });
      }
    });
  }

  #enqueue(item: T, answer: Waiting<T, R>['answer']): void {
    this.#waiting.push({ item, sizeBytes: this.#options.sizeOf?.(item) ?? 0, answer });
    if (this.#scheduled) return;
    // The rest of this turn of the event loop may bring more items for the same batch.
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#dispatch(false);
    });
  }

  /** Resolves when nothing waits and nothing is under way. */
  async idle(): Promise<void> {
    if (this.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #dispatch(lingered: boolean): void {
    let due = lingered;
    while (this.#waiting.length > 0 && this.#inFlight < this.#options.maxInFlight) {
      const batch = this.#nextBatch();
      const full = batch.length >= this.#options.maxEntries || batch.length < this.#waiting.length;
      if (!full && !due && this.#inFlight > 0) break;
      if (!full) due = false;
      this.#waiting.splice(0, batch.length);
      void this.#run(batch);
    }
    this.#armLinger();
  }

  #nextBatch(): Waiting<T, R>[] {
    const { maxEntries, maxBytes = Number.POSITIVE_INFINITY } = this.#options;
    let bytes = 0;
    let count = 0;
    for (const { sizeBytes } of this.#waiting) {
      bytes += sizeBytes;
      if (count === maxEntries || (count > 0 && bytes > maxBytes)) break;
      count++;
    }
    return this.#waiting.slice(0, count);
  }

  #armLinger(): void {
    if (this.#waiting.length === 0) {
      clearTimeout(this.#lingerTimer);
      this.#lingerTimer = undefined;
      return;
    }
    this.#lingerTimer ??= setTimeout(() => {
      this.#lingerTimer = undefined;
      this.#dispatch(true);
    }, this.#options.lingerMs);
  }

  async #run(batch: Waiting<T, R>[]): Promise<void> {
    this.#inFlight++;
    this.#itemsInFlight += batch.length;
    const results = await this.#execute(batch.map(({ item }) => item));
    this.#inFlight--;
    this.#itemsInFlight -= batch.length;
    for (const [index, { answer }] of batch.entries())
      answer(results instanceof Error ? results : (results[index] as R | Error));
    this.#dispatch(false);
    if (this.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #execute(items: T[]): Promise<(R | Error)[] | Error> {
    try {
      return await this.#options.execute(items);
    } catch (error) {
      return error instanceof Error ? error : new Error('batch failed', { cause: error });
    }
  }
}
