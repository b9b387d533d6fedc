import { randomUUID } from 'node:crypto';
import { contentHash, type Order, orderSchema } from '@orders/shared/order/order.ts';
import { OrderRefusedError, StoreUnavailableError } from '../../domain/errors.ts';
import type { OrderRepository, OrderToStore } from '../../domain/order-repository.ts';

/** As much room as a batch takes: a disk that is full refuses it. */
const ROOM_BYTES = 65_536;
const MAX_COPIES = 32;
/** Of the order that was stored last, copies are as old, or up to so much older. */
const OLDER_MS = 3_600_000;
/** How long an answer holds: a flood of bad orders must not become a flood of trials. */
const ANSWER_HOLDS_MS = 1_000;

/**
 * Tells an order that the store refuses from a store that refuses every order (ADR 18): rehearses a save of orders that
 * nobody sent. Those are as much like real ones as can be: copies of the order that was stored last, no two of which are
 * alike in what a second unique index may ask for; where these are refused, invented orders of its customer, whom a
 * foreign key may ask for; and then of customers that are invented, too.
 */
export class SaveTrial {
  readonly #repository: Pick<OrderRepository, 'rehearse' | 'findAny'>;
  readonly #answers = new Map<string, { holdsUntil: number; answer: Promise<boolean> }>();
  #storedLast: OrderToStore | undefined;
  #running: Promise<ReadonlySet<string>> | undefined;
  #next: Promise<ReadonlySet<string>> | undefined;

  constructor(repository: Pick<OrderRepository, 'rehearse' | 'findAny'>) {
    this.#repository = repository;
  }

  /** Has later trials be like this order. */
  imitate(order: OrderToStore): void {
    this.#storedLast = order;
  }

  /**
   * Whether this refusal is the store's, and would meet any order: as of a moment ago, for what can be taken back.
   * @throws {StoreUnavailableError} an outage
   */
  refusesAll(refusal: string): Promise<boolean> {
    const now = performance.now();
    for (const [kind, { holdsUntil }] of this.#answers) if (holdsUntil <= now) this.#answers.delete(kind);
    const known = this.#answers.get(refusal);
    if (known) return known.answer;
    const answer = this.run().then((refusals) => refusals.has(refusal));
    this.#answers.set(refusal, { holdsUntil: now + ANSWER_HOLDS_MS, answer });
    return answer;
  }

  /**
   * The same, by a trial that begins after this call: for what is final. Trials run one at a time, and all who wait
   * share the next one.
   * @throws {StoreUnavailableError} an outage
   */
  async refusesAllNow(refusal: string): Promise<boolean> {
    this.#next ??= Promise.allSettled([this.#running]).then(() => {
      this.#running = this.#next;
      this.#next = undefined;
      return this.run();
    });
    return (await this.#next).has(refusal);
  }

  /**
   * Runs a trial now and returns by what refusals it was met: none when it was committed.
   * @throws {StoreUnavailableError} the store cannot work
   */
  async run(): Promise<ReadonlySet<string>> {
    const refusals = new Set<string>();
    this.#storedLast ??= await this.#findModel();
    const last = this.#storedLast;
    const ofLast = last ? [copiesOf(last), inventedOrders(last)] : [];
    for (const orders of [...ofLast, inventedOrders()]) {
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

  /** A stored order, if there is one. A store that does not even answer this is tried all the same. */
  async #findModel(): Promise<OrderToStore | undefined> {
    const found = await this.#repository.findAny().catch(() => undefined);
    // Others may write into the table, too.
    return found && orderSchema.safeParse(found.order).success ? found : undefined;
  }
}

function copiesOf({ order: original, clientId }: OrderToStore): OrderToStore[] {
  const copies = Math.floor(ROOM_BYTES / JSON.stringify(original).length);
  return Array.from({ length: Math.min(Math.max(1, copies), MAX_COPIES) }, () => {
    const createdAt = new Date(Date.parse(original.createdAt) - Math.random() * OLDER_MS).toISOString();
    return asSent({ ...original, orderId: randomUUID(), createdAt }, clientId);
  });
}

/** Valid, and no two alike but for a given customer. Below 2 kB each, so that PostgreSQL does not compress them. */
function inventedOrders(model?: OrderToStore): OrderToStore[] {
  return Array.from({ length: MAX_COPIES }, (_, index) => {
    const filler = 'x'.repeat(480);
    const invented = {
      orderId: randomUUID(),
      customerId: model?.order.customerId ?? `rehearsal-${randomUUID()}`,
      items: [{ productId: `rehearsal-${index}`, name: 'rehearsal', quantity: 1, unitPrice: 100 }],
      currency: 'USD',
      totalAmount: 100,
      createdAt: new Date(Date.now() - index).toISOString(),
      metadata: { a: filler, b: filler, c: filler },
    };
    return asSent(invented, model?.clientId);
  });
}

const asSent = (order: Order, clientId?: string): OrderToStore => ({
  order,
  clientId,
  contentHash: contentHash(order),
  traceId: randomUUID().replaceAll('-', ''),
});

function asOutage(cause: unknown): StoreUnavailableError {
  return cause instanceof StoreUnavailableError
    ? cause
    : new StoreUnavailableError('the trial of the store failed', { cause });
}
