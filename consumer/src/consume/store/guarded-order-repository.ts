import { OrderNotStorableError, OrderRefusedError, StoreUnavailableError } from '../../domain/errors.ts';
import type { OrderRepository, OrderToStore, Saved } from '../../domain/order-repository.ts';
import { SWALLOWED } from '../../domain/save-results.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import type { SaveTrial } from './save-trial.ts';
import type { StoreGate } from './store-gate.ts';

/** A repository whose calls are timed. */
export function timeOrderRepository(
  repository: OrderRepository,
  metrics: Pick<ConsumerMetrics, 'storeDuration'>,
): OrderRepository {
  const timed = async <T>(operation: string, call: () => Promise<T>): Promise<T> => {
    const end = metrics.storeDuration.startTimer({ operation });
    try {
      const result = await call();
      end({ result: 'success' });
      return result;
    } catch (error) {
      end({ result: error instanceof StoreUnavailableError ? 'unavailable' : 'error' });
      throw error;
    }
  };
  return {
    saveAll: (orders) => timed('save', () => repository.saveAll(orders)),
    rehearse: (orders) => timed('rehearse', () => repository.rehearse(orders)),
    findById: (orderId, whose) => timed('find', () => repository.findById(orderId, whose)),
    findByIds: (orderIds, limits) => timed('find', () => repository.findByIds(orderIds, limits)),
    findAny: () => timed('find', () => repository.findAny()),
    findByCustomer: (customerId, page) => timed('list', () => repository.findByCustomer(customerId, page)),
    recordFates: (fates) => timed('record-fates', () => repository.recordFates(fates)),
    findFates: (orderId, whose) => timed('find-fates', () => repository.findFates(orderId, whose)),
    ping: () => timed('ping', () => repository.ping()),
    close: () => repository.close(),
  };
}

/** Summed up before they are counted, which costs more than the sum: most orders of a batch have the same currency. */
function countAmounts(metrics: Pick<ConsumerMetrics, 'amountStored'>, stored: readonly Saved[]): void {
  const amounts = new Map<string, number>();
  for (const [{ order }] of stored)
    amounts.set(order.currency, (amounts.get(order.currency) ?? 0) + order.totalAmount);
  for (const [currency, amount] of amounts) metrics.amountStored.inc({ currency }, amount);
}

/**
 * A repository that saves only while its gate lets it, and takes a refusal that would meet any order for an outage.
 * Once saving has failed, `ping` rejects until it has been shown to work again.
 */
export function guardOrderRepository(
  repository: OrderRepository,
  {
    gate,
    trial,
    metrics,
  }: { gate: StoreGate; trial: SaveTrial; metrics: Pick<ConsumerMetrics, 'ordersStored' | 'amountStored'> },
): OrderRepository {
  const save = async <O extends OrderToStore>(orders: readonly O[]) => {
    const saved = await repository.saveAll(orders).catch(async (error) => {
      // Rejected at once: an answer of a moment ago may be from before the schema changed.
      const isFinal = error instanceof OrderNotStorableError && orders.length === 1;
      if (
        error instanceof OrderRefusedError &&
        (await trial[isFinal ? 'refusesAllNow' : 'refusesAll'](error.refusal))
      )
        throw new StoreUnavailableError(`every order is refused: ${error.message}`, {
          cause: error,
          refusal: error.refusal,
        });
      throw error;
    });
    const stored = saved.filter(([, result]) => result === 'stored');
    const last = stored.at(-1);
    if (last) {
      metrics.ordersStored.inc(stored.length);
      countAmounts(metrics, stored);
      trial.imitate(last[0]);
    } else if (saved.some(([, result]) => result === 'swallowed') && (await trial.refusesAll(SWALLOWED))) {
      throw new StoreUnavailableError('every order is swallowed', { refusal: SWALLOWED });
    }
    return saved;
  };
  return {
    ...repository,
    saveAll: (orders) => gate.save(() => save(orders)),
    ping: async () => {
      const { doubt } = gate;
      if (doubt) throw new StoreUnavailableError(`not proven to be back: ${doubt.message}`, { cause: doubt });
      await repository.ping();
    },
  };
}
