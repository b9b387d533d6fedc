import { withoutCredentials } from '@orders/shared/runtime/without-credentials.ts';
import { queueAttributes } from '@orders/shared/sqs/queue-admin.ts';
import { defineCommand, runCommand, type ValuesOf } from './command.ts';
import { askInstance, askPage, INSTANCES_NEED, type Instance, openInstances } from './instances.ts';
import {
  createTool,
  environment,
  FIND_QUEUES,
  findQueues,
  rightsText,
  SQS_VARIABLES,
  type SqsRights,
} from './sqs-tool.ts';

const RIGHTS = {
  'all of it': { both: [...FIND_QUEUES, 'GetQueueAttributes'] },
} as const satisfies Record<string, SqsRights>;

export const command = defineCommand({
  name: 'scripts/diagnose.sh',
  summary:
    'Prints one bundle, as JSON, for whoever is called next: health, versions, metrics, pauses and log levels of all instances, and the attributes of both queues. What does not answer is in it as what it said. Credentials in texts are left out, and nothing of an order is in it.',
  positionals: {
    environment: { schema: environment, description: 'in dev what npm start runs, elsewhere the namespace' },
  },
  options: {},
  changes: 'nothing.',
  needs: `${INSTANCES_NEED} The key needs operations. ${SQS_VARIABLES} ${rightsText(RIGHTS)}`,
  exitStatuses: { 0: 'all answered', 1: 'something did not answer: the bundle says what' },
});

if (import.meta.main) await runCommand(command, main);

async function main({ environment }: ValuesOf<typeof command>): Promise<number> {
  let failed = 0;
  const part = async (ask: () => Promise<unknown>): Promise<unknown> => {
    try {
      return await ask();
    } catch (error) {
      failed++;
      return { error: error instanceof Error ? error.message : String(error) };
    }
  };
  const describe = async (instance: Instance, pages: readonly string[]) => ({
    health: await part(() => askPage(instance.publicUrl, instance.name, '/actuator/health')),
    info: await part(() => askPage(instance.publicUrl, instance.name, '/actuator/info')),
    ...Object.fromEntries(
      await Promise.all(
        pages.map(async (page) => [page, await part(() => askInstance(instance, `/actuator/${page}`))]),
      ),
    ),
    metrics: await part(() => askPage(instance.url, instance.name, '/metrics')),
  });
  const all = async (service: 'order-producer' | 'order-consumer', pages: readonly string[]) =>
    part(async () => {
      await using instances = await openInstances(environment, process.env);
      const found = await instances.of(service);
      if (found.length === 0) throw new Error(`no ${service} runs`);
      const described = found.map(async (each) => [each.name, await describe(each, pages)]);
      return Object.fromEntries(await Promise.all(described));
    });
  const bundle = {
    takenAt: new Date().toISOString(),
    environment,
    node: process.version,
    producers: await all('order-producer', ['log-level']),
    consumers: await all('order-consumer', ['log-level', 'consumption']),
    queues: await part(() => queues(environment)),
  };
  console.log(withoutCredentials(JSON.stringify(bundle, null, 2)));
  return failed > 0 ? 1 : 0;
}

async function queues(environment: ValuesOf<typeof command>['environment']) {
  const { client, config } = createTool(environment, process.env);
  try {
    const urls = await findQueues({ client, config });
    return {
      [config.ORDER_QUEUE_NAME]: await queueAttributes(client, urls.queueUrl),
      [config.ORDER_DLQ_NAME]: await queueAttributes(client, urls.deadLetterQueueUrl),
    };
  } finally {
    client.destroy();
  }
}
