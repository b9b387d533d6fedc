import type { OrderRepository, OrderToStore } from '@orders/consumer/domain/order-repository.ts';
import { count } from '../probe.ts';

/** What a contestant that consumes is told. */
export type ConsumeJob = {
  endpoint: string;
  queueUrl: string;
  pollers: number;
  /** As `DATABASE_URL`; without it nothing is stored. */
  database?: string;
};

export const job: ConsumeJob = JSON.parse(String(process.argv[2]));
const inPostgres = job.database?.startsWith('postgres:') === true;

/** Of what order-consumer has by default. */
const CONNECTIONS = 10;
const TIMEOUT_MS = 5_000;

// Loaded only where it is used: a peer's memory is its own.
const codec = job.database && (await import('@orders/shared/order/message.ts'));

async function openRepository(database: string): Promise<OrderRepository> {
  const { openOrderRepository } = await import('@orders/consumer/adapters/open-order-repository.ts');
  return openOrderRepository(database, {
    poolSize: CONNECTIONS,
    connectTimeoutMs: TIMEOUT_MS,
    statementTimeoutMs: TIMEOUT_MS,
  });
}

let repository: Promise<OrderRepository> | undefined;

/** Stores where the job says so, and counts. Only what takes orders in is there. */
export const countingStore = {
  saveAll: async (orders: readonly OrderToStore[]) => {
    if (job.database !== undefined) repository ??= openRepository(job.database);
    const saved = repository
      ? await (await repository).saveAll(orders)
      : orders.map((order) => [order, 'stored'] as const);
    count('handled', orders.length);
    return saved;
  },
  ping: async () => {},
} as unknown as OrderRepository;

/** What peers store with: the embedded store as order-consumer does, PostgreSQL by one plain statement for each batch. */
const save = inPostgres
  ? (await import('./plain-postgres.ts')).saverOf(String(job.database), CONNECTIONS)
  : countingStore.saveAll;

/** What peers do with a batch: nothing, or the same reading and the same SQL as order-consumer. */
export async function handle(messages: readonly { Body?: string | undefined }[]): Promise<void> {
  if (!codec) return count('handled', messages.length);
  const decoded = messages.map(({ Body = '' }) => codec.decodeOrderMessage(Body));
  await save(decoded.map(({ order, contentHash }) => ({ order, contentHash, traceId: '' })));
}
