import path from 'node:path';
import { defineCommand, runCommand } from '../scripts/command.ts';
import { PipelineSupervisor } from './pipeline.ts';

/** One press of Ctrl-C arrives twice under npm, which passes on what the terminal sends to the whole group anyway. */
const SAME_PRESS_MS = 500;
const EXAMPLE =
  '{"customerId":"C-1001","items":[{"productId":"SKU-1","name":"CD","quantity":2,"unitPrice":1499}],' +
  '"currency":"USD","totalAmount":2998,"createdAt":"2026-11-22T09:00:00Z"}';

const local = (url: string) => url.replace('127.0.0.1', 'localhost');

export const command = defineCommand({
  name: 'npm start',
  summary:
    'Starts an SQS emulator and both services, and restarts each of them if it dies. Ctrl-C stops them; a second Ctrl-C stops them at once.',
  positionals: {},
  options: {},
  changes: 'keeps orders, queues and logs in .data (DATA_DIR).',
  needs:
    'nothing. EMULATOR_PORT, PRODUCER_PORT and CONSUMER_PORT choose other ports; both services get the rest of the environment.',
  exitStatuses: {
    0: 'stopped',
    1: 'could not start, with the reason; or .data was deleted while it ran',
    130: 'ended by a second Ctrl-C',
  },
});

if (import.meta.main) {
  await runCommand(command, main);
  process.exit();
}

async function main(): Promise<number> {
  const startedAt = performance.now();
  const pipeline = new PipelineSupervisor({
    onEvent: ({ type }) => {
      if (type !== 'data gone') return;
      exitStatus = 1;
      void stop();
    },
  });
  const dataDir = path.relative(process.cwd(), pipeline.dataDir) || '.';
  const stopped = Promise.withResolvers<number>();
  let stoppedAt: number | undefined;
  let exitStatus = 0;

  async function stop(): Promise<void> {
    if (stoppedAt === undefined) {
      stoppedAt = performance.now();
      await pipeline.stop();
      if (exitStatus !== 1)
        console.log(`Stopped. Orders and queues are kept in ${dataDir}; npm start goes on with them.`);
      stopped.resolve(exitStatus);
    }
    if (performance.now() - stoppedAt < SAME_PRESS_MS) return;
    exitStatus = 130;
    await pipeline.kill();
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop());

  try {
    await pipeline.start();
  } catch (error) {
    if (stoppedAt === undefined) throw error;
    return stopped.promise;
  }
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
  return stopped.promise;
}
