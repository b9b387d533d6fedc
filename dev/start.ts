import path from 'node:path';
import { loadDotenv } from '@orders/shared/dotenv.ts';
import { StartupError } from '@orders/shared/startup-error.ts';
import { PipelineSupervisor } from './pipeline.ts';

/** One press of Ctrl-C arrives twice under npm, which passes on what the terminal sends to the whole group anyway. */
const SAME_PRESS_MS = 500;
const EXAMPLE =
  '{"customerId":"C-1001","items":[{"productId":"SKU-1","name":"CD","quantity":2,"unitPrice":1499}],' +
  '"currency":"USD","totalAmount":2998,"createdAt":"2026-11-22T09:00:00Z"}';

const local = (url: string) => url.replace('127.0.0.1', 'localhost');

loadDotenv(process.env);
const startedAt = performance.now();
const pipeline = new PipelineSupervisor();
const dataDir = path.relative(process.cwd(), pipeline.dataDir) || '.';
let stoppedAt: number | undefined;
let exitStatus = 0;

async function stop(): Promise<void> {
  if (stoppedAt === undefined) {
    stoppedAt = performance.now();
    await pipeline.stop();
    console.log(`Stopped. Orders and queues are kept in ${dataDir}; npm start goes on with them.`);
    process.exit(exitStatus);
  }
  if (performance.now() - stoppedAt < SAME_PRESS_MS) return;
  exitStatus = 130;
  await pipeline.kill();
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop());

try {
  await pipeline.start();
  const { emulator, producer, consumer } = pipeline.urls;
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  console.log(
    [
      `Up in ${seconds} s: order-producer ${local(producer)} (docs at /docs), order-consumer ${local(consumer)}, SQS emulator ${emulator}`,
      `Place an order:   curl -i ${local(producer)}/orders -H 'content-type: application/json' -d '${EXAMPLE}'`,
      `Look it up:       curl '${local(consumer)}/orders?customerId=C-1001'`,
      'Real purchases:   npm run demo -- --file dev/sample-orders/cdnow-sample.txt',
      `Logs are in ${dataDir}/logs, orders and queues in ${dataDir}. Ctrl-C stops everything.`,
    ].join('\n'),
  );
} catch (error) {
  if (stoppedAt === undefined) {
    console.error(error instanceof StartupError ? error.message : error);
    process.exit(1);
  }
}
