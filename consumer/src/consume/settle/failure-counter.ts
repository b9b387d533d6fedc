import { LRUCache } from 'lru-cache';

const MAX_MESSAGES = 10_000;

/**
 * Counts the failures of messages, by message id. Receives, releases, outages and crashes are none. The count lives
 * in this process, of the last 10,000 messages: a restart, another consumer's turn, or more of them may only lower it,
 * never raise it.
 */
export class FailureCounter {
  readonly #failures = new LRUCache<string, number>({ max: MAX_MESSAGES });

  /** Counts one more and returns how many there are now. */
  add(messageId: string): number {
    const failures = this.get(messageId) + 1;
    this.#failures.set(messageId, failures);
    return failures;
  }

  get(messageId: string): number {
    return this.#failures.get(messageId) ?? 0;
  }

  forget(messageId: string): void {
    this.#failures.delete(messageId);
  }
}
