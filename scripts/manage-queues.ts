import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import {
  deleteQueue,
  ensureQueues,
  findQueueUrl,
  type QueueChange,
  queueAttributes,
  resolveQueues,
} from '@orders/shared/queue-admin.ts';
import { createTool, parseAppEnv, runTool, type ToolConfig, UsageError } from './sqs-tool.ts';

const USAGE = `usage: scripts/manage-queues.sh create|delete|status dev|staging|production [--confirm=QUEUE_NAME]

  create   creates both queues as defined in shared/src/queues.ts, and mends attributes that drifted, showing them first
  delete   deletes both queues and all messages in them; in production it asks for the queue's name (or --confirm)
  status   depth, in flight, delayed and DLQ depth of both queues, with warnings; exit status 1 when there are any

  AWS_ENDPOINT_URL, AWS_REGION, ORDER_QUEUE_NAME and ORDER_DLQ_NAME are respected; in dev the endpoint is
  http://127.0.0.1:4566 by default.`;

/** Depths from the guideline's table: goal below 10, warning above 50, danger above 100. */
const DEPTH = { warning: 50, danger: 100 };

type Tool = ReturnType<typeof createTool>;
const names = (config: ToolConfig) => ({ queue: config.ORDER_QUEUE_NAME, deadLetterQueue: config.ORDER_DLQ_NAME });

await runTool(async () => {
  const { values, positionals } = parse();
  const [command, environment] = positionals;
  const appEnv = parseAppEnv(environment, USAGE);
  const tool = createTool(appEnv, process.env);
  switch (command) {
    case 'create':
      return create(tool);
    case 'delete':
      return remove(tool, values.confirm);
    case 'status':
      return status(tool);
    default:
      throw new UsageError(`what to do? ${command ?? 'nothing'} is not create, delete or status`, USAGE);
  }
});

function parse() {
  try {
    return parseArgs({ allowPositionals: true, options: { confirm: { type: 'string' } } });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), USAGE);
  }
}

async function create({ client, config }: Tool): Promise<number> {
  const showDrift = ({ name, drift }: QueueChange) => {
    for (const { attribute, found, wanted } of drift) console.log(`${name}: ${attribute} is ${found ?? 'not set'}, will be ${wanted}`);
  };
  const { queue, deadLetterQueue } = await ensureQueues(client, config.APP_ENV, names(config), showDrift);
  for (const { name, url, created, drift } of [deadLetterQueue, queue]) {
    console.log(`${name}: ${created ? 'created' : drift.length > 0 ? 'mended' : 'as defined'} (${url})`);
  }
  return 0;
}

async function remove({ client, config }: Tool, confirmed: string | undefined): Promise<number> {
  const { queue, deadLetterQueue } = names(config);
  if (config.APP_ENV === 'production' && (confirmed ?? (await ask(queue))) !== queue) {
    console.error(`not deleted: the name was not confirmed`);
    return 1;
  }
  for (const name of [queue, deadLetterQueue]) {
    const url = await findQueueUrl(client, name);
    if (url) await deleteQueue(client, url);
    console.log(`${name}: ${url ? 'deleted' : 'was not there'}`);
  }
  return 0;
}

async function ask(queue: string): Promise<string> {
  if (!process.stdin.isTTY) return '';
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(`This deletes the PRODUCTION queues and every message in them.\nType "${queue}" to go on: `);
  terminal.close();
  return answer.trim();
}

async function status({ client, config }: Tool): Promise<number> {
  const { queueUrl, deadLetterQueueUrl } = await resolveQueues(client, { ...config, APP_ENV: 'staging' });
  const warnings: string[] = [];
  for (const [name, url] of [
    [config.ORDER_QUEUE_NAME, queueUrl],
    [config.ORDER_DLQ_NAME, deadLetterQueueUrl],
  ] as const) {
    const attributes = await queueAttributes(client, url);
    const depth = Number(attributes.ApproximateNumberOfMessages ?? 0);
    const inFlight = attributes.ApproximateNumberOfMessagesNotVisible ?? 0;
    const delayed = attributes.ApproximateNumberOfMessagesDelayed ?? 0;
    console.log(`${name}: ${depth} waiting, ${inFlight} in flight, ${delayed} delayed, retention ${retention(attributes.MessageRetentionPeriod)}`);
    if (url === deadLetterQueueUrl && depth > 0) warnings.push(`${name} holds ${depth} messages: look with scripts/dlq.sh peek`);
    if (url === queueUrl && depth > DEPTH.warning) {
      warnings.push(`${name} is ${depth > DEPTH.danger ? 'dangerously ' : ''}deep: ${depth} messages wait`);
    }
  }
  for (const warning of warnings) console.log(`WARNING ${warning}`);
  return warnings.length > 0 ? 1 : 0;
}

function retention(seconds: string | undefined): string {
  return seconds === undefined ? 'unknown' : `${Number(seconds) / 86_400} days`;
}
