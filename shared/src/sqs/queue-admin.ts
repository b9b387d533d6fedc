import {
  CreateQueueCommand,
  DeleteQueueCommand,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  ListQueueTagsCommand,
  QueueDoesNotExist,
  SetQueueAttributesCommand,
  type SQSClient,
  TagQueueCommand,
} from '@aws-sdk/client-sqs';
import { type AppEnv, type CommonConfig, sqsEndpoint } from '../runtime/config.ts';
import { StartupError } from '../runtime/startup-error.ts';
import { tlsAdvice } from '../runtime/tls.ts';
import {
  ENVIRONMENT_TAG,
  foreignAccount,
  foreignTag,
  foreignTo,
  OWNER_TAG,
  type QueueTags,
} from './queue-environment.ts';
import {
  deadLetterQueueDefinition,
  orderQueueDefinition,
  type QueueAttributes,
  type QueueDefinition,
  redrivePolicyOf,
} from './queues.ts';

export type QueueNames = { queue: string; deadLetterQueue: string };
export type QueueUrls = { queueUrl: string; deadLetterQueueUrl: string };

/** An attribute of a queue and what the definition says; `wanted` is undefined where it says nothing. */
type Difference<Wanted = string> = { attribute: string; found: string | undefined; wanted: Wanted };

/** What was done to one queue. */
export type QueueChange = {
  name: string;
  url: string;
  created: boolean;
  /** Attributes that differed from the definition and were corrected. */
  drift: Difference[];
  /** Attributes that differ and were left: those of a queue that CloudFormation owns, a key that somebody chose, and what
   *  the definition does not mention. */
  left: Difference<string | undefined>[];
};

type EnsureOptions = {
  /** Told of each queue whose attributes are to be corrected. */
  beforeMend?: (change: QueueChange) => void;
  account?: string | undefined;
};

/**
 * Creates both queues as defined, or corrects what drifted, and tags them with their environment. Safe to call again and
 * from several processes.
 * @param account that they must belong to, if it is known
 * @throws {StartupError} if one of them belongs to another environment or account; that queue is left unchanged. Whose
 *   account it is shows only once a queue is there, so one that is created in a wrong account stays.
 */
export async function ensureQueues(
  client: SQSClient,
  appEnv: AppEnv,
  names: QueueNames,
  { beforeMend = () => {}, account }: EnsureOptions = {},
): Promise<{ queue: QueueChange; deadLetterQueue: QueueChange }> {
  const ensure = (definition: QueueDefinition) =>
    ensureQueue(client, appEnv, definition, { beforeMend, account });
  const deadLetterQueue = await ensure(deadLetterQueueDefinition(appEnv, names.deadLetterQueue));
  const { QueueArn } = await queueAttributes(client, deadLetterQueue.url);
  return {
    deadLetterQueue,
    queue: await ensure(orderQueueDefinition(appEnv, names.queue, QueueArn ?? '')),
  };
}

async function ensureQueue(
  client: SQSClient,
  appEnv: AppEnv,
  wanted: QueueDefinition,
  { beforeMend, account }: EnsureOptions,
): Promise<QueueChange> {
  const { name } = wanted;
  const tags = { [ENVIRONMENT_TAG]: appEnv };
  const url = await findQueueUrl(client, name);
  if (url === undefined) {
    const { QueueUrl } = await client.send(
      new CreateQueueCommand({ QueueName: name, Attributes: wanted.attributes, tags }),
    );
    refuse(`${name}, created just now,`, QueueUrl && foreignAccount(QueueUrl, account));
    return { name, url: QueueUrl ?? '', created: true, drift: [], left: [] };
  }
  refuse(name, foreignAccount(url, account));
  const [found, foundTags] = await Promise.all([queueAttributes(client, url), queueTags(client, url)]);
  const isTagged = foundTags[ENVIRONMENT_TAG] !== undefined;
  const foreign = foreignTo(appEnv, found, foundTags);
  // A queue with neither tag nor key belongs to the first environment that claims it.
  if (isTagged || found.KmsMasterKeyId) refuse(name, foreign);
  if (!isTagged) await client.send(new TagQueueCommand({ QueueUrl: url, Tags: tags }));
  const differences = compare(wanted.attributes, found);
  // What CloudFormation made, only it changes: the next deployment would undo a repair, or this one undo a deployment.
  const { drift, left } = foundTags[OWNER_TAG]
    ? { drift: [], left: [...differences.drift, ...differences.left] }
    : differences;
  const change = { name, url, created: false, drift, left };
  if (change.drift.length > 0) {
    beforeMend?.(change);
    const Attributes = Object.fromEntries(change.drift.map(({ attribute, wanted }) => [attribute, wanted]));
    await client.send(new SetQueueAttributesCommand({ QueueUrl: url, Attributes }));
  }
  return change;
}

/**
 * SQS returns these only if they are set, and all others always. An engine that leaves out one of the others does not
 * support it and would refuse to set it (ElasticMQ): that is not drift.
 */
const LEFT_OUT_UNLESS_SET = ['RedrivePolicy', 'KmsMasterKeyId', 'KmsDataKeyReusePeriodSeconds'];
const ENCRYPTION = ['KmsMasterKeyId', 'KmsDataKeyReusePeriodSeconds', 'SqsManagedSseEnabled'];
/** These depend on the environment that owns the queue. */
const UNKNOWN_TO_THE_DEFINITION = ['Policy', 'RedriveAllowPolicy'] as const;

/**
 * Which attributes of a queue to correct, and which to leave. A key that somebody chose stays: replacing it would lock out
 * those who may use only that key. A queue without a redrive policy in its definition must have none.
 */
function compare(wanted: QueueAttributes, found: QueueAttributes): Pick<QueueChange, 'drift' | 'left'> {
  const hasOwnKey = Boolean(found.KmsMasterKeyId) && found.KmsMasterKeyId !== wanted.KmsMasterKeyId;
  const drift = Object.entries({ RedrivePolicy: '', ...wanted })
    .map(([attribute, value]) => ({
      attribute,
      found: found[attribute as keyof QueueAttributes],
      wanted: value,
    }))
    .filter(({ attribute, found }) => found !== undefined || LEFT_OUT_UNLESS_SET.includes(attribute))
    .filter(({ attribute }) => !(hasOwnKey && ENCRYPTION.includes(attribute)))
    .filter(({ attribute, found = '', wanted }) =>
      attribute === 'RedrivePolicy' ? !sameRedrivePolicy(found, wanted) : found !== wanted,
    )
    .toSorted((a, b) => a.attribute.localeCompare(b.attribute));
  const key = {
    attribute: 'KmsMasterKeyId',
    found: found.KmsMasterKeyId,
    wanted: wanted.KmsMasterKeyId ?? 'none',
  };
  const others = UNKNOWN_TO_THE_DEFINITION.filter((attribute) => found[attribute]).map((attribute) => ({
    attribute,
    found: found[attribute],
    wanted: undefined,
  }));
  return { drift, left: [...(hasOwnKey ? [key] : []), ...others] };
}

/** SQS returns the policy with its own order of keys, and emulators return the count as text. */
function sameRedrivePolicy(found: string, wanted: string): boolean {
  const [a, b] = [found, wanted].map((RedrivePolicy) => redrivePolicyOf({ RedrivePolicy }));
  return a?.deadLetterTargetArn === b?.deadLetterTargetArn && a?.maxReceiveCount === b?.maxReceiveCount;
}

/**
 * How a queue differs from its definition, with another key than the definition's. Changes nothing.
 * @returns undefined if there is no queue of that name
 */
export async function queueDrift(
  client: SQSClient,
  { name, attributes }: QueueDefinition,
): Promise<Difference<string | undefined>[] | undefined> {
  const url = await findQueueUrl(client, name);
  if (url === undefined) return undefined;
  const { drift, left } = compare(attributes, await queueAttributes(client, url));
  return [...drift, ...left.filter(({ wanted }) => wanted !== undefined)];
}

/** Undefined if there is no queue of that name. */
export async function findQueueUrl(client: SQSClient, name: string): Promise<string | undefined> {
  try {
    return (await client.send(new GetQueueUrlCommand({ QueueName: name }))).QueueUrl;
  } catch (error) {
    if (error instanceof QueueDoesNotExist) return undefined;
    throw error;
  }
}

/** All attributes that SQS returns for the queue; it may leave out those that are not set. */
export async function queueAttributes(client: SQSClient, url: string): Promise<QueueAttributes> {
  const answer = await client.send(new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ['All'] }));
  return answer.Attributes ?? {};
}

export async function queueTags(client: SQSClient, url: string): Promise<QueueTags> {
  return (await client.send(new ListQueueTagsCommand({ QueueUrl: url }))).Tags ?? {};
}

export type QueueDepth = {
  /** Waiting to be received. */
  visible: number;
  /** Received, and neither deleted nor released. */
  inFlight: number;
  /** Sent with a delay that is not over. */
  delayed: number;
};

/**
 * How many messages the queue holds. On AWS the figures are approximate and up to a minute old:
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

/** Deletes the queue and all its messages. SQS refuses a new queue of that name for a minute. */
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
> &
  Partial<Pick<CommonConfig, 'AWS_PROFILE' | 'EXPECTED_AWS_ACCOUNT'>>;

export type ResolveOptions = {
  createMissing?: boolean;
  /** Told, as a sentence, what could not be checked. */
  warn?: (finding: string) => void;
};

/**
 * The URLs of both queues, for a starting service. In development with an emulator it also creates them, because
 * LocalStack loses its queues at each restart.
 * @throws {StartupError} that says what is missing: the queue, the credentials, or a connection to SQS; or that a queue is
 *   another account's or another environment's
 */
export async function resolveQueues(
  client: SQSClient,
  config: QueueConfig,
  {
    createMissing = config.APP_ENV === 'dev' && sqsEndpoint(config) !== undefined,
    warn = () => {},
  }: ResolveOptions = {},
): Promise<QueueUrls> {
  const names = { queue: config.ORDER_QUEUE_NAME, deadLetterQueue: config.ORDER_DLQ_NAME };
  try {
    const [queueUrl, deadLetterQueueUrl] = await Promise.all([
      findQueueUrl(client, names.queue),
      findQueueUrl(client, names.deadLetterQueue),
    ]);
    if (queueUrl && deadLetterQueueUrl) {
      await checkOwner(
        client,
        config,
        { [names.queue]: queueUrl, [names.deadLetterQueue]: deadLetterQueueUrl },
        warn,
      );
      return { queueUrl, deadLetterQueueUrl };
    }
    if (createMissing) {
      const { queue, deadLetterQueue } = await ensureQueues(client, config.APP_ENV, names, {
        account: config.EXPECTED_AWS_ACCOUNT,
      });
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

/**
 * Queues have the same names in every environment. Whose they are, their account says, and outside dev their tag.
 * @throws {StartupError}
 */
async function checkOwner(
  client: SQSClient,
  { APP_ENV, EXPECTED_AWS_ACCOUNT }: QueueConfig,
  urls: Readonly<Record<string, string>>,
  warn: (finding: string) => void,
): Promise<void> {
  for (const [name, url] of Object.entries(urls)) refuse(name, foreignAccount(url, EXPECTED_AWS_ACCOUNT));
  if (APP_ENV === 'dev') return;
  if (EXPECTED_AWS_ACCOUNT === undefined)
    warn('EXPECTED_AWS_ACCOUNT is not set: queues and keys of any account are taken');
  await Promise.all(
    Object.entries(urls).map(async ([name, url]) => {
      const tags = await queueTags(client, url).catch((error) => {
        if (/^AccessDenied/.test(error.name)) return undefined;
        throw error;
      });
      if (!tags)
        warn(`whose environment ${name} belongs to was not checked: sqs:ListQueueTags is not allowed`);
      else if (tags[ENVIRONMENT_TAG] === undefined)
        warn(`${name} has no tag ${ENVIRONMENT_TAG}: scripts/manage-queues.sh create ${APP_ENV} sets it`);
      else refuse(name, foreignTag(APP_ENV, tags), `${ENVIRONMENT_TAG}; APP_ENV, or the credentials`);
    }),
  );
}

/** @throws {StartupError} if something speaks against the queue */
function refuse(name: string, problem: string | undefined, hint?: string): void {
  if (problem) throw new StartupError(`${name} ${problem}${hint ? ` (${hint})` : ''}`);
}

/** Turns a failed call to SQS into a {@link StartupError} that says what a person can do about it. */
export function explainSqsError(
  error: unknown,
  config: Pick<QueueConfig, 'APP_ENV' | 'AWS_REGION' | 'AWS_ENDPOINT_URL' | 'AWS_ENDPOINT_URL_SQS'> &
    Partial<Pick<CommonConfig, 'AWS_PROFILE'>>,
): unknown {
  if (error instanceof StartupError || !(error instanceof Error)) return error;
  if (error.name === 'CredentialsProviderError') {
    return new StartupError(
      config.AWS_PROFILE
        ? `no AWS credentials: the profile "${config.AWS_PROFILE}" (AWS_PROFILE) is not there, or has none`
        : 'no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the workload a role',
      { cause: error },
    );
  }
  const endpoint = sqsEndpoint(config);
  // Without parts that may hold a secret.
  const where = endpoint === undefined ? `SQS in ${config.AWS_REGION}` : new URL(endpoint).origin;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  const isByDefault = endpoint !== undefined && !config.AWS_ENDPOINT_URL_SQS && !config.AWS_ENDPOINT_URL;
  const variables = 'AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL, AWS_REGION';
  const hint = isByDefault
    ? 'nothing else is set: npm start runs an emulator there; AWS_ENDPOINT_URL=aws means AWS'
    : (tlsAdvice(code, { server: variables, ca: 'NODE_EXTRA_CA_CERTS' }) ?? variables);
  return new StartupError(
    `cannot work with ${where}: ${code}: ${error.message.trim() || 'no answer'} (${hint})`,
    {
      cause: error,
    },
  );
}
