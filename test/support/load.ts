import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { expect } from 'vitest';
import { findStored } from '../../dev/order-follower.ts';
import { eventually } from './eventually.ts';

/** What became of one request. Without a status it got no answer: its order may be stored or not. */
export type Answer = {
  orderId: string;
  status: number | undefined;
  contentType: string;
  retryAfterSeconds: number;
  /** When it ended, by the monotonic clock. */
  endedAtMs: number;
  durationMs: number;
};

export type Load = {
  answers: Answer[];
  accepted: () => string[];
  /** Resolves when so many more were accepted. */
  more: (count: number) => Promise<void>;
  /** Resolves when every request has ended. */
  stop: () => Promise<void>;
};

/** Clients that place one order after the other over connections that they keep, whatever the answers are. */
export function startLoad(producerUrl: string, { clients = 4, pauseMs = 100 } = {}): Load {
  const answers: Answer[] = [];
  const stop = new AbortController();
  const accepted = () => answers.filter(({ status }) => status === 202).map(({ orderId }) => orderId);
  const client = async () => {
    while (!stop.signal.aborted) {
      answers.push(await placeOrder(producerUrl));
      await sleep(pauseMs, undefined, { signal: stop.signal }).catch(() => {});
    }
  };
  const running = Promise.all(Array.from({ length: clients }, client));
  return {
    answers,
    accepted,
    more: async (count) => {
      const goal = accepted().length + count;
      await eventually(() => expect(accepted().length).toBeGreaterThanOrEqual(goal));
    },
    stop: async () => {
      stop.abort();
      await running;
    },
  };
}

async function placeOrder(producerUrl: string): Promise<Answer> {
  const orderId = randomUUID();
  const startedAtMs = performance.now();
  const response = await fetch(`${producerUrl}/orders`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(anOrderRequest({ orderId })),
  }).catch(() => undefined);
  await response?.arrayBuffer().catch(() => {});
  const endedAtMs = performance.now();
  return {
    orderId,
    status: response?.status,
    contentType: response?.headers.get('content-type') ?? '',
    retryAfterSeconds: Number(response?.headers.get('retry-after')),
    endedAtMs,
    durationMs: endedAtMs - startedAtMs,
  };
}

export async function allStored(
  consumerUrl: string,
  orderIds: readonly string[],
  timeoutMs = 60_000,
): Promise<void> {
  let missing = orderIds;
  await eventually(async () => {
    const stored = await findStored(consumerUrl, missing);
    missing = missing.filter((id) => !stored.has(id));
    expect(missing).toEqual([]);
  }, timeoutMs);
}
