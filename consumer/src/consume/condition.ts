/** Something that several wait for, each with an attempt of its own, which is made again at every notification. */
export class Condition {
  readonly #attempts = new Set<() => void>();

  /**
   * What the attempt returns, once that is not undefined; undefined when the signal is aborted. Attempts are made one
   * after the other, in the order in which they began to wait: what one takes, the next does not find.
   */
  until<T>(attempt: () => T | undefined, signal: AbortSignal): Promise<T | undefined> {
    const first = signal.aborted ? undefined : attempt();
    if (first !== undefined || signal.aborted) return Promise.resolve(first);
    return new Promise((resolve) => {
      const tryAgain = () => {
        const result = signal.aborted ? undefined : attempt();
        if (result === undefined && !signal.aborted) return;
        this.#attempts.delete(tryAgain);
        signal.removeEventListener('abort', tryAgain);
        resolve(result);
      };
      this.#attempts.add(tryAgain);
      signal.addEventListener('abort', tryAgain);
    });
  }

  notifyAll(): void {
    for (const tryAgain of this.#attempts) tryAgain();
  }
}
