import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { App, type CfnResource, Stack, Validations } from 'aws-cdk-lib';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { AwsSolutionsChecks } from 'cdk-nag';
import type { IConstruct } from 'constructs';
import { describe, expect, it } from 'vitest';
import type { EnvironmentName } from '../environments.ts';
import { type Resource, synthesised } from './synthesised.ts';

const both: readonly EnvironmentName[] = ['staging', 'production'];

/** Rules of AWS's own solutions, with a count of what they were applied to. */
class CountedChecks extends AwsSolutionsChecks {
  resources = 0;
  protected override checkResource(node: CfnResource): void {
    this.resources++;
    super.checkResource(node);
  }
}
/** As if nobody had acknowledged anything. */
function strictChecks(): AwsSolutionsChecks {
  const checks = new AwsSolutionsChecks();
  Reflect.set(checks, 'isAcknowledged', () => false);
  return checks;
}

const acknowledged = ({ node }: IConstruct): [id: string, reason: string][] =>
  node.metadata
    .filter(({ type }) => type === Validations.ACKNOWLEDGED_RULES_METADATA_KEY)
    .flatMap(({ data }) => Object.entries(data as Record<string, string>));

describe.each(both)('cdk-nag in %s', (name) => {
  it('finds nothing that is not acknowledged, in any resource', () => {
    const checks = new CountedChecks();
    const { violations } = checks.validateScope(synthesised(name).app);
    expect(
      violations.map(({ ruleName, violatingResources }) => [
        ruleName,
        violatingResources.map(({ constructPath }) => constructPath),
      ]),
    ).toEqual([]);
    expect(checks.resources).toBe(synthesised(name).resources.length);
  });

  it('has no acknowledgement without a reason, and none that nothing needs', () => {
    const { app } = synthesised(name);
    const found = strictChecks()
      .validateScope(app)
      .violations.flatMap(({ ruleName, violatingResources }) =>
        violatingResources.map(({ constructPath }) => `${ruleName} ${constructPath}`),
      );
    const all = app.node.findAll().flatMap((construct) =>
      acknowledged(construct).map(([id, reason]) => ({
        id: id.replace(/^Annotation::/, ''),
        reason,
        path: construct.node.path,
      })),
    );
    const ofNag = all.filter(({ id }) => id.startsWith('AwsSolutions-'));
    expect(ofNag.length).toBeGreaterThan(5);
    for (const { id, reason, path } of ofNag) {
      expect(reason.length, `${id} at ${path}`).toBeGreaterThan(30);
      const needed = found.some((entry) => entry.startsWith(`${id} ${path}`));
      expect(needed, `${id} at ${path} is needed`).toBe(true);
    }
  });
});

it('cdk-nag finds a violation that is there, and synthesis fails with it', () => {
  const app = new App({ analyticsReporting: false });
  new Queue(new Stack(app, 'planted'), 'WithoutDeadLetters');
  const { success, violations } = new CountedChecks().validateScope(app);
  expect(success).toBe(false);
  expect(violations.map(({ ruleName }) => ruleName).toSorted()).toEqual([
    'AwsSolutions-SQS3',
    'AwsSolutions-SQS4',
  ]);
});

/** What a security review reads: who may do what, who is refused, which ports are open, which keys there are. */
const REVIEWED: Readonly<Record<string, readonly string[]>> = {
  'AWS::IAM::Role': ['RoleName', 'AssumeRolePolicyDocument', 'ManagedPolicyArns'],
  'AWS::IAM::Policy': ['Roles', 'PolicyDocument'],
  'AWS::KMS::Key': ['KeyPolicy'],
  'AWS::SQS::QueuePolicy': ['Queues', 'PolicyDocument'],
  'AWS::Lambda::Permission': ['Action', 'Principal', 'SourceArn'],
  'AWS::SNS::TopicPolicy': ['Topics', 'PolicyDocument'],
  'AWS::S3::BucketPolicy': ['Bucket', 'PolicyDocument'],
  'AWS::SecretsManager::ResourcePolicy': ['SecretId', 'ResourcePolicy'],
  'AWS::EC2::VPCEndpoint': ['ServiceName', 'PolicyDocument'],
  'AWS::EC2::SecurityGroup': ['GroupName', 'SecurityGroupIngress', 'SecurityGroupEgress'],
  'AWS::EC2::SecurityGroupIngress': ['GroupId', 'SourceSecurityGroupId', 'FromPort', 'ToPort', 'IpProtocol'],
  'AWS::EC2::SecurityGroupEgress': [
    'GroupId',
    'DestinationSecurityGroupId',
    'DestinationPrefixListId',
    'FromPort',
    'ToPort',
    'IpProtocol',
  ],
  'AWS::EKS::AccessEntry': ['PrincipalArn', 'KubernetesGroups', 'AccessPolicies'],
  'AWS::EKS::PodIdentityAssociation': ['Namespace', 'ServiceAccount', 'RoleArn'],
};

/** One line per statement or rule. */
function reviewLines({ Type, Properties, stack, id }: Resource): string[] {
  const parts = (REVIEWED[Type] ?? []).filter((part) => Properties[part] !== undefined);
  return [
    `${stack}/${id} ${Type}`,
    ...parts.flatMap((part) => {
      const value = Properties[part] as { Statement?: unknown[] };
      const lines = value.Statement ?? [value];
      return lines.map((line) => `  ${part}: ${JSON.stringify(line)}`);
    }),
  ];
}

it.each(both)(
  'what a security review reads of %s is as it was: what differs is in the diff of its file',
  async (name) => {
    const lines = synthesised(name)
      .resources.filter(({ Type }) => Type in REVIEWED)
      .flatMap(reviewLines);
    await expect(`${lines.join('\n')}\n`).toMatchFileSnapshot(`security.${name}.txt`);
  },
);

// `pip install cfn-lint`; .ci/run does. CFN_LINT names the program.
const cfnLint = process.env['CFN_LINT'];
it.skipIf(!cfnLint).each(both)('cfn-lint finds nothing in the templates of %s', (name) => {
  const templates = globSync('*.template.json', { cwd: synthesised(name).folder });
  expect(templates.length).toBeGreaterThan(9);
  const files = templates.map((file) => path.join(synthesised(name).folder, file));
  const config = path.join(import.meta.dirname, '..', '.cfnlintrc.yaml');
  expect(lint(['--config-file', config, ...files])).toBe('');
});

function lint(args: string[]): string {
  try {
    return execFileSync(String(cfnLint), args, { encoding: 'utf8' });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

/** AWS's own examples, and the account of LocalStack. */
const EXAMPLES = ['123456789012', '111122223333', '000000000000'];
it('no account, key or value of a secret is in the code', () => {
  const files = globSync('**/*.{ts,json,yaml}', {
    cwd: path.join(import.meta.dirname, '..'),
    exclude: ['node_modules/**', 'cdk.out/**'],
  });
  expect(files).toContain('environments.ts');
  for (const file of files) {
    const text = readFileSync(path.join(import.meta.dirname, '..', file), 'utf8');
    const accounts = text.match(/\b\d{12}\b/g) ?? [];
    expect({ file, accounts: accounts.filter((account) => !EXAMPLES.includes(account)) }).toEqual({
      file,
      accounts: [],
    });
    expect(text).not.toMatch(/AKI[A]|aws_secret_access_ke[y]/i);
  }
});
