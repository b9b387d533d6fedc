import {
  CreateQueueCommand,
  DeleteQueueCommand,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  QueueDoesNotExist,
  SetQueueAttributesCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { type AppEnv, type CommonConfig, sqsEndpoint } from './config.ts';
import {
  deadLetterQueueDefinition,
  orderQueueDefinition,
  type QueueAttributes,
  type QueueDefinition,
} from './queues.ts';
import { StartupError } from './startup-error.ts';

export type QueueNames = { queue: string; deadLetterQueue: string };
export type QueueUrls = { queueUrl: string; deadLetterQueueUrl: string };

/** What was done to one queue; `drift` lists attributes that differed from the definition and were mended. */
export type QueueChange = {
  name: string;
  url: string;
  created: boolean;
  drift: { attribute: string; found: string | undefined; wanted: string }[];
};

/** Creates both queues as defined, or mends what drifted. Safe to call again and from several processes. */
export async function ensureQueues(
  client: SQSClient,
  appEnv: AppEnv,
  names: QueueNames,
  beforeMend: (change: QueueChange) => void = () => {},
): Promise<{ queue: QueueChange; deadLetterQueue: QueueChange }> {
  const deadLetterQueue = await ensureQueue(
    client,
    deadLetterQueueDefinition(appEnv, names.deadLetterQueue),
    beforeMend,
  );
  const { QueueArn } = await queueAttributes(client, deadLetterQueue.url);
  const definition = orderQueueDefinition(appEnv, names.queue, QueueArn ?? '');
  return { deadLetterQueue, queue: await ensureQueue(client, definition, beforeMend) };
}

async function ensureQueue(
  client: SQSClient,
  wanted: QueueDefinition,
  beforeMend: (change: QueueChange) => void,
): Promise<QueueChange> {
  const existing = await findQueueUrl(client, wanted.name);
  if (existing === undefined) {
    const { QueueUrl } = await client.send(
      new CreateQueueCommand({ QueueName: wanted.name, Attributes: wanted.attributes }),
    );
    return { name: wanted.name, url: QueueUrl ?? '', created: true, drift: [] };
  }
  const drift = attributeDrift(wanted.attributes, await queueAttributes(client, existing));
  const change = { name: wanted.name, url: existing, created: false, drift };
  if (drift.length > 0) {
    beforeMend(change);
    const Attributes = Object.fromEntries(drift.map(({ attribute, wanted: value }) => [attribute, value]));
    await client.send(new SetQueueAttributesCommand({ QueueUrl: existing, Attributes }));
  }
  return change;
}

/**
 * SQS answers these only where they are set, and all others always. An engine that leaves out one of the others does
 * not have it and would refuse to set it (ElasticMQ): that is no drift.
 */
const LEFT_OUT_UNLESS_SET = ['RedrivePolicy', 'KmsMasterKeyId', 'KmsDataKeyReusePeriodSeconds'];

function attributeDrift(wanted: QueueAttributes, found: QueueAttributes): QueueChange['drift'] {
  return Object.entries(wanted)
    .map(([attribute, value]) => ({
      attribute,
      found: found[attribute as keyof QueueAttributes],
      wanted: value,
    }))
    .filter(({ attribute, found }) => found !== undefined || LEFT_OUT_UNLESS_SET.includes(attribute))
    .filter(({ attribute, found, wanted }) =>
      attribute === 'RedrivePolicy' ? !sameRedrivePolicy(found, wanted) : found !== wanted,
    );
}

/** SQS answers the policy with its own order of keys, and emulators with the count as text. */
function sameRedrivePolicy(found: string | undefined, wanted: string): boolean {
  const [a, b] = [JSON.parse(found || '{}'), JSON.parse(wanted)];
  return a.deadLetterTargetArn === b.deadLetterTargetArn && Number(a.maxReceiveCount) === b.maxReceiveCount;
}

/** Undefined when there is none of that name. */
export async function findQueueUrl(client: SQSClient, name: string): Promise<string | undefined> {
  try {
    return (await client.send(new GetQueueUrlCommand({ QueueName: name }))).QueueUrl;
  } catch (error) {
    if (error instanceof QueueDoesNotExist) return undefined;
    throw error;
  }
}

/** All that SQS tells of the queue; what is not set may be left out. */
export async function queueAttributes(client: SQSClient, url: string): Promise<QueueAttributes> {
  const answer = await client.send(new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ['All'] }));
  return answer.Attributes ?? {};
}

export type QueueDepth = {
  /** Waits to be received. */
  visible: number;
  /** Received, neither deleted nor given back. */
  inFlight: number;
  /** Sent, and not to be received yet. */
  delayed: number;
};

/**
 * What the queue holds. On AWS the figures are approximate, and up to a minute late:
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
 */
export async function queueDepth(client: SQSClient, url: string): Promise<QueueDepth> {
  return depthIn(await queueAttributes(client, url));
}

/** All messages in the queue, whatever their state; as approximate as {@link queueDepth}. */
export async function messagesIn(client: SQSClient, url: string): Promise<number> {
  const { visible, inFlight, delayed } = await queueDepth(client, url);
  return visible + inFlight + delayed;
}

export function depthIn(attributes: QueueAttributes): QueueDepth {
  return {
    visible: Number(attributes.ApproximateNumberOfMessages ?? 0),
    inFlight: Number(attributes.ApproximateNumberOfMessagesNotVisible ?? 0),
    delayed: Number(attributes.ApproximateNumberOfMessagesDelayed ?? 0),
  };
}

/** With all that is in it. SQS refuses a new queue of that name for a minute. */
export async function deleteQueue(client: SQSClient, url: string): Promise<void> {
  await client.send(new DeleteQueueCommand({ QueueUrl: url }));
}

type QueueConfig = Pick<
  CommonConfig,
  | 'APP_ENV'
  | 'AWS_REGION'
  | 'AWS_ENDPOINT_URL'
  | 'AWS_ENDPOINT_URL_SQS'
  | 'ORDER_QUEUE_NAME'
  | 'ORDER_DLQ_NAME'
>;

/**
 * The URLs of both queues, for a service that starts. In development against an emulator it creates them too, since
 * LocalStack forgets its queues at each restart.
 * @throws {StartupError} saying what is missing: the queue, the credentials, or the way to SQS
 */
export async function resolveQueues(
  client: SQSClient,
  config: QueueConfig,
  { createMissing = config.APP_ENV === 'dev' && sqsEndpoint(config) !== undefined } = {},
): Promise<QueueUrls> {
  const names = { queue: config.ORDER_QUEUE_NAME, deadLetterQueue: config.ORDER_DLQ_NAME };
  try {
    const [queueUrl, deadLetterQueueUrl] = await Promise.all([
      findQueueUrl(client, names.queue),
      findQueueUrl(client, names.deadLetterQueue),
    ]);
    if (queueUrl && deadLetterQueueUrl) return { queueUrl, deadLetterQueueUrl };
    if (createMissing) {
      const { queue, deadLetterQueue } = await ensureQueues(client, config.APP_ENV, names);
      return { queueUrl: queue.url, deadLetterQueueUrl: deadLetterQueue.url };
    }
    const [variable, name] = queueUrl
      ? ['ORDER_DLQ_NAME', names.deadLetterQueue]
      : ['ORDER_QUEUE_NAME', names.queue];
    throw new StartupError(
      `queue "${name}" (${variable}) does not exist in ${config.AWS_REGION}; create it with scripts/manage-queues.sh create ${config.APP_ENV}`,
    );
  } catch (error) {
    throw explainSqsError(error, config);
  }
}

/** What a person can do about a call to SQS that failed: a {@link StartupError} that says it, for errors that are not one. */
export function explainSqsError(
  error: unknown,
  config: Pick<QueueConfig, 'AWS_REGION' | 'AWS_ENDPOINT_URL' | 'AWS_ENDPOINT_URL_SQS'>,
): unknown {
  if (error instanceof StartupError || !(error instanceof Error)) return error;
  if (error.name === 'CredentialsProviderError') {
    return new StartupError(
      'no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the workload a role',
      { cause: error },
    );
  }
  const where = sqsEndpoint(config) ?? `SQS in ${config.AWS_REGION}`;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  return new StartupError(
    `cannot work with ${where}: ${code}: ${error.message || 'no answer'} (AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL, AWS_REGION)`,
    { cause: error },
  );
}
