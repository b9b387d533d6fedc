import { KeyUnavailableError } from '@orders/shared/encryption/errors.ts';
import { backoffMs } from '@orders/shared/runtime/backoff.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import type { ConsumerMetrics } from '../metrics.ts';
import type { Condition } from './condition.ts';

const NAME = { breaker: 'kms' };

export type KeyGateOptions = {
  /** How long before the call that failed is made again: `min` at first, doubling, to `max`; of each between half and all. */
  shutMs: { min: number; max: number };
  /** Notified when the gate opens. */
  changed: Condition;
  logger: Logger;
  metrics: Pick<ConsumerMetrics, 'breakerState'>;
};

/**
 * The breaker between this consumer and KMS. While it is shut, nobody polls, so that an outage, however long, costs
 * messages few receives; data keys that are cached still serve. What failed is tried again, never a message: the same
 * data key, since another one may be of a key that works.
 *
 * open --a call finds KMS unavailable--> shut --time over--> the call again --answered--> open, or --fails--> shut
 */
export class KeyGate {
  readonly #options: KeyGateOptions;
  #reason: KeyUnavailableError | undefined;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: KeyGateOptions) {
    this.#options = options;
    options.metrics.breakerState.set(NAME, 0);
  }

  get open(): boolean {
    return this.#reason === undefined;
  }

  /** @throws the call's own error, or {@link KeyUnavailableError} without a call while the gate is shut */
  async pass<T>(call: () => Promise<T>): Promise<T> {
    if (this.#reason)
      throw new KeyUnavailableError('KMS was unavailable a moment ago', { cause: this.#reason });
    try {
      return await call();
    } catch (error) {
      // Of several at once, the first is the one that is tried again.
      if (error instanceof KeyUnavailableError && this.open) this.#shut(error, call);
      throw error;
    }
  }

  /** Tries no more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #shut(reason: KeyUnavailableError, call: () => Promise<unknown>): void {
    const { shutMs, logger, metrics } = this.#options;
    this.#reason = reason;
    metrics.breakerState.set(NAME, 1);
    const delayMs = backoffMs(this.#failures++, { baseMs: shutMs.min, maxMs: shutMs.max });
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#try(call), delayMs);
    logger.error({ ...NAME, err: reason, failures: this.#failures }, 'breaker opened');
  }

  async #try(call: () => Promise<unknown>): Promise<void> {
    const { changed, logger, metrics } = this.#options;
    metrics.breakerState.set(NAME, 2);
    try {
      await call();
    } catch (error) {
      // Any other answer is one.
      if (error instanceof KeyUnavailableError) return this.#shut(error, call);
    }
    this.#failures = 0;
    this.#reason = undefined;
    metrics.breakerState.set(NAME, 0);
    logger.info(NAME, 'breaker closed');
    changed.notifyAll();
  }
}
