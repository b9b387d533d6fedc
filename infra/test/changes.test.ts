import type { CloudFormation } from '@aws-sdk/client-cloudformation';
import { describe, expect, it } from 'vitest';
import { explainAwsError, explainFailure, openAccount, stuck } from '../account.ts';
import { compareTemplates, describeChange, isDestructive, type Template } from '../changes.ts';
import { DeployedStacks } from '../deployed.ts';
import { notAllowed } from '../deployment.ts';
import { synthesised } from './synthesised.ts';

/** A deep copy that a test may change. */
type Editable = { Resources: Record<string, { Type: string; Properties: Record<string, unknown> }> };
function deployed(stack: string): Editable {
  const found = synthesised('production')
    .app.synth()
    .stacks.find(({ stackName }) => stackName.endsWith(stack));
  return structuredClone(found?.template) as Editable;
}
const compare = (before: Editable, after: Editable) =>
  compareTemplates('orders-production-x', before as unknown as Template, after as unknown as Template);
const idOf = ({ Resources }: Editable, type: string, id = '') =>
  Object.keys(Resources).find((key) => Resources[key]?.Type === type && key.startsWith(id)) ?? '';

describe('compareTemplates', () => {
  it('of a template and itself, finds nothing', () => {
    for (const stack of ['messaging', 'data', 'observability'])
      expect(compare(deployed(stack), deployed(stack))).toEqual([]);
  });

  it('of nothing and a template, creates everything, and destroys nothing', () => {
    const changes = compareTemplates('s', {}, deployed('messaging') as unknown as Template);
    expect(changes.filter(({ effect }) => effect === 'create').map(({ name }) => name)).toContain(
      'order-queue',
    );
    expect(changes.filter(isDestructive)).toEqual([]);
  });

  it('of an attribute of a queue, updates it, which needs nobody', () => {
    const after = deployed('messaging');
    Object.assign(after.Resources['OrderQueue']?.Properties ?? {}, { VisibilityTimeout: 90 });
    const changes = compare(deployed('messaging'), after);
    expect(changes.map(describeChange)).toEqual([
      'update: orders-production-x/OrderQueue AWS::SQS::Queue order-queue (VisibilityTimeout)',
    ]);
    expect(changes.filter(isDestructive)).toEqual([]);
  });

  it.each([
    ['a queue', 'messaging', 'AWS::SQS::Queue', 'OrderQueue', 'QueueName', 'order-queue'],
    [
      'a database',
      'data',
      'AWS::RDS::DBInstance',
      'Database',
      'DBInstanceIdentifier',
      'orders-production-database',
    ],
    ['a secret', 'data', 'AWS::SecretsManager::Secret', 'Secret', 'Name', 'orders/production/database'],
    [
      'the journal',
      'logs',
      'AWS::Logs::LogGroup',
      'Application',
      'LogGroupName',
      '/aws/containerinsights/orders-production/application',
    ],
  ])('of %s under another name, stops for a person', (_, stack, type, prefix, property, name) => {
    const after = deployed(stack);
    const id = idOf(after, type, prefix);
    Object.assign(after.Resources[id]?.Properties ?? {}, { [property]: 'other' });
    const [change, ...others] = compare(deployed(stack), after).filter(isDestructive);
    expect(others).toEqual([]);
    expect(change).toMatchObject({ type, name });
    expect(describeChange(change as NonNullable<typeof change>)).toMatch(/^DESTRUCTIVE (may )?replace: /);
  });

  it.each([
    ['messaging', 'AWS::SQS::Queue'],
    ['messaging', 'AWS::KMS::Key'],
    ['data', 'AWS::RDS::DBInstance'],
    ['logs', 'AWS::Logs::LogGroup'],
  ])(
    'of what is no longer in %s: %s, stops for a person, also where it would stay in the account',
    (stack, type) => {
      const after = deployed(stack);
      const id = idOf(after, type);
      delete after.Resources[id];
      expect(compare(deployed(stack), after).filter(isDestructive)).toMatchObject([
        { type, effect: 'remove' },
      ]);
    },
  );

  it('of another id for the same queue, stops: CloudFormation knows resources by their ids', () => {
    const after = deployed('messaging');
    const { OrderQueue, ...others } = after.Resources;
    const renamed = { Resources: { ...others, Orders: OrderQueue as NonNullable<typeof OrderQueue> } };
    expect(compare(deployed('messaging'), renamed).filter(isDestructive)).toMatchObject([
      { name: 'order-queue', effect: 'remove' },
    ]);
  });

  it('of an alarm that is removed, goes on', () => {
    const after = deployed('observability');
    delete after.Resources[idOf(after, 'AWS::CloudWatch::Alarm')];
    const changes = compare(deployed('observability'), after);
    expect(changes).toMatchObject([{ type: 'AWS::CloudWatch::Alarm', effect: 'remove' }]);
    expect(changes.filter(isDestructive)).toEqual([]);
  });

  it('what a person has named is allowed, and nothing else', () => {
    const after = deployed('messaging');
    delete after.Resources['OrderQueue'];
    delete after.Resources['DeadLetterQueue'];
    const changes = compare(deployed('messaging'), after);
    expect(notAllowed(changes, ['order-queue']).map(({ name }) => name)).toEqual(['order-dlq']);
    expect(notAllowed(changes, ['order-queue', 'order-dlq'])).toEqual([]);
  });
});

describe('bad input', () => {
  const set = {
    INFRA_ACCOUNT: '111122223333',
    INFRA_GITHUB_REPOSITORY: 'shop/orders',
    INFRA_CLUSTER_ADMIN_ROLE_ARN: 'arn:aws:iam::111122223333:role/administrators',
    INFRA_ALERT_EMAIL: 'orders@example.com',
  };

  it('settings that are missing are all named, before AWS is asked', async () => {
    await expect(openAccount('staging', {})).rejects.toThrow(
      'not set: INFRA_ACCOUNT, INFRA_REGISTRY_ACCOUNT, INFRA_GITHUB_REPOSITORY, INFRA_CLUSTER_ADMIN_ROLE_ARN, INFRA_ALERT_EMAIL',
    );
  });

  it('a region that is not the environment’s is refused, before AWS is asked', async () => {
    await expect(openAccount('staging', { ...set, AWS_REGION: 'us-east-1' })).rejects.toThrow(
      'AWS_REGION is us-east-1, and staging is in ap-northeast-2',
    );
  });

  const failure = (name: string, message: string) => Object.assign(new Error(message), { name });
  it.each([
    [
      failure('ExpiredToken', 'The security token included in the request is expired'),
      /^the credentials have expired: sign in again/,
    ],
    [
      failure('CredentialsProviderError', 'The SSO session associated with this profile has expired.'),
      /^the credentials have expired/,
    ],
    [
      failure('CredentialsProviderError', 'Could not load credentials from any providers'),
      /^no credentials: sign in/,
    ],
    [
      failure('InvalidClientTokenId', 'The security token included in the request is invalid.'),
      /^AWS does not know these credentials/,
    ],
    [
      failure('AccessDenied', 'User: x is not authorized to perform: cloudformation:GetTemplate'),
      /^a right is missing: .*GetTemplate/,
    ],
    [failure('Error', 'getaddrinfo ENOTFOUND sts.ap-northeast-2.amazonaws.com'), /^AWS cannot be reached/],
  ])('%s is explained', (error, explanation) => {
    expect(explainAwsError(error).message).toMatch(explanation);
    expect(explainAwsError(error)).toMatchObject({ code: 'STARTUP', cause: error });
  });

  it('an error that is none of these is passed on', () => {
    const error = new TypeError('not understood');
    expect(explainAwsError(error)).toBe(error);
  });

  it.each([
    ['UPDATE_IN_PROGRESS', /somebody deploys it now/],
    ['ROLLBACK_IN_PROGRESS', /somebody deploys it now/],
    ['ROLLBACK_FAILED', /delete-stack --stack-name orders-staging-data/],
    ['DELETE_FAILED', /delete-stack/],
    ['UPDATE_ROLLBACK_FAILED', /continue-update-rollback --stack-name orders-staging-data/],
    ['UPDATE_FAILED', /rollback-stack/],
  ])('a stack in %s is not deployed, and the way out is named', (status, message) => {
    expect(stuck('orders-staging-data', status)).toMatch(message);
  });

  it.each([
    'CREATE_COMPLETE',
    'UPDATE_COMPLETE',
    'UPDATE_ROLLBACK_COMPLETE',
    'ROLLBACK_COMPLETE',
    'REVIEW_IN_PROGRESS',
  ])('a stack in %s is deployed', (status) => {
    expect(stuck('orders-staging-data', status)).toBeUndefined();
  });

  it('of a deployment that failed, what failed last is told, with what to do; what was cancelled by it is not', () => {
    const event = (id: string, status: string, reason = '') => ({
      StackId: '1',
      EventId: `${id}-${status}`,
      StackName: 'orders-staging-messaging',
      Timestamp: new Date(0),
      LogicalResourceId: id,
      ResourceType: 'AWS::SQS::Queue',
      ResourceStatus: status as 'CREATE_FAILED',
      ResourceStatusReason: reason,
    });
    const stack = 'orders-staging-messaging';
    // Newest first.
    const events = [
      event(stack, 'ROLLBACK_COMPLETE'),
      event(stack, 'ROLLBACK_IN_PROGRESS', 'The following resource(s) failed to create'),
      event('Other', 'CREATE_FAILED', 'Resource creation cancelled'),
      event(
        'OrderQueue',
        'CREATE_FAILED',
        'Resource of type AWS::SQS::Queue with identifier order-queue already exists.',
      ),
      event('Key', 'CREATE_FAILED', 'User: x is not authorized to perform: kms:CreateKey'),
      event(stack, 'CREATE_IN_PROGRESS'),
      event('Earlier', 'CREATE_FAILED', 'an earlier deployment'),
    ];
    expect(explainFailure(stack, events)).toEqual([
      expect.stringMatching(/^orders-staging-messaging\/OrderQueue .*already exists.*The name is taken/),
      expect.stringMatching(/^orders-staging-messaging\/Key .*kms:CreateKey.*A right is missing/),
    ]);
  });
});

describe('a first creation that failed', () => {
  const asked = (stack: { StackStatus: string; EnableTerminationProtection: boolean }) => {
    const calls: unknown[] = [];
    const client = {
      describeStacks: async () => ({ Stacks: [stack] }),
      updateTerminationProtection: async (call: unknown) => void calls.push(call),
    };
    return { calls, stacks: new DeployedStacks(client as unknown as CloudFormation) };
  };

  it('in production, loses its protection, or CDK could not delete it and try again', async () => {
    const { calls, stacks } = asked({ StackStatus: 'ROLLBACK_COMPLETE', EnableTerminationProtection: true });
    await stacks.unprotectFailedCreation('orders-production-messaging');
    expect(calls).toEqual([{ StackName: 'orders-production-messaging', EnableTerminationProtection: false }]);
  });

  it.each([
    ['CREATE_COMPLETE', true],
    ['UPDATE_ROLLBACK_COMPLETE', true],
    ['ROLLBACK_COMPLETE', false],
  ])('a stack in %s (protected: %s) is left as it is', async (StackStatus, EnableTerminationProtection) => {
    const { calls, stacks } = asked({ StackStatus, EnableTerminationProtection });
    await stacks.unprotectFailedCreation('orders-production-messaging');
    expect(calls).toEqual([]);
  });

  it('counts as nothing: all of it would be created', async () => {
    const { stacks } = asked({ StackStatus: 'ROLLBACK_COMPLETE', EnableTerminationProtection: true });
    const template = deployed('messaging') as unknown as Template;
    const changes = await stacks.changes({ stackName: 'orders-production-messaging', template });
    expect(changes.filter(({ type }) => type).every(({ effect }) => effect === 'create')).toBe(true);
  });
});
