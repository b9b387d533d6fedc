import { Condition } from './condition.ts';

/** The places for messages in work: a poll asks SQS only for as many messages as there are free places. */
export class Places {
  readonly #total: number;
  readonly #changed = new Condition();
  #taken = 0;

  constructor(total: number) {
    this.#total = total;
  }

  /** Takes up to `most` places, as soon as there is one free. None when the signal is aborted. */
  async take(most: number, signal: AbortSignal): Promise<number> {
    const places = await this.#changed.until(() => this.#tryTake(most), signal);
    return places ?? 0;
  }

  give(places: number): void {
    this.#taken -= places;
    this.#changed.notifyAll();
  }

  #tryTake(most: number): number | undefined {
    const places = Math.min(most, this.#total - this.#taken);
    if (places === 0) return undefined;
    this.#taken += places;
    return places;
  }
}
