/** The places for messages in work: a poll asks SQS only for as many messages as there are free places. */
export class Places {
  readonly #total: number;
  readonly #waiting: (() => void)[] = [];
  #taken = 0;

  constructor(total: number) {
    this.#total = total;
  }

  /** Takes up to `most` places, as soon as there is one free. */
  async take(most: number, signal: AbortSignal): Promise<number> {
    while (this.#taken >= this.#total && !signal.aborted) await this.#change(signal);
    if (signal.aborted) return 0;
    const places = Math.min(most, this.#total - this.#taken);
    this.#taken += places;
    return places;
  }

  give(places: number): void {
    this.#taken -= places;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.push(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}
