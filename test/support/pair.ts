import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startConsumer } from '@orders/consumer/app.ts';
import { type ConsumerConfig, loadConsumerConfig } from '@orders/consumer/config.ts';
import { startProducer } from '@orders/producer/app.ts';
import { loadProducerConfig, type ProducerConfig } from '@orders/producer/config.ts';
import type { AppEnv, Environment } from '@orders/shared/runtime/config.ts';
import { type Logger, pino } from 'pino';
import { apiKeyHeader } from '../../dev/api-key.ts';
import { startEmulator } from '../../dev/emulator.ts';

export type LogLine = Record<string, unknown> & { level: string; message: string };

export type Pair = {
  producerUrl: string;
  consumerUrl: string;
  /** Where Prometheus's pages are, of either service; undefined if they are on its own port. */
  managementUrls: { producer: string | undefined; consumer: string | undefined };
  endpoint: string;
  /** What both services logged. */
  lines: LogLine[];
  stopProducer: () => Promise<void>;
  stopConsumer: () => Promise<void>;
  startConsumerAgain: () => Promise<void>;
  [Symbol.asyncDispose]: () => Promise<void>;
};

/**
 * Both services in this process, as their `main.ts` starts them, on free ports. By default with an emulator of their
 * own and a store in a folder of its own; `env` can name others, and with AWS_ENDPOINT_URL=aws it is AWS.
 * @param appEnv the environment that they act for once their configuration has been read: outside dev that is not
 *   accepted with backends such as these
 */
export async function startPair(env: Environment = {}, appEnv?: AppEnv): Promise<Pair> {
  const folder = await mkdtemp(path.join(tmpdir(), 'order-pair-'));
  const emulator = env['AWS_ENDPOINT_URL'] === undefined ? await startEmulator({ port: 0 }) : undefined;
  const lines: LogLine[] = [];
  const endpoint = env['AWS_ENDPOINT_URL'] ?? emulator?.endpoint ?? '';
  const common: Environment = {
    AWS_ENDPOINT_URL: endpoint,
    PRODUCER_PORT: '0',
    CONSUMER_PORT: '0',
    LOG_LEVEL: 'debug',
    LIBRARY_LOG_LEVEL: 'warn',
    SQS_WAIT_TIME_SECONDS: '1',
    DATABASE_URL: `sqlite:${path.join(folder, 'orders.db')}`,
    ...env,
  };
  const acting = appEnv ? { APP_ENV: appEnv } : {};
  const consumerConfig: ConsumerConfig = { ...loadConsumerConfig(common), ...acting };
  const fail = (error: unknown) => {
    throw error;
  };
  const logger = testLogger(lines, consumerConfig.LOG_LEVEL);
  let consumer = await startConsumer(consumerConfig, logger, 'test', fail);
  const consumerUrl = consumer.url;
  // A restart takes the port that the first start was given, as in real life.
  const consumerAgain = { ...consumerConfig, CONSUMER_PORT: Number(new URL(consumerUrl).port) };
  const producerConfig: ProducerConfig = {
    ...loadProducerConfig({ ...common, ORDER_STATUS_BASE_URL: consumerUrl }),
    ...acting,
  };
  const producer = await startProducer(producerConfig, logger, 'test');

  const stopProducer = once(() => producer.stop());
  let stopConsumer = once(() => consumer.stop());
  return {
    producerUrl: producer.url,
    consumerUrl,
    managementUrls: { producer: producer.managementUrl, consumer: consumer.managementUrl },
    endpoint,
    lines,
    stopProducer,
    stopConsumer: () => stopConsumer(),
    startConsumerAgain: async () => {
      consumer = await startConsumer(consumerAgain, logger, 'test', fail);
      stopConsumer = once(() => consumer.stop());
    },
    [Symbol.asyncDispose]: async () => {
      await stopProducer();
      await stopConsumer();
      await emulator?.stop();
      await rm(folder, { recursive: true });
    },
  };
}

function testLogger(lines: LogLine[], level: string): Logger {
  return pino(
    {
      level,
      messageKey: 'message',
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
    },
    { write: (line: string) => lines.push(JSON.parse(line)) },
  );
}

function once<T>(act: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= act();
    return result;
  };
}

/** Posts JSON and answers status, headers and body. */
export async function post(url: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { ...apiKeyHeader(), 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: JSON.parse(await response.text()) };
}

export async function getJson(url: string) {
  const response = await fetch(url, { headers: apiKeyHeader() });
  return { status: response.status, body: JSON.parse(await response.text()) };
}
