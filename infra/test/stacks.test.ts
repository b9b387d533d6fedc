import { existsSync, globSync } from 'node:fs';
import path from 'node:path';
import { deadLetterQueueDefinition, orderQueueDefinition } from '@orders/shared/sqs/queues.ts';
import { describe, expect, it } from 'vitest';
import { RIGHTS as DLQ } from '../../scripts/dlq.ts';
import type { SqsRights } from '../../scripts/sqs-tool.ts';
import { ENVIRONMENTS, type EnvironmentName } from '../environments.ts';
import { KEDA_RIGHTS, MESSAGE_KEY_RIGHTS, SERVICE_RIGHTS } from '../rights.ts';
import { COPIES } from '../stacks/registry.ts';
import { THRESHOLDS } from '../thresholds.ts';
import {
  allowedTo,
  ofType,
  type Resource,
  type Statement,
  statementsIn,
  synthesised,
  theOnly,
} from './synthesised.ts';

const both: readonly EnvironmentName[] = ['staging', 'production'];
const DAY_SECONDS = 24 * 60 * 60;

describe.each(both)('queues of %s', (name) => {
  const queue = () => theOnly(name, 'AWS::SQS::Queue', { QueueName: 'order-queue' });
  const deadLetterQueue = () => theOnly(name, 'AWS::SQS::Queue', { QueueName: 'order-dlq' });

  it('have exactly the attributes of the one definition', () => {
    const asAttributes = ({
      Properties: { QueueName: _, Tags: __, RedriveAllowPolicy: ___, ...rest },
    }: Resource) =>
      Object.fromEntries(
        Object.entries(rest).map(([key, value]) => [key, typeof value === 'object' ? value : String(value)]),
      );
    const arn = 'arn:aws:sqs:ap-northeast-2:<AWS::AccountId>:order-dlq';
    const { RedrivePolicy = '', ...orders } = orderQueueDefinition(name, 'order-queue', arn).attributes;
    expect(asAttributes(queue())).toEqual({ ...orders, RedrivePolicy: JSON.parse(RedrivePolicy) });
    expect(asAttributes(deadLetterQueue())).toEqual(deadLetterQueueDefinition(name, 'order-dlq').attributes);
  });

  it('let only the order queue use the dead-letter queue', () => {
    expect(deadLetterQueue().Properties['RedriveAllowPolicy']).toEqual({
      redrivePermission: 'byQueue',
      sourceQueueArns: ['arn:aws:sqs:ap-northeast-2:<AWS::AccountId>:order-queue'],
    });
  });

  it('say whose they are, to manage-queues.sh', () => {
    for (const { Properties } of [queue(), deadLetterQueue()])
      expect(Properties['Tags']).toEqual([
        { Key: 'order-pipeline/environment', Value: name },
        { Key: 'order-pipeline/owner', Value: 'infra' },
      ]);
  });

  it('refuse plaintext and foreign accounts, each queue', () => {
    const policies = ofType(name, 'AWS::SQS::QueuePolicy').filter(({ stack }) => stack === 'messaging');
    expect(policies.map(({ Properties }) => Properties['Queues'])).toEqual([
      ['<DeadLetterQueue>'],
      ['<OrderQueue>'],
    ]);
    for (const { Properties } of policies) {
      const statements = statementsIn(Properties['PolicyDocument']);
      expect(
        statements.map(({ Effect, Action, Principal, Condition }) => [Effect, Action, Principal, Condition]),
      ).toEqual([
        ['Deny', 'sqs:*', { AWS: '*' }, { Bool: { 'aws:SecureTransport': 'false' } }],
        [
          'Deny',
          'sqs:*',
          { AWS: '*' },
          {
            StringNotEquals: { 'aws:PrincipalAccount': '<AWS::AccountId>' },
            Bool: { 'aws:PrincipalIsAWSService': 'false' },
          },
        ],
      ]);
    }
  });

  it('outlive their stack', () => {
    for (const { DeletionPolicy } of [queue(), deadLetterQueue()])
      expect(DeletionPolicy).toBe('RetainExceptOnCreate');
  });

  it('come with a key for the orders in their messages, in production, that outlives the stack and whose ARN is told', () => {
    const parameters = ofType(name, 'AWS::SSM::Parameter').filter(
      ({ Properties }) => Properties['Name'] === `/orders/${name}/message-key`,
    );
    const keys = ofType(name, 'AWS::KMS::Key').filter(({ id }) => id.startsWith('MessageKey'));
    expect(keys.map(({ DeletionPolicy }) => DeletionPolicy)).toEqual(
      name === 'production' ? ['RetainExceptOnCreate'] : [],
    );
    expect(parameters.map(({ Properties }) => Properties['Value'])).toEqual(
      keys.map(({ id }) => `<${id}.Arn>`),
    );
  });
});

it('every key of ours changes once a year', () => {
  for (const name of both)
    for (const { Properties, id } of ofType(name, 'AWS::KMS::Key'))
      expect({ id, rotates: Properties['EnableKeyRotation'] }).toEqual({ id, rotates: true });
  for (const AliasName of ['alias/order-queues', 'alias/order-messages'])
    expect(theOnly('production', 'AWS::KMS::Alias', { AliasName }).stack).toBe('messaging');
});

describe.each(both)('network of %s', (name) => {
  it('has no route to the internet', () => {
    for (const type of [
      'AWS::EC2::InternetGateway',
      'AWS::EC2::NatGateway',
      'AWS::EC2::EIP',
      'AWS::EC2::Route',
    ])
      expect(ofType(name, type)).toEqual([]);
    for (const { Properties } of ofType(name, 'AWS::EC2::Subnet'))
      expect(Properties['MapPublicIpOnLaunch']).toBe(false);
  });

  it('has three kinds of subnets in each of three zones', () => {
    const zones = ofType(name, 'AWS::EC2::Subnet').map(({ Properties }) => Properties['AvailabilityZone']);
    expect(zones.toSorted()).toEqual(ENVIRONMENTS[name].zones.flatMap((zone) => [zone, zone, zone]));
  });

  it('reaches exactly the services of AWS that nodes, pods and rotation need, by their usual names', () => {
    const endpoints = ofType(name, 'AWS::EC2::VPCEndpoint').filter(
      ({ Properties }) => Properties['VpcEndpointType'] === 'Interface',
    );
    const services = endpoints.map(({ Properties }) =>
      String(Properties['ServiceName']).replace(`com.amazonaws.${ENVIRONMENTS[name].region}.`, ''),
    );
    const needed = ['sqs', 'kms', 'secretsmanager', 'sts', 'logs', 'monitoring', 'ecr.api', 'ecr.dkr'];
    expect(services.toSorted()).toEqual([...needed, 'eks-auth', 'ec2', 'elasticloadbalancing'].toSorted());
    for (const { Properties } of endpoints) {
      expect(Properties['PrivateDnsEnabled']).toBe(true);
      expect(Properties['SubnetIds']).toHaveLength(3);
    }
  });

  it('lets only this account through the endpoints, to its own queues, keys, secrets and logs', () => {
    for (const { Properties } of ofType(name, 'AWS::EC2::VPCEndpoint')) {
      const service = String(Properties['ServiceName']);
      const [statement, ...others] = statementsIn(Properties['PolicyDocument']);
      expect(others).toEqual([]);
      if (Properties['VpcEndpointType'] === 'Gateway') {
        expect(statement).toMatchObject({
          Action: 's3:GetObject',
          Resource: 'arn:aws:s3:::prod-ap-northeast-2-starport-layer-bucket/*',
        });
        continue;
      }
      const own = /\.(sqs|kms|secretsmanager|logs)$/.test(service);
      expect({ service, ...statement?.Condition?.['StringEquals'] }).toEqual({
        service,
        'aws:PrincipalAccount': '<AWS::AccountId>',
        ...(own ? { 'aws:ResourceAccount': '<AWS::AccountId>' } : {}),
      });
    }
  });

  it('opens exactly these ports between exactly these groups', () => {
    expect(connections(name)).toEqual(
      [
        `10.${name === 'staging' ? 20 : 30}.0.0/16 -> LoadBalancer 80`,
        `10.${name === 'staging' ? 20 : 30}.0.0/16 -> LoadBalancer 443`,
        'LoadBalancer -> Nodes 8080',
        'LoadBalancer -> Nodes 8081',
        'Nodes -> Nodes all',
        'Nodes -> Endpoints 443',
        'Nodes -> Database 5432',
        'Nodes -> pl-78a54011 443',
        'Nodes -> Cluster 443',
        'Database -> Database 5432',
        'Database -> Endpoints 443',
        ...[10250, 10251, 6443, 9443, 8080, 8081, 8082].map((port) => `Cluster -> Nodes ${port}`),
      ].toSorted(),
    );
  });

  it('records who connects to whom', () => {
    expect(theOnly(name, 'AWS::EC2::FlowLog').Properties).toMatchObject({
      TrafficType: 'ALL',
      LogDestinationType: 'cloud-watch-logs',
    });
  });
});

/** Every rule of every group as `from -> to port`; a connection of two of our groups is one, and needs both rules. */
function connections(name: EnvironmentName): string[] {
  const short = (group: unknown) =>
    String(group)
      .replace(/^<(\w+?)([0-9A-F]{8})?\.(GroupId|ClusterSecurityGroupId)>$/, '$1')
      .replace(/^<(\w+?)[0-9A-F]{8}.*>$/, '$1');
  const out = new Set<string>();
  const into = new Set<string>();
  const port = ({ IpProtocol, FromPort, ToPort }: Record<string, unknown>) =>
    IpProtocol === '-1' ? 'all' : FromPort === ToPort ? FromPort : `${FromPort}-${ToPort}`;
  for (const { Properties, id } of ofType(name, 'AWS::EC2::SecurityGroup')) {
    const group = short(`<${id}.GroupId>`);
    for (const rule of (Properties['SecurityGroupEgress'] ?? []) as Record<string, unknown>[]) {
      // What CDK writes where nothing may go out: AWS would let out everything if the list were empty.
      if (rule['CidrIp'] === '255.255.255.255/32' && rule['IpProtocol'] === 'icmp') continue;
      out.add(`${group} -> ${rule['CidrIp']} ${port(rule)}`);
    }
    for (const rule of (Properties['SecurityGroupIngress'] ?? []) as Record<string, unknown>[])
      into.add(`${rule['CidrIp']} -> ${group} ${port(rule)}`);
  }
  for (const { Properties } of ofType(name, 'AWS::EC2::SecurityGroupEgress'))
    out.add(
      `${short(Properties['GroupId'])} -> ${Properties['DestinationPrefixListId'] ?? short(Properties['DestinationSecurityGroupId'])} ${port(Properties)}`,
    );
  for (const { Properties } of ofType(name, 'AWS::EC2::SecurityGroupIngress'))
    into.add(
      `${short(Properties['SourceSecurityGroupId'])} -> ${short(Properties['GroupId'])} ${port(Properties)}`,
    );
  // EKS's own group lets out everything to begin with; only its rule inwards is ours.
  const half = [...out, ...into].filter((rule) => !(out.has(rule) && into.has(rule)));
  const halves = half.filter((rule) => /^(LoadBalancer|Nodes|Database) -> [A-Z]/.test(rule));
  expect(halves).toEqual([]);
  return [...new Set([...out, ...into])].toSorted();
}

describe.each(both)('database of %s', (name) => {
  const { database } = ENVIRONMENTS[name];

  it('is encrypted, private, backed up, and signs in over TLS only', () => {
    expect(theOnly(name, 'AWS::RDS::DBInstance').Properties).toMatchObject({
      Engine: 'postgres',
      StorageEncrypted: true,
      KmsKeyId: expect.stringMatching(/^<Key\w*\.Arn>$/),
      PubliclyAccessible: false,
      EnableIAMDatabaseAuthentication: true,
      MultiAZ: database.multiAz,
      BackupRetentionPeriod: database.backupDays,
      DeletionProtection: database.deletionProtection,
    });
    expect(theOnly(name, 'AWS::RDS::DBParameterGroup').Properties['Parameters']).toEqual({
      'rds.force_ssl': '1',
      ssl_min_protocol_version: 'TLSv1.2',
    });
    expect(theOnly(name, 'AWS::RDS::DBInstance').DeletionPolicy).toBe('Snapshot');
  });

  it('has its passwords rotated every 90 days, the consumers by two users in turn', () => {
    const rotations = ofType(name, 'AWS::SecretsManager::RotationSchedule').map(
      ({ Properties }) => Properties,
    );
    expect(rotations).toHaveLength(2);
    for (const rotation of rotations)
      expect(rotation).toMatchObject({ RotationRules: { ScheduleExpression: 'rate(90 days)' } });
    expect(
      rotations
        .map(({ HostedRotationLambda }) => (HostedRotationLambda as { RotationType: string }).RotationType)
        .toSorted(),
    ).toEqual(['PostgreSQLMultiUser', 'PostgreSQLSingleUser']);
    // The fields that AWS's function reads; host, port and engine come with the attachment.
    const { GenerateSecretString } = theOnly(name, 'AWS::SecretsManager::Secret', {
      Name: `orders/${name}/database`,
    }).Properties as { GenerateSecretString: { SecretStringTemplate: string } };
    expect(JSON.parse(GenerateSecretString.SecretStringTemplate)).toMatchObject({
      username: 'orders_1',
      dbname: 'orders',
      masterarn: expect.stringMatching(/^<MasterSecret/),
    });
  });
});

it('production survives the loss of a zone, and of its stack', () => {
  expect(ENVIRONMENTS.production.database).toMatchObject({ multiAz: true, deletionProtection: true });
  expect(ENVIRONMENTS.production.kubernetes.minNodes).toBeGreaterThanOrEqual(
    ENVIRONMENTS.production.zones.length,
  );
});

describe.each(both)('secrets of %s', (name) => {
  it('hold no value that somebody wrote down', () => {
    for (const { Properties } of ofType(name, 'AWS::SecretsManager::Secret')) {
      expect(Properties).not.toHaveProperty('SecretString');
      expect(Properties['KmsKeyId']).toMatch(/^<Key\w*\.Arn>$/);
    }
  });

  it('refuse other accounts and the roles of other environments, each of them', () => {
    const policies = ofType(name, 'AWS::SecretsManager::ResourcePolicy');
    expect(policies).toHaveLength(ofType(name, 'AWS::SecretsManager::Secret').length);
    for (const { Properties } of policies) {
      expect(Properties['BlockPublicPolicy']).toBe(true);
      const statements = statementsIn(Properties['ResourcePolicy']);
      expect(statements.every(({ Effect }) => Effect === 'Deny')).toBe(true);
      const refused = ['DeleteSecret', 'GetSecretValue', 'PutSecretValue', 'UpdateSecret'];
      const ours = statements.filter(({ Action }) => Action.includes('secretsmanager:GetSecretValue'));
      for (const { Action } of ours)
        expect(Action).toEqual(refused.map((action) => `secretsmanager:${action}`));
      expect(ours.map(({ Condition }) => Condition)).toEqual([
        { StringNotEquals: { 'aws:PrincipalAccount': '<AWS::AccountId>' } },
        {
          StringNotEquals: { 'aws:PrincipalTag/order-pipeline/environment': name },
          Null: { 'aws:PrincipalTag/order-pipeline/environment': 'false' },
        },
      ]);
    }
  });

  it('every role says which environment it belongs to', () => {
    for (const { Properties } of ofType(name, 'AWS::IAM::Role'))
      expect(Properties['Tags']).toContainEqual({ Key: 'order-pipeline/environment', Value: name });
  });
});

/** As `allowedTo` writes them. */
function sqsRights({ both = [], queue = [], deadLetterQueue = [] }: SqsRights): string[] {
  const on = (id: string, actions: readonly string[]) => actions.map((action) => `sqs:${action} <${id}.Arn>`);
  return [...on('OrderQueue', [...both, ...queue]), ...on('DeadLetterQueue', [...both, ...deadLetterQueue])];
}
const withoutKey = (rights: string[]) => rights.filter((right) => !right.startsWith('kms:'));
/** On the key of the queues, or on that of messages. */
const keyRights = (rights: string[], key: RegExp = /<Key/) =>
  rights.filter((right) => right.startsWith('kms:') && key.test(right)).map((right) => right.split(' ')[0]);

describe.each(both)('roles of pods in %s', (name) => {
  it('may do what the services call, and nothing else', () => {
    expect(withoutKey(allowedTo(name, `orders-${name}-producer`))).toEqual(
      sqsRights(SERVICE_RIGHTS.producer).toSorted(),
    );
    expect(withoutKey(allowedTo(name, `orders-${name}-consumer`))).toEqual(
      sqsRights(SERVICE_RIGHTS.consumer).toSorted(),
    );
    expect(allowedTo(name, `orders-${name}-keda`)).toEqual(sqsRights(KEDA_RIGHTS));
  });

  it('may use the key of the queues where there is one, by way of SQS alone', () => {
    const expected = name === 'production' ? ['kms:Decrypt', 'kms:GenerateDataKey'] : [];
    for (const service of ['producer', 'consumer'])
      expect(keyRights(allowedTo(name, `orders-${name}-${service}`))).toEqual(expected);
    const onKey = ofType(name, 'AWS::IAM::Policy')
      .filter(({ stack }) => stack === 'access' || stack === 'delivery')
      .flatMap(({ Properties }) => statementsIn(Properties['PolicyDocument']))
      .filter(({ Action }) => [Action].flat().some((action) => action.startsWith('kms:')));
    for (const { Condition, Resource } of onKey)
      if (!/<MessageKey/.test(String(Resource)))
        expect(Condition?.['StringEquals']?.['kms:ViaService']).toMatch(
          /^(sqs|secretsmanager)\.ap-northeast-2\.amazonaws\.com$/,
        );
  });

  it('may use the key of messages where there is one, as the services call KMS, for messages of this environment alone', () => {
    const services = ['producer', 'consumer'] as const;
    for (const service of services)
      expect(keyRights(allowedTo(name, `orders-${name}-${service}`), /<MessageKey/)).toEqual(
        name === 'production' ? MESSAGE_KEY_RIGHTS[service] : [],
      );
    const conditions = ofType(name, 'AWS::IAM::Policy')
      .flatMap(({ Properties }) => statementsIn(Properties['PolicyDocument']))
      .filter(({ Resource }) => /<MessageKey/.test(String(Resource)))
      .map(({ Condition }) => Condition);
    const condition = { StringEquals: { 'kms:EncryptionContext:environment': name } };
    expect(conditions).toEqual(name === 'production' ? services.map(() => condition) : []);
  });

  it('External Secrets reads the two secrets that its manifests name, and no other', () => {
    const readable = allowedTo(name, `orders-${name}-secrets`).filter((right) =>
      right.includes('GetSecretValue'),
    );
    expect(readable).toEqual([expect.stringMatching(/<Clients/), expect.stringMatching(/<SecretAttachment/)]);
  });

  it('the load balancer controller changes load balancers of its cluster alone, and no security group', () => {
    const rights = allowedTo(name, `orders-${name}-load-balancers`);
    const changing = rights.filter((right) => !/^(ec2|elasticloadbalancing):Describe/.test(right));
    for (const right of changing)
      expect(right).toMatch(
        /^elasticloadbalancing:\w+ arn:aws:elasticloadbalancing:ap-northeast-2:<AWS::AccountId>:(loadbalancer\/app|targetgroup|listener\/app|listener-rule\/app)\/\*$/,
      );
    const { id, stack } = theOnly(name, 'AWS::IAM::Role', { RoleName: `orders-${name}-load-balancers` });
    const statements = ofType(name, 'AWS::IAM::Policy')
      .filter(
        ({ Properties, stack: of }) => of === stack && (Properties['Roles'] as string[]).includes(`<${id}>`),
      )
      .flatMap(({ Properties }) => statementsIn(Properties['PolicyDocument']))
      .filter(({ Resource }) => [Resource].flat().some((arn) => arn?.includes('loadbalancer/app')));
    expect(statements.map(({ Condition }) => Condition)).toEqual([
      { StringEquals: { 'aws:RequestTag/elbv2.k8s.aws/cluster': `orders-${name}` } },
      { StringEquals: { 'aws:ResourceTag/elbv2.k8s.aws/cluster': `orders-${name}` } },
    ]);
  });

  it('are handed out to pods of one service account of one cluster', () => {
    const trust = (role: string) =>
      statementsIn(
        theOnly(name, 'AWS::IAM::Role', { RoleName: `orders-${name}-${role}` }).Properties[
          'AssumeRolePolicyDocument'
        ],
      );
    for (const [role, namespace, account] of [
      ['producer', name, 'order-producer'],
      ['consumer', name, 'order-consumer'],
      ['keda', 'keda', 'keda-operator'],
      ['secrets', 'external-secrets', 'external-secrets'],
      ['load-balancers', 'kube-system', 'aws-load-balancer-controller'],
    ] as const) {
      const statements = trust(role);
      expect(statements.flatMap(({ Action }) => Action).toSorted()).toEqual([
        'sts:AssumeRole',
        'sts:TagSession',
      ]);
      for (const { Principal, Condition } of statements) {
        expect(Principal).toEqual({ Service: 'pods.eks.amazonaws.com' });
        expect(Condition).toEqual({
          StringEquals: {
            'aws:RequestTag/eks-cluster-name': `orders-${name}`,
            'aws:RequestTag/kubernetes-namespace': namespace,
            'aws:RequestTag/kubernetes-service-account': account,
          },
        });
      }
      expect(
        theOnly(name, 'AWS::EKS::PodIdentityAssociation', { ServiceAccount: account }).Properties[
          'Namespace'
        ],
      ).toBe(namespace);
    }
  });
});

describe("the pipeline's roles", () => {
  const trusted = (name: EnvironmentName, role: string) => {
    const [statement, ...others] = statementsIn(
      theOnly(name, 'AWS::IAM::Role', { RoleName: role }).Properties['AssumeRolePolicyDocument'],
    );
    expect(others).toEqual([]);
    expect(statement?.Action).toBe('sts:AssumeRoleWithWebIdentity');
    return statement?.Condition;
  };
  const run = (subject: string, workflow: string) => ({
    StringEquals: {
      'token.actions.githubusercontent.com:aud': 'sts.amazonaws.com',
      'token.actions.githubusercontent.com:sub': `repo:example-owner/example-repository:${subject}`,
      'token.actions.githubusercontent.com:ref': 'refs/heads/main',
      'token.actions.githubusercontent.com:job_workflow_ref': `example-owner/example-repository/.github/workflows/${workflow}@refs/heads/main`,
    },
  });

  it('are for one workflow of one branch and environment', () => {
    expect(trusted('staging', 'orders-staging-deploy')).toEqual(
      run('environment:staging', 'deploy-staging.yml'),
    );
    expect(trusted('staging', 'orders-staging-test')).toEqual(
      run('environment:staging', 'deploy-staging.yml'),
    );
    expect(trusted('production', 'orders-production-deploy')).toEqual(
      run('environment:production', 'deploy-production.yml'),
    );
    expect(trusted('production', 'orders-production-rollback')).toEqual(
      run('environment:production-rollback', 'deploy-production.yml'),
    );
    expect(trusted('production', 'orders-images')).toEqual(run('ref:refs/heads/main', 'images.yml'));
  });

  it.each(both)('redrive in %s as scripts/dlq.sh does, and the rollback does nothing else', (name) => {
    const find = `eks:DescribeCluster arn:aws:eks:ap-northeast-2:<AWS::AccountId>:cluster/orders-${name}`;
    const redrive = [...sqsRights(DLQ.redrive), find].toSorted();
    const deploy = withoutKey(allowedTo(name, `orders-${name}-deploy`));
    const [events, stacks] = [
      'events:PutEvents arn:aws:events:ap-northeast-2:<AWS::AccountId>:event-bus/default',
      `arn:aws:cloudformation:ap-northeast-2:<AWS::AccountId>:stack/orders-${name}-*`,
    ];
    const tells = [events, `cloudformation:DescribeStacks ${stacks}`, `cloudformation:GetTemplate ${stacks}`];
    expect(deploy.filter((right) => !right.startsWith('ecr:'))).toEqual([...redrive, ...tells].toSorted());
    if (name === 'production')
      expect(withoutKey(allowedTo(name, 'orders-production-rollback'))).toEqual(redrive);
  });

  it('push to nothing but the two repositories', () => {
    const pushes = allowedTo('production', 'orders-images').filter((right) =>
      right.startsWith('ecr:PutImage'),
    );
    expect(pushes).toEqual(
      ['order-consumer', 'order-producer'].map(
        (repository) => `ecr:PutImage arn:aws:ecr:ap-northeast-2:<AWS::AccountId>:repository/${repository}`,
      ),
    );
  });
});

it('the registry keeps tags as they are, and scans; production has it', () => {
  expect(ofType('staging', 'AWS::ECR::Repository')).toEqual([]);
  const repositories = ofType('production', 'AWS::ECR::Repository').map(({ Properties }) => Properties);
  expect(repositories.map(({ RepositoryName }) => RepositoryName)).toEqual([
    'order-producer',
    'order-consumer',
    ...COPIES,
  ]);
  for (const repository of repositories)
    expect(repository).toMatchObject({
      ImageTagMutability: 'IMMUTABLE',
      ImageScanningConfiguration: { ScanOnPush: true },
    });
});

describe.each(both)('cluster of %s', (name) => {
  it('is reached from inside alone, by who has an entry, and tells what is done in it', () => {
    expect(theOnly(name, 'AWS::EKS::Cluster').Properties).toMatchObject({
      AccessConfig: { AuthenticationMode: 'API', BootstrapClusterCreatorAdminPermissions: false },
      ResourcesVpcConfig: { EndpointPrivateAccess: true, EndpointPublicAccess: false },
      Logging: { ClusterLogging: { EnabledTypes: expect.arrayContaining([{ Type: 'audit' }]) } },
      EncryptionConfig: [{ Resources: ['secrets'] }],
    });
    const groups = ofType(name, 'AWS::EKS::AccessEntry').map(
      ({ Properties }) => Properties['KubernetesGroups'],
    );
    const expected =
      name === 'production' ? [['order-deployers'], ['order-rollback']] : [['order-deployers']];
    expect(groups.filter(Boolean)).toEqual(expected);
  });

  it('has nodes in our group alone, whose role pods do not reach, on encrypted disks', () => {
    const { LaunchTemplateData } = theOnly(name, 'AWS::EC2::LaunchTemplate').Properties;
    expect(LaunchTemplateData).toMatchObject({
      SecurityGroupIds: [expect.stringMatching(/^<Nodes/)],
      MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
      BlockDeviceMappings: [{ Ebs: { Encrypted: true } }],
    });
  });

  it('has the add-ons that k8s/ needs, with NetworkPolicies enforced', () => {
    const addOns = ofType(name, 'AWS::EKS::Addon').map(({ Properties }) => Properties);
    expect(addOns.map(({ AddonName }) => AddonName).toSorted()).toEqual([
      'amazon-cloudwatch-observability',
      'coredns',
      'eks-pod-identity-agent',
      'kube-proxy',
      'metrics-server',
      'vpc-cni',
    ]);
    const cni = addOns.find(({ AddonName }) => AddonName === 'vpc-cni');
    expect(JSON.parse(String(cni?.['ConfigurationValues']))).toEqual({ enableNetworkPolicy: 'true' });
  });
});

describe.each(both)('logs of %s', (name) => {
  const groups = () => ofType(name, 'AWS::Logs::LogGroup').map(({ Properties }) => Properties);

  it('have an end and a key, each group', () => {
    expect(groups()).toHaveLength(8);
    for (const group of groups()) {
      expect(group['RetentionInDays']).toBeGreaterThan(0);
      expect(group['KmsKeyId']).toMatch(/^<Key\w*\.Arn>$/);
    }
  });

  it('keep the acceptance journal for as long as an order may still be on its way', () => {
    const { attributes } = deadLetterQueueDefinition(name, '');
    const days = Number(attributes.MessageRetentionPeriod) / DAY_SECONDS;
    const journal = groups().find(({ LogGroupName }) => String(LogGroupName).endsWith('/application'));
    expect(journal?.['RetentionInDays']).toBeGreaterThan(days);
    expect(journal?.['LogGroupName']).toBe(`/aws/containerinsights/orders-${name}/application`);
  });
});

describe.each(both)('audit of %s', (name) => {
  it('records all regions, with digests, into a bucket that nobody can empty', () => {
    expect(theOnly(name, 'AWS::CloudTrail::Trail').Properties).toMatchObject({
      IsLogging: true,
      IsMultiRegionTrail: true,
      EnableLogFileValidation: true,
      KMSKeyId: expect.stringMatching(/^<Key\w*\.Arn>$/),
    });
    expect(theOnly(name, 'AWS::S3::Bucket')).toMatchObject({
      DeletionPolicy: 'RetainExceptOnCreate',
      Properties: {
        ObjectLockEnabled: true,
        ObjectLockConfiguration: {
          Rule: { DefaultRetention: { Mode: 'COMPLIANCE', Days: ENVIRONMENTS[name].audit.lockDays } },
        },
        PublicAccessBlockConfiguration: {
          BlockPublicAcls: true,
          BlockPublicPolicy: true,
          IgnorePublicAcls: true,
          RestrictPublicBuckets: true,
        },
        VersioningConfiguration: { Status: 'Enabled' },
      },
    });
    const statements = statementsIn(theOnly(name, 'AWS::S3::BucketPolicy').Properties['PolicyDocument']);
    const denied = statements.filter(({ Effect }) => Effect === 'Deny').map(({ Condition }) => Condition);
    expect(denied).toContainEqual({ Bool: { 'aws:SecureTransport': 'false' } });
    for (const { Condition } of statements.filter(({ Effect }) => Effect === 'Allow'))
      expect(Condition?.['StringEquals']?.['aws:SourceArn']).toMatch(/:trail\/orders-\w+-audit$/);
  });

  it('records the calls on both queues where the environment says so', () => {
    const { AdvancedEventSelectors } = theOnly(name, 'AWS::CloudTrail::Trail').Properties;
    const data = (AdvancedEventSelectors as { Name: string; FieldSelectors: object[] }[]).filter(
      ({ Name }) => Name === 'Messages',
    );
    expect(data).toEqual(
      name === 'production'
        ? [
            {
              Name: 'Messages',
              FieldSelectors: [
                { Field: 'eventCategory', Equals: ['Data'] },
                { Field: 'resources.type', Equals: ['AWS::SQS::Queue'] },
                { Field: 'resources.ARN', Equals: ['<OrderQueue.Arn>', '<DeadLetterQueue.Arn>'] },
              ],
            },
          ]
        : [],
    );
  });
});

describe.each(both)('alarms of %s', (name) => {
  const alarm = (AlarmName: string) => theOnly(name, 'AWS::CloudWatch::Alarm', { AlarmName }).Properties;

  it("are the guideline's, on the metric that exists", () => {
    expect(alarm('SQS-DLQ-Messages-High')).toMatchObject({
      Namespace: 'AWS/SQS',
      MetricName: 'ApproximateNumberOfMessagesVisible',
      Dimensions: [{ Name: 'QueueName', Value: 'order-dlq' }],
      Threshold: THRESHOLDS.deadLetters.critical,
      ComparisonOperator: 'GreaterThanThreshold',
      Period: 300,
    });
    expect(alarm('SQS-Queue-Depth-High')).toMatchObject({
      MetricName: 'ApproximateNumberOfMessagesVisible',
      Dimensions: [{ Name: 'QueueName', Value: 'order-queue' }],
      Threshold: 100,
      Statistic: 'Average',
      Period: 300,
    });
    expect(alarm('Orders-Processing-Delay-High')).toMatchObject({
      MetricName: 'ApproximateAgeOfOldestMessage',
      Threshold: 300,
    });
    expect(alarm('Orders-Error-Rate-High')).toMatchObject({ Threshold: 5 });
    expect(alarm('SQS-In-Flight-High')).toMatchObject({
      MetricName: 'ApproximateNumberOfMessagesNotVisible',
      Threshold: 96_000,
    });
  });

  it('decide what no data means, and tell somebody of the alarm and of its end', () => {
    for (const { Properties } of ofType(name, 'AWS::CloudWatch::Alarm')) {
      expect(['notBreaching', 'breaching']).toContain(Properties['TreatMissingData']);
      expect(Properties['OKActions']).toEqual(Properties['AlarmActions']);
      // Those that others are made of tell nobody themselves.
      if (!/-(Acknowledged|\d+-Minutes)$/.test(String(Properties['AlarmName'])))
        expect(Properties['AlarmActions']).toHaveLength(1);
    }
  });

  it('name a page of docs/runbooks that is there', () => {
    const described = [
      ...ofType(name, 'AWS::CloudWatch::Alarm'),
      ...ofType(name, 'AWS::CloudWatch::CompositeAlarm'),
    ].filter(({ Properties }) => Properties['AlarmActions'] !== undefined);
    expect(described.length).toBeGreaterThan(20);
    for (const { Properties } of described) {
      const [, page] = /Runbook: https:\S+\/(\w+\.md)$/.exec(String(Properties['AlarmDescription'])) ?? [];
      expect({ of: Properties['AlarmName'], page, is: existsSync(`docs/runbooks/${page}`) }).toMatchObject({
        is: true,
      });
    }
  });

  it.each([
    ['critical', '<critical', 3, 5, 15, 60],
    ['high', '<warning', 2, 15, 60, 240],
  ])(
    "tell the next tiers of a %s one that lasts, at the matrix's times, unless somebody acknowledges it",
    (_, topic, count, respondWithin, escalateAfter, repeat) => {
      const composites = ofType(name, 'AWS::CloudWatch::CompositeAlarm');
      const escalating = ofType(name, 'AWS::CloudWatch::Alarm').filter(
        ({ Properties }) =>
          String(Properties['AlarmActions']).startsWith(topic) &&
          composites.some(
            (composite) => composite.Properties['AlarmName'] === `${Properties['AlarmName']}-Unattended`,
          ),
      );
      expect(escalating).toHaveLength(count);
      for (const { Properties } of escalating) {
        const alarmName = Properties['AlarmName'] as string;
        for (const [suffix, minutes, tier] of [
          ['Unanswered', respondWithin, /^<secondtier/],
          ['Unattended', escalateAfter, /^<escalation/],
        ] as const) {
          const { Properties: next } = theOnly(name, 'AWS::CloudWatch::CompositeAlarm', {
            AlarmName: `${alarmName}-${suffix}`,
          });
          expect(next['AlarmActions']).toEqual([expect.stringMatching(tier)]);
          expect(next['OKActions']).toEqual(next['AlarmActions']);
          const lasting = alarm(`${alarmName}-${minutes}-Minutes`);
          expect(Number(lasting['DatapointsToAlarm']) * 300).toBe(300 + minutes * 60);
          expect(lasting).toMatchObject({ Threshold: Properties['Threshold'] });
          expect(next['AlarmRule']).toMatch(
            /^\(ALARM\(.*Minutes.*\) AND \(NOT \(ALARM\(.*Acknowledged.*\)\)\)\)$/,
          );
        }
        expect(alarm(`${alarmName}-Acknowledged`)).toMatchObject({
          Namespace: 'Orders/Alerts',
          MetricName: 'Acknowledged',
          Dimensions: [{ Name: 'Alarm', Value: alarmName }],
          EvaluationPeriods: (repeat * 60) / 300,
          DatapointsToAlarm: 1,
          TreatMissingData: 'notBreaching',
        });
      }
    },
  );

  it('make one of those by which orders are at risk', () => {
    expect(
      theOnly(name, 'AWS::CloudWatch::CompositeAlarm', { AlarmName: 'Orders-At-Risk' }).Properties[
        'AlarmRule'
      ],
    ).toMatch(/ALARM.* OR .*ALARM.* OR .*ALARM/);
  });

  it('go to topics that only this account and CloudWatch may publish to, by e-mail and to Slack, encrypted', () => {
    const topics = ofType(name, 'AWS::SNS::Topic').map(({ Properties }) => Properties);
    expect(topics.map(({ TopicName }) => TopicName)).toEqual(
      ['critical', 'second-tier', 'escalation', 'warning', 'info'].map((tier) => `orders-${name}-${tier}`),
    );
    for (const topic of topics) expect(topic['KmsMasterKeyId']).toMatch(/^<Key\w*\.Arn>$/);
    const protocols = ofType(name, 'AWS::SNS::Subscription').map(({ Properties }) => Properties['Protocol']);
    expect(protocols.toSorted()).toEqual([
      ...Array.from({ length: 5 }, () => 'email'),
      ...Array.from({ length: 5 }, () => 'lambda'),
    ]);
    for (const { Properties } of ofType(name, 'AWS::SNS::TopicPolicy')) {
      const statements: Statement[] = statementsIn(Properties['PolicyDocument']);
      expect(
        statements
          .filter(({ Effect }) => Effect === 'Allow')
          .map(({ Principal, Condition }) => [Principal, Condition]),
      ).toEqual([
        [
          { Service: 'cloudwatch.amazonaws.com' },
          { StringEquals: { 'aws:SourceAccount': '<AWS::AccountId>' } },
        ],
      ]);
    }
  });

  it('are posted to Slack by a function that may read its webhook, write its log, and nothing else', () => {
    expect(allowedTo(name, `orders-${name}-slack`)).toEqual([
      expect.stringMatching(/^kms:Decrypt <Key\w*\.Arn>$/),
      expect.stringMatching(/^logs:CreateLogStream <Slack\w*\.Arn>$/),
      expect.stringMatching(/^logs:PutLogEvents <Slack\w*\.Arn>$/),
      expect.stringMatching(/^secretsmanager:GetSecretValue <SlackWebhook\w*>$/),
      expect.stringMatching(/^sqs:SendMessage <SlackDeadLetters\w*\.Arn>$/),
    ]);
    const post = theOnly(name, 'AWS::Lambda::Function').Properties;
    expect(post).toMatchObject({
      FunctionName: `orders-${name}-slack`,
      DeadLetterConfig: { TargetArn: expect.stringMatching(/^<SlackDeadLetters/) },
      LoggingConfig: { LogGroup: expect.stringMatching(/^<Slack/) },
      Environment: { Variables: { SLACK_WEBHOOK_SECRET_ARN: expect.stringMatching(/^<SlackWebhook/) } },
    });
    // Slack is outside: the VPC has no way there.
    expect(post).not.toHaveProperty('VpcConfig');
    expect(theOnly(name, 'AWS::Lambda::EventInvokeConfig').Properties).toMatchObject({
      MaximumRetryAttempts: 2,
    });
    const subscriptions = ofType(name, 'AWS::SNS::Subscription').filter(
      ({ Properties }) => Properties['Protocol'] === 'lambda',
    );
    for (const { Properties } of subscriptions)
      expect(Properties['RedrivePolicy']).toEqual({
        deadLetterTargetArn: expect.stringMatching(/^<SlackDeadLetters/),
      });
    expect(alarm('Alerts-Not-Posted')).toMatchObject({
      Dimensions: [{ Name: 'QueueName', Value: expect.stringMatching(/^<SlackDeadLetters/) }],
      Threshold: 0,
      AlarmActions: [expect.stringMatching(/^<warning/)],
    });
  });

  it('the function is deployed as JavaScript that Lambda can load, and that refuses what is no event', async () => {
    const [folder] = globSync('asset.*/index.mjs', { cwd: synthesised(name).folder });
    const { handler } = await import(path.join(synthesised(name).folder, String(folder)));
    await expect(handler({})).rejects.toMatchObject({ code: 'MALFORMED_EVENT' });
  });

  it('events of releases and of the database go to the topic that wakes nobody, by a role that may only do that', () => {
    const rules = ofType(name, 'AWS::Events::Rule').map(({ Properties }) => Properties);
    expect(rules.map(({ EventPattern }) => EventPattern)).toEqual([
      {
        source: ['order-pipeline'],
        'detail-type': ['Deployment Done', 'Service Restarted'],
        detail: { environment: [name] },
      },
      {
        source: ['aws.rds'],
        'detail-type': ['RDS DB Instance Event'],
        detail: {
          SourceIdentifier: [`orders-${name}-database`],
          EventCategories: ['availability', 'failover', 'failure', 'recovery'],
        },
      },
    ]);
    for (const { Targets } of rules)
      expect(Targets).toEqual([
        { Id: 'info', Arn: expect.stringMatching(/^<info/), RoleArn: expect.stringMatching(/^<EventsRole/) },
      ]);
    expect(allowedTo(name, `orders-${name}-events`)).toEqual([
      expect.stringMatching(/^kms:Decrypt <Key/),
      expect.stringMatching(/^kms:GenerateDataKey <Key/),
      expect.stringMatching(/^sns:Publish <info/),
    ]);
  });

  it("the dashboard has the guideline's widgets", () => {
    const { DashboardName, DashboardBody } = theOnly(name, 'AWS::CloudWatch::Dashboard').Properties;
    expect(DashboardName).toBe(`orders-${name}`);
    for (const title of [
      'Messages per second',
      'Queue depth',
      'Messages in the DLQ',
      'Processing delay',
      'Throughput',
      'Error rate',
      'CPU',
      'Memory',
      'Network',
      'Disk',
    ])
      expect(DashboardBody).toContain(`"title":"${title}`);
  });
});
