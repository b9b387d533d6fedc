import { type CircuitBreaker, isBreakerOpen } from '@orders/shared/circuit-breaker.ts';
import { StoreUnavailableError } from '../domain/errors.ts';
import type { OrderRepository } from '../domain/order-repository.ts';
import type { ConsumerMetrics } from '../metrics.ts';

/** A repository that is not asked to save while its breaker is open, and whose calls are counted and timed. */
export function guardOrderRepository(
  repository: OrderRepository,
  breaker: CircuitBreaker,
  metrics: Pick<ConsumerMetrics, 'storeDuration' | 'ordersStored'>,
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
    saveAll: async (orders) => {
      try {
        const results = await breaker.execute(() => timed('save', () => repository.saveAll(orders)));
        metrics.ordersStored.inc(results.filter((result) => result === 'stored').length);
        return results;
      } catch (cause) {
        throw isBreakerOpen(cause)
          ? new StoreUnavailableError('the store was down a moment ago', { cause })
          : cause;
      }
    },
    findById: (orderId) => timed('find', () => repository.findById(orderId)),
    findByIds: (orderIds) => timed('find', () => repository.findByIds(orderIds)),
    findByCustomer: (customerId, page) => timed('list', () => repository.findByCustomer(customerId, page)),
    ping: () => timed('ping', () => repository.ping()),
    close: () => repository.close(),
  };
}
