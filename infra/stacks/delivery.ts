import { CfnOIDCProvider, FederatedPrincipal, PolicyStatement, Role } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import { RIGHTS as DLQ } from '../../scripts/dlq.ts';
import { acknowledge } from './acknowledge.ts';
import type { MessagingStack } from './messaging.ts';
import { OrderStack, type Place } from './order-stack.ts';
import { REPOSITORIES } from './registry.ts';
import { sqsStatements } from './sqs-policy.ts';

const ISSUER = 'token.actions.githubusercontent.com';

/** Which run of the pipeline may have a role: `sub` of its token, and the workflow as it is on `main`. */
type Run = { subject: string; workflow: string };

/**
 * What the pipeline may do. No key is stored anywhere: GitHub's token of one run is exchanged for a role, if repository,
 * branch, environment and workflow are those written here (docs/pipeline.md):
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html
 */
export class DeliveryStack extends OrderStack {
  readonly deploy: Role;
  /** Rolls back without a reviewer; production's alone. */
  readonly rollback: Role | undefined;
  readonly #provider: CfnOIDCProvider;

  constructor(scope: Construct, place: Place, messaging: MessagingStack) {
    super(scope, 'delivery', place, "Roles of GitHub's workflows");
    this.#provider = new CfnOIDCProvider(this, 'GitHub', {
      url: `https://${ISSUER}`,
      clientIdList: ['sts.amazonaws.com'],
    });
    const { name } = place;
    const inEnvironment = (environment: string) => ({
      subject: `environment:${environment}`,
      workflow: `deploy-${name}.yml`,
    });
    // A rollback redrives, so it needs what scripts/dlq.sh redrive needs.
    const findAndRedrive = () => [
      new PolicyStatement({
        actions: ['eks:DescribeCluster'],
        resources: [this.formatArn({ service: 'eks', resource: 'cluster', resourceName: this.clusterName })],
      }),
      ...sqsStatements(DLQ.redrive, messaging),
    ];
    this.deploy = this.workflowRole('deploy', inEnvironment(name), [
      ...findAndRedrive(),
      // Images and their signatures.
      new PolicyStatement({
        actions: ['ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'],
        resources: this.repositoryArns(place.settings.registryAccount),
      }),
    ]);
    letSignIn(this.deploy);
    // So that Slack hears of a release, by the rule in the stack observability.
    this.deploy.addToPolicy(
      new PolicyStatement({
        actions: ['events:PutEvents'],
        resources: [this.formatArn({ service: 'events', resource: 'event-bus', resourceName: 'default' })],
        conditions: { StringEquals: { 'events:detail-type': 'Deployment Done' } },
      }),
    );
    // For `npm run infra:diff -- --templates-only`.
    this.deploy.addToPolicy(
      new PolicyStatement({
        actions: ['cloudformation:DescribeStacks', 'cloudformation:GetTemplate'],
        resources: [
          this.formatArn({
            service: 'cloudformation',
            resource: 'stack',
            resourceName: `${this.named('*')}`,
          }),
        ],
      }),
    );
    acknowledge(this.deploy, {
      [`AwsSolutions-IAM5[Resource::arn:aws:cloudformation:${this.region}:<AWS::AccountId>:stack/${this.named('*')}]`]:
        "Reads the templates of this environment's stacks, whose ARNs end in a random id.",
    });
    if (name === 'production')
      this.rollback = this.workflowRole('rollback', inEnvironment('production-rollback'), findAndRedrive());
    if (name === 'staging') this.createTestRole(inEnvironment(name));
    if (place.environment.hasRegistry) this.createImagesRole();
  }

  /** Scenarios that cannot run on a deployment, with queues of their own. */
  private createTestRole(run: Run): void {
    const queues = this.formatArn({ service: 'sqs', resource: 'orders-test-*' });
    const role = this.workflowRole('test', run, [
      new PolicyStatement({ actions: ['sqs:*'], resources: [queues] }),
      new PolicyStatement({ actions: ['sqs:ListQueues'], resources: ['*'] }),
    ]);
    acknowledge(role, {
      'AwsSolutions-IAM5[Action::sqs:*]':
        'Creates, uses and deletes queues, which hold nothing but test messages.',
      [`AwsSolutions-IAM5[Resource::arn:aws:sqs:${this.region}:<AWS::AccountId>:orders-test-*]`]:
        'Each run has queues of its own, with a random name.',
      'AwsSolutions-IAM5[Resource::*]':
        'sqs:ListQueues knows no resource: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html',
    });
  }

  /** Pushes images, from `main` alone. Of no environment: the registry is that of all. */
  private createImagesRole(): void {
    const role = this.workflowRole(
      'images',
      { subject: 'ref:refs/heads/main', workflow: 'images.yml' },
      [
        new PolicyStatement({
          actions: [
            'ecr:BatchCheckLayerAvailability',
            'ecr:BatchGetImage',
            'ecr:GetDownloadUrlForLayer',
            'ecr:InitiateLayerUpload',
            'ecr:UploadLayerPart',
            'ecr:CompleteLayerUpload',
            'ecr:PutImage',
          ],
          resources: this.repositoryArns(this.account),
        }),
      ],
      'orders-images',
    );
    letSignIn(role);
  }

  private repositoryArns(account: string): string[] {
    return REPOSITORIES.map((resourceName) =>
      this.formatArn({ service: 'ecr', account, resource: 'repository', resourceName }),
    );
  }

  private workflowRole(
    name: string,
    { subject, workflow }: Run,
    statements: PolicyStatement[],
    roleName = this.named(name),
  ): Role {
    const repository = this.place.settings.githubRepository;
    const role = new Role(this, name, {
      roleName,
      description: `GitHub: ${workflow}, ${subject}`,
      assumedBy: new FederatedPrincipal(
        this.#provider.attrArn,
        {
          StringEquals: {
            [`${ISSUER}:aud`]: 'sts.amazonaws.com',
            [`${ISSUER}:sub`]: `repo:${repository}:${subject}`,
            [`${ISSUER}:ref`]: 'refs/heads/main',
            [`${ISSUER}:job_workflow_ref`]: `${repository}/.github/workflows/${workflow}@refs/heads/main`,
          },
        },
        'sts:AssumeRoleWithWebIdentity',
      ),
    });
    for (const statement of statements) role.addToPolicy(statement);
    return role;
  }
}

/** To the registry, before anything else of it. */
function letSignIn(role: Role): void {
  role.addToPolicy(new PolicyStatement({ actions: ['ecr:GetAuthorizationToken'], resources: ['*'] }));
  acknowledge(role, {
    'AwsSolutions-IAM5[Resource::*]':
      'ecr:GetAuthorizationToken knows no resource: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html',
  });
}
