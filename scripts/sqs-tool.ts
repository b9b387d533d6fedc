import type { SQSClient } from '@aws-sdk/client-sqs';
import {
  type AppEnv,
  commonFields,
  loadConfig,
  sqsEndpoint,
  withRules,
} from '@orders/shared/runtime/config.ts';
import { createLogger, type Logger } from '@orders/shared/runtime/logger.ts';
import { createSqsClient } from '@orders/shared/sqs/client.ts';
import { type QueueUrls, resolveQueues } from '@orders/shared/sqs/queue-admin.ts';
import { z } from 'zod';
import { emulatorPort } from '../dev/pipeline-ports.ts';

const toolSchema = withRules(z.object(commonFields), []);
export type ToolConfig = z.infer<typeof toolSchema>;

const localSchema = z.object({ EMULATOR_PORT: emulatorPort });
/** Where the emulator of `npm start` and of docker-compose listens. */
const localEndpoint = (env: NodeJS.ProcessEnv) =>
  `http://127.0.0.1:${loadConfig(localSchema, env).EMULATOR_PORT}`;

/**
 * Configuration and client of a tool that operators call. In dev it means the local emulator, unless told otherwise.
 * Elsewhere an endpoint may be one that is left in the shell: standard error says which it is.
 */
export function createTool(
  appEnv: AppEnv,
  env: NodeJS.ProcessEnv,
): { client: SQSClient; config: ToolConfig; logger: Logger } {
  const config = loadConfig(toolSchema, {
    ...env,
    APP_ENV: appEnv,
    AWS_ENDPOINT_URL: env['AWS_ENDPOINT_URL'] || (appEnv === 'dev' ? localEndpoint(env) : undefined),
    LOG_LEVEL: env['LOG_LEVEL'] || 'error',
    LIBRARY_LOG_LEVEL: env['LIBRARY_LOG_LEVEL'] || 'error',
  });
  const endpoint = sqsEndpoint(config);
  if (appEnv !== 'dev' && endpoint !== undefined)
    console.error(`for ${appEnv}, this asks ${new URL(endpoint).origin} (AWS_ENDPOINT_URL), not AWS`);
  const logger = createLogger({ ...config, service: 'tool', version: '' });
  return { config, logger, client: createSqsClient({ config, logger }) };
}

/** What {@link findQueues} asks of SQS. */
export const FIND_QUEUES = ['GetQueueUrl', 'ListQueueTags'];

/**
 * The queues of the environment, if they are its own. Creates none, also in dev: a command that looks must not change what it
 * looks at. What could not be checked is a line of standard error.
 * @throws {StartupError}
 */
export const findQueues = ({
  client,
  config,
}: {
  client: SQSClient;
  config: ToolConfig;
}): Promise<QueueUrls> =>
  resolveQueues(client, config, { createMissing: false, warn: (finding) => console.error(finding) });

/** Which environment a command works on. */
export const environment = z.enum(['dev', 'staging', 'production']);

/** What these commands are told by their environment. */
export const SQS_VARIABLES =
  'AWS_ENDPOINT_URL, AWS_REGION, EXPECTED_AWS_ACCOUNT, ORDER_QUEUE_NAME and ORDER_DLQ_NAME are respected; in dev the endpoint defaults to that of npm start.';

/**
 * Actions of SQS that IAM must allow, and on which queue. Those on batches have no right of their own:
 * https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
 */
export type SqsRights = {
  both?: readonly string[];
  queue?: readonly string[];
  deadLetterQueue?: readonly string[];
};

/** As text, by what needs them. */
export function rightsText(rights: Readonly<Record<string, SqsRights>>): string {
  const texts = Object.entries(rights).map(([what, { both, queue, deadLetterQueue }]) => {
    const on = { 'both queues': both, 'the order queue': queue, 'the dead-letter queue': deadLetterQueue };
    const parts = Object.entries(on).flatMap(([where, actions]) =>
      actions ? `${actions.map((action) => `sqs:${action}`).join(', ')} on ${where}` : [],
    );
    return `${what}: ${parts.join('; ')}.`;
  });
  return `IAM must allow for ${texts.join(' For ')} In production, receiving also needs kms:Decrypt on the key of the queues, and sending kms:Decrypt and kms:GenerateDataKey.`;
}
