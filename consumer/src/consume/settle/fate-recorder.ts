import type { Logger } from '@orders/shared/runtime/logger.ts';
import type { OrderFate } from '../../domain/order-fate.ts';
import type { OrderRepository } from '../../domain/order-repository.ts';
import type { ConsumerMetrics } from '../../metrics.ts';

export type FateRecorderOptions = {
  store: Pick<OrderRepository, 'recordFates'>;
  metrics: Pick<ConsumerMetrics, 'unrecordedFates'>;
  logger: Pick<Logger, 'warn'>;
};

const MAX_WAITING = 5_000;
const MAX_BATCH = 200;

/**
 * Records fates in the background, in batches, one at a time: nobody waits for it but `idle`. What the store does not
 * take is not tried again, and under a flood what does not fit into the buffer is dropped: both are counted, and
 * `dlq.sh record` makes up for them.
 */
export class FateRecorder {
  readonly #options: FateRecorderOptions;
  #waiting: OrderFate[] = [];
  #recording: Promise<void> | undefined;

  constructor(options: FateRecorderOptions) {
    this.#options = options;
  }

  record(fate: OrderFate): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#options.metrics.unrecordedFates.inc({ cause: 'buffer-full' });
      return;
    }
    this.#waiting.push(fate);
    this.#recording ??= this.#recordAll();
  }

  /** Resolves when nothing waits to be recorded. */
  async idle(): Promise<void> {
    await this.#recording;
  }

  /** What comes while a batch is recorded is in the next one. */
  async #recordAll(): Promise<void> {
    const { store, metrics, logger } = this.#options;
    while (this.#waiting.length > 0) {
      // Those of the same turn together.
      await new Promise(setImmediate);
      const batch = this.#waiting.splice(0, MAX_BATCH);
      try {
        await store.recordFates(batch);
      } catch (err) {
        metrics.unrecordedFates.inc({ cause: 'store' }, batch.length);
        logger.warn({ err, orders: batch.length }, 'what became of rejected orders is not recorded');
      }
    }
    this.#recording = undefined;
  }
}
