import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Duration } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { Key } from 'aws-cdk-lib/aws-kms';
import { Architecture, Code, Function as Lambda, Runtime } from 'aws-cdk-lib/aws-lambda';
import type { LogGroup } from 'aws-cdk-lib/aws-logs';
import type { ISecret } from 'aws-cdk-lib/aws-secretsmanager';
import type { ITopic } from 'aws-cdk-lib/aws-sns';
import { LambdaSubscription, SqsSubscription } from 'aws-cdk-lib/aws-sns-subscriptions';
import { Queue, QueueEncryption } from 'aws-cdk-lib/aws-sqs';
import type { OrderStack } from './order-stack.ts';

/** What the function reads and writes. */
export type SlackNeeds = { webhook: ISecret; secretsKey: Key; logs: LogGroup };

const SOURCE = path.join(import.meta.dirname, '..', 'functions', 'slack.ts');

/** JavaScript of one file, which imports nothing that Lambda does not have: no bundler is needed. */
function codeOfFunction(): Code {
  const folder = mkdtempSync(path.join(tmpdir(), 'order-pipeline-slack-'));
  writeFileSync(path.join(folder, 'index.mjs'), stripTypeScriptTypes(readFileSync(SOURCE, 'utf8')));
  return Code.fromAsset(folder);
}

/**
 * Posts what the topics tell to Slack (infra/functions/slack.ts). Outside the VPC, which has no way to Slack. What cannot
 * be posted ends in a queue of its own, which is returned.
 */
export function createSlackFunction(
  stack: OrderStack,
  topics: readonly ITopic[],
  { webhook, secretsKey, logs }: SlackNeeds,
): Queue {
  const deadLetters = new Queue(stack, 'SlackDeadLetters', {
    queueName: stack.named('slack-dlq'),
    // SQS's own key: a topic may not use ours without being named in its policy, and no order is in here.
    encryption: QueueEncryption.SQS_MANAGED,
    enforceSSL: true,
    retentionPeriod: Duration.days(14),
  });

  const role = new Role(stack, 'SlackRole', {
    roleName: stack.named('slack'),
    description: 'The function that posts to Slack',
    assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
  });
  const allow = (actions: string[], resource: string, conditions: Record<string, object> = {}) =>
    role.addToPolicy(new PolicyStatement({ actions, resources: [resource], conditions }));
  allow(['secretsmanager:GetSecretValue'], webhook.secretArn);
  allow(['kms:Decrypt'], secretsKey.keyArn, {
    StringEquals: { 'kms:ViaService': `secretsmanager.${stack.region}.amazonaws.com` },
  });
  // Of this group alone, which exists: the usual managed policy would let it write to every group.
  allow(['logs:CreateLogStream', 'logs:PutLogEvents'], logs.logGroupArn);

  const post = new Lambda(stack, 'Slack', {
    functionName: stack.named('slack'),
    description: 'Posts alarms and events to Slack',
    runtime: Runtime.NODEJS_24_X,
    architecture: Architecture.ARM_64,
    handler: 'index.handler',
    code: codeOfFunction(),
    memorySize: 256,
    // Three attempts of 4 s, two waits of 5 s at most, and the secret.
    timeout: Duration.seconds(30),
    role,
    logGroup: logs,
    environment: { SLACK_WEBHOOK_SECRET_ARN: webhook.secretArn },
    // Twice more, a minute and two later; then for a person.
    retryAttempts: 2,
    maxEventAge: Duration.hours(1),
    deadLetterQueue: deadLetters,
  });
  for (const topic of topics)
    topic.addSubscription(new LambdaSubscription(post, { deadLetterQueue: deadLetters }));
  return deadLetters;
}

/**
 * For a stand-in without Lambda: a queue that gets what the function would be called with. A test hands it to the
 * function's code.
 */
export function createSlackInbox(stack: OrderStack, topics: readonly ITopic[]): Queue {
  const inbox = new Queue(stack, 'SlackInbox', { queueName: stack.named('slack-inbox') });
  for (const topic of topics) topic.addSubscription(new SqsSubscription(inbox));
  return inbox;
}
