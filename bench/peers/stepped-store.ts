import { setTimeout as sleep } from 'node:timers/promises';
import type { OrderRepository, OrderToStore } from '@orders/consumer/domain/order-repository.ts';
import { count } from '../probe.ts';

/**
 * A store that is near, then far, then near again: each for as many orders. Near it is quick, but calls beyond a few are
 * in each other's way, as those that wait for the same locks; far it is slow, and takes many at once.
 */
export const ORDERS_A_STEP = 20_000;
const STEPS = [
  { latencyMs: 5, knee: 4 },
  { latencyMs: 50, knee: 20 },
  { latencyMs: 5, knee: 4 },
];

let calls = 0;
let stored = 0;

export const steppedStore = {
  saveAll: async (orders: readonly OrderToStore[]) => {
    const step = Math.min(STEPS.length - 1, Math.floor(stored / ORDERS_A_STEP));
    const { latencyMs, knee } = STEPS[step] as (typeof STEPS)[number];
    calls++;
    await sleep(latencyMs * Math.max(1, calls / knee) ** 1.5);
    calls--;
    stored += orders.length;
    count('handled', orders.length);
    return orders.map((order) => [order, 'stored'] as const);
  },
  ping: async () => {},
} as unknown as OrderRepository;
