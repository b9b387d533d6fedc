import { setTimeout as sleep } from 'node:timers/promises';
import type { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { readableOf } from '@orders/shared/order/encrypted-message.ts';
import { readableOrders } from '@orders/shared/order/packed-message.ts';
import { UUID } from '@orders/shared/runtime/uuid.ts';
import { apiKeyHeader } from './api-key.ts';

export type FollowOptions = {
  consumerUrl: string;
  /** Looked into when the store brings nothing new for a while. */
  deadLetterQueue: DeadLetterQueue;
  onProgress?: (settled: number) => void;
  /** Ends when for so long nothing more was settled. */
  patienceMs: number;
};

export type Followed = {
  /** When each was stored, by id. */
  stored: Map<string, Date>;
  /** Why each is in the DLQ, by id. */
  deadLettered: Map<string, string>;
  missing: string[];
};

const IDS_A_REQUEST = 100;
const LOOK_UP_TIMEOUT_MS = 10_000;
const POLL_INTERVAL_MS = 200;
const LOOK_INTO_DLQ_AFTER_MS = 3_000;
const DLQ_LOOK_LIMIT = 10_000;

/**
 * Asks the consumer which of these orders are stored. A consumer that does not answer has stored none for now; what is
 * no UUID is never stored, and asked with others it would refuse these, too.
 */
export async function findStored(
  consumerUrl: string,
  orderIds: readonly string[],
): Promise<Map<string, Date>> {
  const stored = new Map<string, Date>();
  const possible = orderIds.filter((id) => UUID.test(id));
  for (let start = 0; start < possible.length; start += IDS_A_REQUEST) {
    const ids = possible.slice(start, start + IDS_A_REQUEST);
    try {
      const response = await fetch(`${consumerUrl}/orders?orderIds=${ids.join(',')}`, {
        headers: apiKeyHeader(),
        signal: AbortSignal.timeout(LOOK_UP_TIMEOUT_MS),
      });
      if (!response.ok) continue;
      const page = (await response.json()) as { orders: { orderId: string; storedAt: string }[] };
      for (const { orderId, storedAt } of page.orders) stored.set(orderId, new Date(storedAt));
    } catch {
      break;
    }
  }
  return stored;
}

/** Waits until each of the orders is in the store or in the DLQ, or until nothing moves any more. */
export async function followOrders(orderIds: readonly string[], options: FollowOptions): Promise<Followed> {
  const { consumerUrl, deadLetterQueue, onProgress, patienceMs } = options;
  const stored = new Map<string, Date>();
  const deadLettered = new Map<string, string>();
  let open = [...new Set(orderIds)];
  let movedAt = performance.now();
  let lookedAt = movedAt;
  while (open.length > 0 && performance.now() - movedAt < patienceMs) {
    const before = open.length;
    for (const [id, at] of await findStored(consumerUrl, open)) stored.set(id, at);
    open = open.filter((id) => !stored.has(id));
    if (open.length === before && performance.now() - Math.max(movedAt, lookedAt) > LOOK_INTO_DLQ_AFTER_MS) {
      const found = await deadLetterReasons(deadLetterQueue);
      for (const id of open) if (found.has(id)) deadLettered.set(id, found.get(id) ?? '');
      open = open.filter((id) => !deadLettered.has(id));
      lookedAt = performance.now();
    }
    if (open.length < before) movedAt = performance.now();
    onProgress?.(stored.size + deadLettered.size);
    if (open.length > 0) await sleep(POLL_INTERVAL_MS);
  }
  return { stored, deadLettered, missing: open };
}

async function deadLetterReasons(deadLetterQueue: DeadLetterQueue): Promise<Map<string, string>> {
  const reasons = new Map<string, string>();
  for (const { message, deadLetter } of await deadLetterQueue.peek(DLQ_LOOK_LIMIT).catch(() => [])) {
    const ids =
      readableOf(message.body)?.orderIds ?? readableOrders(message.body).map(({ orderId }) => orderId);
    for (const orderId of ids) {
      reasons.set(orderId, deadLetter?.reason ?? 'MOVED_BY_SQS');
    }
  }
  return reasons;
}
