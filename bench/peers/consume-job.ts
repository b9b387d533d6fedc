import type { OrderRepository, OrderToStore } from '@orders/consumer/domain/order-repository.ts';
import { count } from '../probe.ts';

/** What a contestant that consumes is told. */
export type ConsumeJob = { endpoint: string; queueUrl: string; pollers: number; storeFile?: string };

export const job: ConsumeJob = JSON.parse(String(process.argv[2]));

// Loaded only where it is used: a peer's memory is its own.
const repository =
  job.storeFile === undefined
    ? undefined
    : (await import('@orders/consumer/adapters/sqlite-order-repository.ts')).openSqliteOrderRepository(
        job.storeFile,
      );
const codec = repository && (await import('@orders/shared/order/message.ts'));

/** Stores where the job says so, and counts. Only what takes orders in is there. */
export const countingStore = {
  saveAll: async (orders: readonly OrderToStore[]) => {
    const saved = repository
      ? await repository.saveAll(orders)
      : orders.map((order) => [order, 'stored'] as const);
    count('handled', orders.length);
    return saved;
  },
  ping: async () => {},
} as unknown as OrderRepository;

/** What peers do with a batch: nothing, or the same reading and the same SQL as order-consumer. */
export async function handle(messages: readonly { Body?: string | undefined }[]): Promise<void> {
  if (!codec) return count('handled', messages.length);
  const decoded = messages.map(({ Body = '' }) => codec.decodeOrderMessage(Body));
  await countingStore.saveAll(decoded.map(({ order, contentHash }) => ({ order, contentHash, traceId: '' })));
}
