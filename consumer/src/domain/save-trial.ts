import { randomUUID } from 'node:crypto';
import { contentHash, type Order } from '@orders/shared/order.ts';
import { OrderRefusedError, StoreUnavailableError } from './errors.ts';
import type { OrderRepository, OrderToStore } from './order-repository.ts';

/** As much room as a batch takes: a disk that is full refuses it. */
const ROOM_BYTES = 65_536;
const MAX_COPIES = 32;
/** How long an answer holds: a flood of bad orders must not become a flood of trials. */
const ANSWER_HOLDS_MS = 1_000;

/**
 * Tells an order that the store refuses from a store that refuses every order (ADR 18): rehearses a save of orders that
 * nobody sent. Those are as much like real ones as can be: the order that was stored last, under new ids, and, where
 * that is refused (a second unique index would), invented ones.
 */
export class SaveTrial {
  readonly #repository: Pick<OrderRepository, 'rehearse' | 'findAny'>;
  readonly #answers = new Map<string, { holdsUntil: number; answer: Promise<boolean> }>();
  #storedLast: OrderToStore | undefined;

  constructor(repository: Pick<OrderRepository, 'rehearse' | 'findAny'>) {
    this.#repository = repository;
  }

  /** Has later trials be like this order. */
  wasStored(order: OrderToStore): void {
    this.#storedLast = order;
  }

  /** Whether this refusal is the store's, and would meet any order. @throws {StoreUnavailableError} an outage */
  meetsAny(refusal: string): Promise<boolean> {
    const now = performance.now();
    for (const [kind, { holdsUntil }] of this.#answers) if (holdsUntil <= now) this.#answers.delete(kind);
    const known = this.#answers.get(refusal);
    if (known) return known.answer;
    const answer = this.run().then((refusals) => refusals.has(refusal));
    this.#answers.set(refusal, { holdsUntil: now + ANSWER_HOLDS_MS, answer });
    return answer;
  }

  /**
   * Runs a trial now and returns by what refusals it was met: none when it was committed.
   * @throws {StoreUnavailableError} the store cannot work
   */
  async run(): Promise<ReadonlySet<string>> {
    const refusals = new Set<string>();
    // A store that does not even answer this is tried all the same.
    this.#storedLast ??= await this.#repository.findAny().catch(() => undefined);
    for (const orders of [this.#storedLast && copiesOf(this.#storedLast), inventedOrders()]) {
      if (!orders) continue;
      try {
        await this.#repository.rehearse(orders);
        return new Set();
      } catch (error) {
        if (!(error instanceof OrderRefusedError)) throw asOutage(error);
        refusals.add(error.refusal);
      }
    }
    return refusals;
  }
}

function copiesOf(original: OrderToStore): OrderToStore[] {
  const copies = Math.floor(ROOM_BYTES / JSON.stringify(original.order).length);
  return Array.from({ length: Math.min(Math.max(1, copies), MAX_COPIES) }, () => ({
    ...original,
    order: { ...original.order, orderId: randomUUID() },
  }));
}

/** Valid, and no two alike. Below 2 kB each, so that PostgreSQL does not compress them. */
function inventedOrders(): OrderToStore[] {
  return Array.from({ length: MAX_COPIES }, (_, index) => {
    const filler = 'x'.repeat(480);
    const order: Order = {
      orderId: randomUUID(),
      customerId: `rehearsal-${randomUUID()}`,
      items: [{ productId: 'rehearsal', name: 'rehearsal', quantity: 1, unitPrice: 100 }],
      currency: 'USD',
      totalAmount: 100,
      createdAt: new Date(Date.now() - index).toISOString(),
      metadata: { a: filler, b: filler, c: filler },
    };
    return { order, contentHash: contentHash(order), traceId: randomUUID().replaceAll('-', '') };
  });
}

function asOutage(cause: unknown): StoreUnavailableError {
  return cause instanceof StoreUnavailableError
    ? cause
    : new StoreUnavailableError('the trial of the store failed', { cause });
}
