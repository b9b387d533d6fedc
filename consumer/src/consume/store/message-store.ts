import { STOPPING, STORE_UNAVAILABLE } from '../../domain/outcome.ts';
import type { OrderInWork } from '../../domain/store-orders.ts';
import type { MessageInWork, ReadOrder, ReceivedOrder } from '../read-messages.ts';
import type { StoreGate } from './store-gate.ts';

export type MessageStoreOptions = {
  /** The use case. Never rejects. */
  storeOrders: (orders: readonly OrderInWork[]) => Promise<void>;
  gate: StoreGate;
  /** How long a message is held in an outage before it is released. */
  holdMs: number;
};

/**
 * Stores the orders of messages. While the store is down, the messages are held for a while: a short outage, such as a
 * failover, then costs them neither a receive nor the wait for their visibility time. Each time they meet the outage,
 * half as many are tried at once: what is too much for one statement of a slow store may be stored in parts.
 */
export class MessageStore {
  readonly #options: MessageStoreOptions;

  constructor(options: MessageStoreOptions) {
    this.#options = options;
  }

  /**
   * Yields messages as soon as the outcomes in them are final, until it has yielded all.
   * @param signals `stop`: nothing is held any more; `late`: nothing is stored any more
   */
  async *storeAll(
    messages: readonly MessageInWork[],
    { stop, late }: { stop: AbortSignal; late: AbortSignal },
  ): AsyncGenerator<readonly MessageInWork[]> {
    const { gate, holdMs } = this.#options;
    const holdUntil = performance.now() + holdMs;
    let pending = messages;
    let atOnce = messages.length;
    while (pending.length > 0) {
      if (!gate.open) await gate.untilOpen(AbortSignal.any([stop, timeoutAt(holdUntil)]));
      const tried = pending.slice(0, atOnce);
      const isOver = atOnce < messages.length && performance.now() >= holdUntil;
      if (!isOver || late.aborted) await this.#store(tried, late);
      const mayHold = performance.now() < holdUntil && !stop.aborted;
      const held = mayHold ? tried.filter(isHeld) : [];
      if (held.length < tried.length)
        yield held.length === 0 ? tried : tried.filter((message) => !held.includes(message));
      pending = [...held, ...pending.slice(atOnce)];
      if (held.length > 0) atOnce = Math.ceil(atOnce / 2);
    }
  }

  async #store(messages: readonly MessageInWork[], late: AbortSignal): Promise<void> {
    const orders = messages.flatMap((message) => message.orders.filter(awaitsStore));
    if (late.aborted) for (const order of orders) order.outcome = STOPPING;
    else if (orders.length > 0) await this.#options.storeOrders(orders);
  }
}

const timeoutAt = (timeMs: number) => AbortSignal.timeout(Math.max(0, Math.ceil(timeMs - performance.now())));

/** It was read, and nothing but the store keeps it from being stored. */
const awaitsStore = (order: ReceivedOrder): order is ReadOrder =>
  order.order !== undefined && order.outcome === STORE_UNAVAILABLE;

const isHeld = ({ lease, orders }: MessageInWork): boolean => !lease.lost && orders.some(awaitsStore);
