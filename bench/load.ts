import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { apiKeyHeader } from '../dev/api-key.ts';

const API_KEY = apiKeyHeader();

export type Accepted = { orderId: string; acceptedAt: number };
export type LoadResult = {
  accepted: Accepted[];
  latenciesMs: number[];
  refusals: Map<number, number>;
  startedAt: number;
};
export type LoadOptions = {
  producerUrl: string;
  messages: number;
  concurrent: number;
  onProgress?: (done: number) => void;
};

/**
 * Posts so many orders of about 500 bytes over so many connections, each connection one after the other, and takes
 * the time of each answer. Raw `node:http`, since a load generator that burns the processor measures itself.
 */
export async function postOrders({
  producerUrl,
  messages,
  concurrent,
  onProgress,
}: LoadOptions): Promise<LoadResult> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: concurrent });
  const result: LoadResult = { accepted: [], latenciesMs: [], refusals: new Map(), startedAt: Date.now() };
  let next = 0;
  const connection = async () => {
    while (next++ < messages) {
      const orderId = randomUUID();
      const startedAt = performance.now();
      const status = await postOrder(producerUrl, agent, orderId);
      result.latenciesMs.push(performance.now() - startedAt);
      if (status === 202) result.accepted.push({ orderId, acceptedAt: Date.now() });
      else result.refusals.set(status, (result.refusals.get(status) ?? 0) + 1);
      onProgress?.(result.latenciesMs.length);
    }
  };
  await Promise.all(Array.from({ length: concurrent }, connection));
  agent.destroy();
  return result;
}

/** Posts one order of about 500 bytes and answers the status, or 0 when there was no answer. */
export function postOrder(producerUrl: string, agent: http.Agent, orderId: string): Promise<number> {
  return post(`${producerUrl}/orders`, agent, orderJson(orderId)).catch(() => 0);
}

function post(url: string, agent: http.Agent, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = {
      ...API_KEY,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    request.on('error', reject);
    request.end(body);
  });
}

function orderJson(orderId: string): string {
  const items = Array.from({ length: 3 }, (_, n) => ({
    productId: `SKU-${n}`,
    name: `Compact disc, volume ${n}`,
    quantity: n + 1,
    unitPrice: 1_499,
  }));
  const totalAmount = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0);
  return JSON.stringify({
    orderId,
    customerId: `C-${orderId.slice(0, 4)}`,
    items,
    currency: 'USD',
    totalAmount,
    createdAt: new Date().toISOString(),
    metadata: { channel: 'performance test', note: 'an order of about five hundred bytes' },
  });
}
