import type { SQSClient } from '@aws-sdk/client-sqs';
import { DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { sqsEndpoint } from '@orders/shared/runtime/config.ts';
import {
  deleteQueue,
  depthIn,
  ensureQueues,
  explainSqsError,
  findQueueUrl,
  type QueueChange,
  queueAttributes,
  queueTags,
} from '@orders/shared/sqs/queue-admin.ts';
import { foreignAccount, foreignTo } from '@orders/shared/sqs/queue-environment.ts';
import type { QueueAttributes } from '@orders/shared/sqs/queues.ts';
import { z } from 'zod';
import { apiKeyHeader } from '../dev/api-key.ts';
import { defineCommand, httpUrl, runCommand, type ValuesOf } from './command.ts';
import { isConfirmed } from './confirm.ts';
import {
  createTool,
  environment,
  FIND_QUEUES,
  findQueues,
  rightsText,
  SQS_VARIABLES,
  type SqsRights,
  type ToolConfig,
} from './sqs-tool.ts';

const LOOK = [...FIND_QUEUES, 'GetQueueAttributes'];
/** Held to what is called by a test. */
export const RIGHTS = {
  create: { both: [...LOOK, 'CreateQueue', 'TagQueue', 'SetQueueAttributes'] },
  delete: { both: [...LOOK, 'DeleteQueue'] },
  status: { both: LOOK, deadLetterQueue: ['ReceiveMessage', 'ChangeMessageVisibility'] },
} as const satisfies Record<string, SqsRights>;

export const command = defineCommand({
  name: 'scripts/manage-queues.sh',
  summary: 'Creates, repairs, deletes and shows the order queue and its dead-letter queue.',
  positionals: {
    action: {
      schema: z.enum(['create', 'delete', 'status']),
      description: {
        create:
          'creates both queues as defined in shared/src/sqs/queues.ts, and repairs attributes that drifted, after showing them',
        delete:
          "deletes both queues and all messages in them, but refuses queues that are tagged or configured like another environment's. It shows them first and asks for the queue's name, except on an emulator in dev",
        status:
          "depth, in flight, delayed and age of both queues, with warnings. SQS does not report the age of a queue's oldest message: the order queue's comes from order-consumer, the dead-letter queue's from up to ten of its messages",
      },
    },
    environment: { schema: environment, description: 'the environment of the queues' },
  },
  options: {
    confirm: {
      takes: 'QUEUE_NAME',
      only: ['delete'],
      description: 'the name of the order queue, if nobody can be asked for it',
      schema: z.string().optional(),
    },
    consumer: {
      takes: 'URL',
      only: ['status'],
      description: 'order-consumer; http://localhost:CONSUMER_PORT by default',
      schema: httpUrl.optional(),
    },
  },
  changes:
    'create creates or repairs both queues, and tags them with their environment; delete deletes both; status changes nothing.',
  needs: `${SQS_VARIABLES} ${rightsText(RIGHTS)}`,
  exitStatuses: { 0: 'done, no warnings', 1: 'not done, with the reason; or warnings' },
});

/** Messages that wait. The goal is below 10. */
const DEPTH = { warning: 50, danger: 100 };
const LOOK_AT = 10;

type Tool = ReturnType<typeof createTool>;
const names = (config: ToolConfig) => ({
  queue: config.ORDER_QUEUE_NAME,
  deadLetterQueue: config.ORDER_DLQ_NAME,
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const tool = createTool(values.environment, process.env);
  switch (values.action) {
    case 'create':
      return create(tool);
    case 'delete':
      return remove(tool, values.confirm);
    case 'status':
      return status(tool, values.consumer ?? `http://localhost:${process.env['CONSUMER_PORT'] || 8081}`);
  }
}

async function create({ client, config }: Tool): Promise<number> {
  const showDrift = ({ name, drift }: QueueChange) => {
    for (const { attribute, found, wanted } of drift)
      console.log(`${name}: ${attribute} is ${found || 'not set'}, will be ${wanted || 'not set'}`);
  };
  const { queue, deadLetterQueue } = await ensureQueues(client, config.APP_ENV, names(config), {
    beforeMend: showDrift,
    account: config.EXPECTED_AWS_ACCOUNT,
  }).catch((error) => {
    throw explainSqsError(error, config);
  });
  for (const { name, url, created, drift, left } of [deadLetterQueue, queue]) {
    console.log(`${name}: ${created ? 'created' : drift.length > 0 ? 'mended' : 'as defined'} (${url})`);
    for (const { attribute, found, wanted } of left)
      console.log(
        `${name}: ${attribute} is left as it is: ${found}${wanted === undefined ? '' : `, where the definition says ${wanted}`}`,
      );
  }
  return 0;
}

async function remove({ client, config }: Tool, confirmed: string | undefined): Promise<number> {
  const { queue, deadLetterQueue } = names(config);
  const found = await Promise.all(
    [queue, deadLetterQueue].map((name) => findQueue(client, config, name)),
  ).catch((error) => {
    throw explainSqsError(error, config);
  });
  const refusals = found.flatMap(({ name, foreign }) => (foreign ? [`${name} ${foreign}`] : []));
  for (const refusal of refusals) console.error(`not deleted: ${refusal}`);
  if (refusals.length > 0) return 1;

  const mustBeNamed = config.APP_ENV !== 'dev' || sqsEndpoint(config) === undefined;
  if (mustBeNamed && found.some(({ url }) => url)) {
    for (const { description } of found) console.log(description);
    const warning = `This deletes the queues of ${config.APP_ENV.toUpperCase()} and every message in them.`;
    if (!(await isConfirmed(queue, { given: confirmed, warning }))) {
      console.error(`not deleted: the name was not confirmed (--confirm=${queue} where nobody can be asked)`);
      return 1;
    }
  }
  for (const { name, url } of found) {
    if (url) await deleteQueue(client, url);
    console.log(`${name}: ${url ? 'deleted' : 'was not there'}`);
  }
  return 0;
}

type FoundQueue = {
  name: string;
  url?: string;
  /** Where it is and what is in it. */
  description: string;
  /** Why it is another account's or environment's. */
  foreign?: string | undefined;
};

async function findQueue(
  client: SQSClient,
  { APP_ENV, EXPECTED_AWS_ACCOUNT }: ToolConfig,
  name: string,
): Promise<FoundQueue> {
  const url = await findQueueUrl(client, name);
  if (url === undefined) return { name, description: `${name}: is not there` };
  const [attributes, tags] = await Promise.all([queueAttributes(client, url), queueTags(client, url)]);
  const { QueueArn = '' } = attributes;
  const [, , , region, account] = QueueArn.split(':');
  const { visible, inFlight, delayed } = depthIn(attributes);
  return {
    name,
    url,
    description: `${name}: account ${account}, region ${region}, ${QueueArn}, ${visible + inFlight + delayed} messages`,
    foreign: foreignAccount(url, EXPECTED_AWS_ACCOUNT) ?? foreignTo(APP_ENV, attributes, tags),
  };
}

async function status({ client, config }: Tool, consumerUrl: string): Promise<number> {
  const urls = await findQueues({ client, config });
  const queue = await queueAttributes(client, urls.queueUrl);
  const deadLetterQueue = await queueAttributes(client, urls.deadLetterQueueUrl);
  const dead = await new DeadLetterQueue(client, urls).peek(LOOK_AT);
  const oldestDead = dead
    .flatMap(({ message }) => message.sentAt?.getTime() ?? [])
    .toSorted((a, b) => a - b)[0];
  const age = oldestDead === undefined ? undefined : (Date.now() - oldestDead) / 1_000;
  console.log(describe(config.ORDER_QUEUE_NAME, queue, await oldestAgeSeconds(consumerUrl)));
  console.log(describe(config.ORDER_DLQ_NAME, deadLetterQueue, dead.length === 0 ? 0 : age));

  const depth = depthIn(queue).visible;
  const deadDepth = depthIn(deadLetterQueue).visible;
  const warnings: string[] = [];
  if (deadDepth > 0)
    warnings.push(
      `${config.ORDER_DLQ_NAME} holds ${deadDepth} messages: scripts/dlq.sh peek ${config.APP_ENV}`,
    );
  if (depth > DEPTH.warning) {
    warnings.push(
      `${config.ORDER_QUEUE_NAME} is ${depth > DEPTH.danger ? 'dangerously ' : ''}deep: ${depth} messages wait`,
    );
  }
  for (const warning of warnings) console.log(`WARNING ${warning}`);
  return warnings.length > 0 ? 1 : 0;
}

function describe(name: string, attributes: QueueAttributes, ageSeconds: number | undefined): string {
  const { visible, inFlight, delayed } = depthIn(attributes);
  const age = ageSeconds === undefined ? 'unknown' : `${Math.round(ageSeconds)} s`;
  return `${name}: ${visible} waiting, ${inFlight} in flight, ${delayed} delayed, oldest ${age}, kept ${Number(attributes.MessageRetentionPeriod) / 86_400} days`;
}

/** As the consumer saw it in its last poll. */
async function oldestAgeSeconds(consumerUrl: string): Promise<number | undefined> {
  try {
    const url = `${consumerUrl}/actuator/metrics/sqs.oldest.message.age.seconds`;
    const metric = (await (
      await fetch(url, { headers: apiKeyHeader(), signal: AbortSignal.timeout(2_000) })
    ).json()) as {
      measurements: { value: number }[];
    };
    return metric.measurements[0]?.value;
  } catch {
    return undefined;
  }
}
