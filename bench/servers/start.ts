import { freePorts } from '../../dev/port-owner.ts';
import { messageOf, ORDER_BYTES, orderIds, orderOf } from '../orders.ts';
import { openRawClient } from '../peers/raw-client.ts';
import { MeasuredProcess, type ProcessOptions } from '../process.ts';

export const QUEUE_NAME = 'order-queue';
export const queueUrlOf = (endpoint: string) => `${endpoint}/000000000000/${QUEUE_NAME}`;

/** Where contestants find SQS, and who counts what it is asked, where somebody does. */
export type Backend = { endpoint: string; sink?: MeasuredProcess; stop: () => Promise<void> };

export async function startSink({
  orderBytes = ORDER_BYTES,
  ordersAMessage = 1,
} = {}): Promise<Backend & { sink: MeasuredProcess }> {
  const args = [String(orderBytes), String(ordersAMessage)];
  const sink = await MeasuredProcess.start('bench/servers/sink.ts', { args });
  return { endpoint: String(sink.details['url']), sink, stop: () => sink.stop() };
}

/** The same, further away. Stops the one behind as well. */
export async function withLatency<B extends Backend>(backend: B, ms: number): Promise<B> {
  const args = [backend.endpoint, String(ms)];
  const proxy = await MeasuredProcess.start('bench/servers/latency-proxy.ts', { args });
  const stop = async () => {
    await proxy.stop();
    await backend.stop();
  };
  return { ...backend, endpoint: String(proxy.details['url']), stop };
}

/** The embedded emulator, in memory, with so many orders waiting. */
export async function startEmulator(waiting: number): Promise<Backend> {
  const [port] = await freePorts(1);
  const endpoint = `http://127.0.0.1:${port}`;
  const emulator = await startService('dev/emulator.ts', endpoint, '/health', {
    env: { EMULATOR_PORT: String(port) },
    flags: ['--max-old-space-size=12288'],
  });
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': 'AmazonSQS.CreateQueue' },
    body: JSON.stringify({ QueueName: QUEUE_NAME, Attributes: { VisibilityTimeout: '600' } }),
  });
  if (!response.ok) throw new Error(`no queue: ${await response.text()}`);
  const { send } = openRawClient('none', endpoint, queueUrlOf(endpoint));
  const nextId = orderIds();
  const ten = () => Promise.all(Array.from({ length: 10 }, () => messageOf(orderOf(nextId()))));
  let left = waiting;
  const lane = async () => {
    while (left > 0) {
      left -= 10;
      await send((await ten()).map(({ body }) => body));
    }
  };
  await Promise.all(Array.from({ length: 5 }, lane));
  return { endpoint, stop: () => emulator.stop() };
}

/** One of this project's programs, as it is. */
export function startService(
  script: string,
  url: string,
  readyPath: string,
  options: ProcessOptions,
): Promise<MeasuredProcess> {
  const isReady = () =>
    fetch(`${url}${readyPath}`).then(
      async (response) => {
        await response.body?.cancel();
        return response.ok;
      },
      () => false,
    );
  return MeasuredProcess.start(script, { ...options, isReady });
}
