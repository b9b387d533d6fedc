import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CloudFormation } from '@aws-sdk/client-cloudformation';
import { SecretsManager } from '@aws-sdk/client-secrets-manager';
import {
  GetQueueUrlCommand,
  QueueDoesNotExist,
  ReceiveMessageCommand,
  SetQueueAttributesCommand,
} from '@aws-sdk/client-sqs';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import { emulatorCredentials } from '@orders/shared/runtime/config.ts';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  BACKENDS,
  EMULATOR_VARIABLES,
  LOCALSTACK_4,
  type RunningBackend,
  sqsClient,
  startLocalStack,
} from '../../test/support/backends.ts';
import { eventually } from '../../test/support/eventually.ts';
import { allStored } from '../../test/support/load.ts';
import { post, startPair } from '../../test/support/pair.ts';
import { Deployment } from '../deployment.ts';
import { findDifferences } from '../differences.ts';
import { createSlackHandler } from '../functions/slack.ts';
import { readSettings } from '../settings.ts';

// npm run infra:deploy:local. The stacks that LocalStack 4.14 has, with production's values, since only they have a key.

const ACCOUNT = '000000000000';
const REGION = 'ap-northeast-2';
const BUCKET = 'orders-infra-files';
const SERVICES = 'cloudformation,cloudwatch,events,iam,kms,lambda,logs,s3,secretsmanager,sns,sqs,ssm,sts';
/**
 * LocalStack asks its maker which types it has, to tell an unknown one from one that costs. Without an answer it calls each
 * unknown; with this, it looks at its own.
 */
const CATALOGUE = {
  target: '/var/lib/localstack/cache/aws_catalog.json',
  content: JSON.stringify({
    schema_version: 'v1',
    localstack: { version: '4.14.0' },
    services: {},
    cloudformation_resources: { community: {} },
  }),
};
/** A deployment takes some 20 s on a quiet machine. */
const LIMIT_MS = 480_000;

const { available, reason } = await BACKENDS.localStack4.availability();

describe.skipIf(!available)(`deployed into LocalStack 4.14 (${reason})`, () => {
  let localStack: RunningBackend;
  let endpoint: string;
  let deployment: Deployment;
  let cloudFormation: CloudFormation;
  let outdir: string;
  const sqs = () => {
    const client = sqsClient(localStack.env);
    onTestFinished(() => client.destroy());
    return client;
  };
  const secretsManager = () => {
    const client = new SecretsManager({ endpoint, region: REGION, credentials: emulatorCredentials });
    onTestFinished(() => client.destroy());
    return client;
  };
  const differences = () =>
    findDifferences(deployment, {
      client: sqs(),
      environment: 'production',
      arn: `arn:aws:sqs:${REGION}:${ACCOUNT}`,
    });

  beforeAll(async () => {
    localStack = await startLocalStack(LOCALSTACK_4, {
      // A type that it does not have would otherwise count as created.
      environment: { SERVICES, CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES: '0' },
      files: [CATALOGUE],
    });
    endpoint = String(localStack.env['AWS_ENDPOINT_URL']);
    // As in the shell of somebody who deploys there.
    for (const [name, value] of Object.entries({
      ...EMULATOR_VARIABLES,
      AWS_ENDPOINT_URL: endpoint,
      AWS_REGION: REGION,
    }))
      vi.stubEnv(name, value);
    const bucket = await fetch(`${endpoint}/${BUCKET}`, {
      method: 'PUT',
      body: `<CreateBucketConfiguration><LocationConstraint>${REGION}</LocationConstraint></CreateBucketConfiguration>`,
      headers: { authorization: authorization('s3') },
    });
    expect(bucket.status).toBe(200);
    outdir = mkdtempSync(path.join(tmpdir(), 'order-pipeline-local-'));
    cloudFormation = new CloudFormation({ endpoint, region: REGION, credentials: emulatorCredentials });
    deployment = new Deployment('production', {
      settings: readSettings({ INFRA_ACCOUNT: ACCOUNT }).settings,
      cloudFormation,
      outdir,
      standIn: { bucket: BUCKET },
    });
    await deployment.deploy();
  }, LIMIT_MS);
  afterAll(async () => {
    cloudFormation?.destroy();
    vi.unstubAllEnvs();
    await localStack?.stop();
    if (outdir) rmSync(outdir, { recursive: true });
  }, LIMIT_MS);

  test('the stacks are there, and nothing differs from their templates or from the definition of the queues', async () => {
    const names = deployment.stacks.map(({ stackName }) => stackName);
    expect(names.toSorted()).toEqual(
      ['access', 'logs', 'messaging', 'observability', 'secrets'].map((name) => `orders-production-${name}`),
    );
    for (const name of names)
      expect((await deployment.deployed.find(name))?.StackStatus).toMatch(/^(CREATE|UPDATE)_COMPLETE$/);
    expect(await deployment.stuck()).toEqual([]);
    // LocalStack compares no resources with their templates, so infra:diff says that it cannot tell.
    expect(await differences()).toEqual({ lines: [], unknown: names });
  });

  test('an order of a client in the deployed secret is encrypted with the deployed key, carried by the deployed queues and stored', async () => {
    const { StackResources = [] } = await cloudFormation.describeStackResources({
      StackName: 'orders-production-messaging',
    });
    const key = StackResources.find(
      ({ LogicalResourceId = '', ResourceType }) =>
        ResourceType === 'AWS::KMS::Key' && LogicalResourceId.startsWith('MessageKey'),
    )?.PhysicalResourceId;
    // The file of clients' keys, as External Secrets brings it into the cluster.
    const client = createApiKey();
    const secrets = secretsManager();
    const SecretId = 'orders/production/clients';
    await secrets.putSecretValue({
      SecretId,
      SecretString: `trial orders:write,orders:read:all ${client.digest}\n`,
    });
    const API_KEYS_FILE = path.join(outdir, 'clients');
    writeFileSync(API_KEYS_FILE, String((await secrets.getSecretValue({ SecretId })).SecretString));
    const keyFile = path.join(outdir, 'trial.key');
    writeFileSync(keyFile, client.key);
    vi.stubEnv('ORDER_API_KEY_FILE', keyFile);
    await using pair = await startPair(
      {
        ...localStack.env,
        AWS_REGION: REGION,
        MANAGEMENT_PORT: '0',
        AUTH: 'api-key',
        API_KEYS_FILE,
        MESSAGE_ENCRYPTION: 'kms',
        MESSAGE_ENCRYPTION_KMS_KEYS: `arn:aws:kms:${REGION}:${ACCOUNT}:key/${key}`,
        MESSAGE_ENCRYPTION_REQUIRED: 'on',
      },
      'production',
    );
    const { status, body } = await post(`${pair.producerUrl}/orders`, anOrderRequest());
    expect(status).toBe(202);
    await allStored(pair.consumerUrl, [body.orderId]);
  }, 120_000);

  test('an alarm reaches Slack: from CloudWatch by its topic, with the webhook of the deployed secret', async () => {
    // LocalStack runs no Lambda without fetching its runtime. A queue stands in for the function's call; the code is its own.
    const posted: { url: string | undefined; text: string }[] = [];
    const slack = createServer(async (request, response) => {
      const body = JSON.parse(Buffer.concat(await request.toArray()).toString());
      posted.push({ url: request.url, text: JSON.stringify(body) });
      response.end('ok');
    }).listen(0, '127.0.0.1');
    onTestFinished(() => void slack.close());
    await eventually(() => expect(slack.listening).toBe(true));

    const secrets = secretsManager();
    const SecretId = 'orders/production/slack-webhook';
    const SecretString = `http://127.0.0.1:${(slack.address() as AddressInfo).port}/services/T0/B0`;
    await secrets.putSecretValue({ SecretId, SecretString });

    // What `aws cloudwatch set-alarm-state` does: by itself, the alarm would look after five minutes.
    const told = await fetch(endpoint, {
      method: 'POST',
      headers: { authorization: authorization('monitoring') },
      body: new URLSearchParams({
        Action: 'SetAlarmState',
        Version: '2010-08-01',
        AlarmName: 'SQS-DLQ-Messages-High',
        StateValue: 'ALARM',
        StateReason: 'a trial',
      }),
    });
    expect(told.status).toBe(200);

    const client = sqs();
    const { QueueUrl } = await client.send(
      new GetQueueUrlCommand({ QueueName: 'orders-production-slack-inbox' }),
    );
    const handle = createSlackHandler({
      readWebhook: async () => String((await secrets.getSecretValue({ SecretId })).SecretString),
    });
    // Others come in between: LocalStack evaluates every alarm, and tells of those that are well.
    const { url, text } = await eventually(async () => {
      const { Messages = [] } = await client.send(
        new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 1 }),
      );
      if (Messages.length > 0)
        await handle({ Records: Messages.map(({ Body = '' }) => ({ Sns: JSON.parse(Body) })) });
      const found = posted.find(({ text }) => text.includes('ALARM: SQS-DLQ-Messages-High'));
      expect(found).toBeDefined();
      return found as NonNullable<typeof found>;
    }, 60_000);
    expect(url).toBe('/services/T0/B0');
    expect(text).toContain('a trial');
    expect(text).toMatch(/\*threshold\*\\n10/);
  }, 120_000);

  test('an attribute that somebody changed by hand is found', async () => {
    const client = sqs();
    const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName: 'order-queue' }));
    const set = (VisibilityTimeout: string) =>
      client.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { VisibilityTimeout } }));
    await set('30');
    expect((await differences()).lines).toEqual([
      'drift: order-queue: VisibilityTimeout is 30, defined is 60',
    ]);
    await set('60');
    expect((await differences()).lines).toEqual([]);
  });

  test(
    'destroyed and deployed twice, it is the same again',
    async () => {
      await deployment.destroy();
      await expect(sqs().send(new GetQueueUrlCommand({ QueueName: 'order-queue' }))).rejects.toThrow(
        QueueDoesNotExist,
      );
      await deployment.deploy();
      await deployment.deploy();
      expect((await differences()).lines).toEqual([]);
    },
    LIMIT_MS,
  );
});

/** LocalStack reads the service and the region, and no signature. */
const authorization = (service: string) =>
  `AWS4-HMAC-SHA256 Credential=${emulatorCredentials.accessKeyId}/20260101/${REGION}/${service}/aws4_request, SignedHeaders=host, Signature=0`;
