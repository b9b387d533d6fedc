import { randomUUID } from 'node:crypto';
import type { OrderRequest } from '@orders/shared/order/order.ts';
import type { Context } from './context.ts';
import { DeploymentError, hasCode } from './errors.ts';
import { PORTS, type ServiceName } from './manifests.ts';
import { pause } from './pause.ts';
import type { PodHttp } from './pod-http.ts';
import { THRESHOLDS } from './thresholds.ts';

const LOOK_EVERY_MS = 250;

type Checks = Pick<Context, 'http' | 'signal'>;

/** An order that costs nothing, belongs to nobody, and says what it is: reports leave it out by `metadata.synthetic`. */
export function syntheticOrder(release: string): OrderRequest & { orderId: string } {
  return {
    orderId: randomUUID(),
    customerId: 'SYNTHETIC-CHECK',
    items: [{ productId: 'SYNTHETIC', name: 'deployment check', quantity: 1, unitPrice: 0 }],
    currency: 'USD',
    totalAmount: 0,
    createdAt: new Date().toISOString(),
    metadata: { synthetic: 'deployment-check', release },
  };
}

export const serviceTarget = (name: ServiceName) => `services/${name}:${PORTS[name]}`;

/** @throws {DeploymentError} CHECK_FAILED unless the answer is 200 and UP */
export async function checkHealth(http: PodHttp, target: string): Promise<void> {
  const { status, body } = await http.request(target, '/actuator/health/readiness');
  if (status !== 200) throw new DeploymentError('CHECK_FAILED', `${target} is not ready: ${status} ${body}`);
}

/** @returns id and seconds to the 202. @throws {DeploymentError} CHECK_FAILED for any other answer */
export async function placeSyntheticOrder(
  http: PodHttp,
  target: string,
  release: string,
): Promise<{ orderId: string; seconds: number }> {
  const order = syntheticOrder(release);
  const { status, body, durationMs } = await http.request(target, '/orders', order);
  if (status !== 202) {
    throw new DeploymentError('CHECK_FAILED', `${target} answered ${status} to a synthetic order: ${body}`);
  }
  return { orderId: order.orderId, seconds: durationMs / 1_000 };
}

/** @throws {DeploymentError} CHECK_FAILED when the consumers do not find them in time */
export async function checkStored({ http, signal }: Checks, orderIds: string[]): Promise<void> {
  const giveUpAt = performance.now() + THRESHOLDS.storedWithinSeconds * 1_000;
  const path = `/orders?orderIds=${orderIds.join(',')}`;
  for (;;) {
    const answer = await http.request(serviceTarget('order-consumer'), path).catch((error) => {
      if (!hasCode(error, 'NO_ANSWER')) throw error;
    });
    const stored = answer?.status === 200 ? JSON.parse(answer.body).orders.length : 0;
    if (stored === orderIds.length) return;
    if (performance.now() > giveUpAt) {
      throw new DeploymentError(
        'CHECK_FAILED',
        `${orderIds.length - stored} of ${orderIds.length} synthetic orders not stored after ${THRESHOLDS.storedWithinSeconds} s`,
      );
    }
    await pause(signal, LOOK_EVERY_MS);
  }
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
export async function checkProducer(checks: Checks, target: string, release: string): Promise<string> {
  await checkHealth(checks.http, target);
  const orders = [];
  for (let sent = 0; sent < PREVIEW_ORDERS; sent++) {
    orders.push(await placeSyntheticOrder(checks.http, target, release));
  }
  await checkStored(
    checks,
    orders.map(({ orderId }) => orderId),
  );
  const median = orders.map(({ seconds }) => seconds).sort((a, b) => a - b)[PREVIEW_ORDERS >> 1] ?? 0;
  if (median > THRESHOLDS.previewLatencySeconds) {
    throw new DeploymentError('CHECK_FAILED', `${target} answers in ${median.toFixed(2)} s`);
  }
  return `${PREVIEW_ORDERS} synthetic orders stored, answered in ${(median * 1_000).toFixed(0)} ms`;
}
