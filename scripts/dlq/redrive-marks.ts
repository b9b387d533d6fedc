import type { DeadLetteredMessage } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { rejectionsIn } from '@orders/consumer/dlq/diagnosis.ts';
import type { OrderFate } from '@orders/consumer/domain/order-fate.ts';
import type { OrderRepository } from '@orders/consumer/domain/order-repository.ts';
import type { AppEnv } from '@orders/shared/runtime/config.ts';
import { isStoreKnown, openStore } from '../store-url.ts';

/** Records that orders are on their way again. The redrive goes on without it: it may have rights for SQS only. */
export class RedriveMarks {
  #store: OrderRepository | undefined;
  #unrecorded = 0;

  async open(environment: AppEnv): Promise<void> {
    if (!isStoreKnown(environment, process.env)) return;
    this.#store = await openStore(environment, process.env).catch(() => undefined);
  }

  async record(letter: DeadLetteredMessage): Promise<void> {
    const marks = redriveMarks(letter);
    const recorded = this.#store?.recordFates(marks);
    await (recorded ?? Promise.reject()).catch(async () => {
      this.#unrecorded += marks.filter(({ kind }) => kind === 'REDRIVEN').length;
      // One that hangs must not hold up what is left.
      await this.#close();
    });
  }

  async #close(): Promise<void> {
    await this.#store?.close().catch(() => {});
    this.#store = undefined;
  }

  async close(): Promise<void> {
    await this.#close();
    if (this.#unrecorded > 0)
      console.log(
        `of ${this.#unrecorded} orders the store does not know that they were moved: it was not named (DATABASE_URL), or did not answer`,
      );
  }
}

/** That the orders of a dead letter are on their way again; with the rejection, where the consumer could not record it. */
export function redriveMarks(letter: DeadLetteredMessage): OrderFate[] {
  const rejections = rejectionsIn(letter);
  const at = new Date();
  return [...rejections, ...rejections.map((fate): OrderFate => ({ ...fate, kind: 'REDRIVEN', at }))];
}
