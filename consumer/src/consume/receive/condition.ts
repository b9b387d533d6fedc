/** Something that several wait for, each with an attempt of its own that it makes anew after every notification. */
export class Condition {
  readonly #waiting = new Set<() => void>();

  /**
   * What the attempt answers, once that is not undefined; undefined when the signal is aborted. Between an attempt
   * that succeeds and those of the others nothing else runs: what it takes, it has.
   */
  async until<T>(attempt: () => T | undefined, signal: AbortSignal): Promise<T | undefined> {
    while (!signal.aborted) {
      const result = attempt();
      if (result !== undefined) return result;
      await this.#notified(signal);
    }
    return undefined;
  }

  notifyAll(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #notified(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}
