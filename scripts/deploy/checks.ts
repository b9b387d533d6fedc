import { randomUUID } from 'node:crypto';
import type { OrderRequest } from '@orders/shared/order/order.ts';
import type { Session } from './context.ts';
import { DeploymentError, hasCode } from './errors.ts';
import { PREVIEW_LATENCY_SECONDS, STORED_WITHIN_SECONDS } from './limits.ts';
import { PORTS, type ServiceName } from './manifests.ts';
import { pause, within } from './pause.ts';
import type { PodHttp } from './pod-http.ts';

const LOOK_EVERY_MS = 250;

type Checks = Pick<Session, 'http' | 'signal'>;

/** An order that costs nothing, belongs to nobody, and says what it is: reports leave it out by `metadata.synthetic`. */
const syntheticOrder = (): OrderRequest & { orderId: string } => ({
  orderId: randomUUID(),
  customerId: 'SYNTHETIC-CHECK',
  items: [{ productId: 'SYNTHETIC', name: 'deployment check', quantity: 1, unitPrice: 0 }],
  currency: 'USD',
  totalAmount: 0,
  createdAt: new Date().toISOString(),
  metadata: { synthetic: 'deployment-check' },
});

export const serviceTarget = (name: ServiceName) => `services/${name}:${PORTS[name]}`;

/** @throws {DeploymentError} CHECK_FAILED unless the answer is 200 and UP */
export async function checkHealth(http: PodHttp, target: string): Promise<void> {
  const { status, body } = await http.request(target, '/actuator/health/readiness');
  if (status !== 200) throw failed(`${target} is not ready: ${status} ${body}`);
}

/** @returns id and seconds to the 202. @throws {DeploymentError} CHECK_FAILED for any other answer */
export async function placeSyntheticOrder(
  http: PodHttp,
  target: string,
): Promise<{ orderId: string; seconds: number }> {
  const order = syntheticOrder();
  const { status, body, durationMs } = await http.request(target, '/orders', order);
  if (status !== 202) throw failed(`${target} answered ${status} to a synthetic order: ${body}`);
  return { orderId: order.orderId, seconds: durationMs / 1_000 };
}

/** @throws {DeploymentError} CHECK_FAILED when the consumers do not find them in time */
export async function checkStored({ http, signal }: Checks, orderIds: string[]): Promise<void> {
  const path = `/orders?orderIds=${orderIds.join(',')}`;
  let stored = 0;
  const all = await within(signal, STORED_WITHIN_SECONDS, LOOK_EVERY_MS, async () => {
    const answer = await http.request(serviceTarget('order-consumer'), path).catch((error) => {
      if (!hasCode(error, 'NO_ANSWER')) throw error;
    });
    stored = answer?.status === 200 ? JSON.parse(answer.body).orders.length : 0;
    return stored === orderIds.length || undefined;
  });
  if (all) return;
  const missing = `${orderIds.length - stored} of ${orderIds.length} synthetic orders`;
  throw failed(`${missing} not stored after ${STORED_WITHIN_SECONDS} s`);
}

const TRIES = 3;
const TRY_AGAIN_MS = 2_000;

/** Of what serves already, a single refusal or a lost answer is no verdict. */
export async function persistently<T>(signal: AbortSignal, check: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await check();
    } catch (error) {
      if (tries === TRIES || !hasCode(error, 'CHECK_FAILED', 'NO_ANSWER')) throw error;
      await pause(signal, TRY_AGAIN_MS);
    }
  }
}

const PREVIEW_ORDERS = 5;

/** Health, orders that get through to the store, and how long their answers took. */
export async function checkProducer(checks: Checks, target: string): Promise<string> {
  await checkHealth(checks.http, target);
  const orders = [];
  for (let sent = 0; sent < PREVIEW_ORDERS; sent++)
    orders.push(await placeSyntheticOrder(checks.http, target));
  const ids = orders.map(({ orderId }) => orderId);
  await checkStored(checks, ids);
  const median = orders.map(({ seconds }) => seconds).sort((a, b) => a - b)[PREVIEW_ORDERS >> 1] ?? 0;
  if (median > PREVIEW_LATENCY_SECONDS) throw failed(`${target} answers in ${median.toFixed(2)} s`);
  return `${PREVIEW_ORDERS} synthetic orders stored, answered in ${(median * 1_000).toFixed(0)} ms`;
}

const failed = (message: string) => new DeploymentError('CHECK_FAILED', message);
