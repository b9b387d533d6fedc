import {
  type IManagedPolicy,
  ManagedPolicy,
  PolicyStatement,
  Role,
  ServicePrincipal,
} from 'aws-cdk-lib/aws-iam';
import type { Key } from 'aws-cdk-lib/aws-kms';
import type { LogGroup } from 'aws-cdk-lib/aws-logs';
import type { ISecret } from 'aws-cdk-lib/aws-secretsmanager';
import type { Construct } from 'constructs';
import { KEDA_RIGHTS, MESSAGE_KEY_RIGHTS, SERVICE_RIGHTS } from '../rights.ts';
import { acknowledge } from './acknowledge.ts';
import type { MessagingStack } from './messaging.ts';
import { OrderStack, type Place } from './order-stack.ts';
import { messageKeyStatements, sqsStatements } from './sqs-policy.ts';

/** A role, and the pods that get it. */
export type PodRole = { role: Role; namespace: string; serviceAccount: string };

type Needs = {
  messaging: MessagingStack;
  /** What External Secrets copies into the cluster. */
  secrets: readonly ISecret[];
  secretsKey: Key;
  logGroups: readonly LogGroup[];
};

/** Roles of pods: each service has one of its own, and may do what it does, on what is its own. */
export class AccessStack extends OrderStack {
  readonly producer: PodRole;
  readonly consumer: PodRole;
  readonly keda: PodRole;
  readonly externalSecrets: PodRole;
  readonly loadBalancers: PodRole;
  /** Of the add-ons `vpc-cni` and `amazon-cloudwatch-observability`, which bind them themselves. */
  readonly network: PodRole;
  readonly agent: PodRole;

  constructor(scope: Construct, place: Place, { messaging, secrets, secretsKey, logGroups }: Needs) {
    super(scope, 'access', place, 'Roles of pods');
    const of = (rights: Parameters<typeof sqsStatements>[0]) => sqsStatements(rights, messaging);
    const ofService = (service: 'producer' | 'consumer') =>
      this.podRole(service, place.name, `order-${service}`, [
        ...of(SERVICE_RIGHTS[service]),
        ...messageKeyStatements(MESSAGE_KEY_RIGHTS[service], messaging),
      ]);
    this.producer = ofService('producer');
    this.consumer = ofService('consumer');
    this.keda = this.podRole('keda', 'keda', 'keda-operator', of(KEDA_RIGHTS));
    this.externalSecrets = this.podRole('secrets', 'external-secrets', 'external-secrets', [
      new PolicyStatement({
        actions: ['secretsmanager:GetSecretValue', 'secretsmanager:DescribeSecret'],
        resources: secrets.map(({ secretArn }) => secretArn),
      }),
      new PolicyStatement({
        actions: ['kms:Decrypt'],
        resources: [secretsKey.keyArn],
        conditions: { StringEquals: { 'kms:ViaService': `secretsmanager.${this.region}.amazonaws.com` } },
      }),
    ]);
    this.loadBalancers = this.loadBalancerRole();
    this.network = this.podRole(
      'network',
      'kube-system',
      'aws-node',
      [],
      ManagedPolicy.fromAwsManagedPolicyName('AmazonEKS_CNI_Policy'),
    );
    acknowledge(this.network.role, {
      'AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/AmazonEKS_CNI_Policy]':
        "The add-on's own needs change with its version; AWS keeps this policy in step: https://docs.aws.amazon.com/eks/latest/userguide/cni-iam-role.html",
    });
    this.agent = this.agentRole(logGroups);
  }

  /**
   * Of the AWS Load Balancer Controller. Narrower than its own policy
   * (https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/deploy/installation/): load balancers for
   * applications alone, of this cluster alone, and no rights on security groups: the network stack has them all.
   */
  private loadBalancerRole(): PodRole {
    const arns = (...resources: string[]) =>
      resources.map((resource) => this.formatArn({ service: 'elasticloadbalancing', resource }));
    const actions = (...names: string[]) => names.map((name) => `elasticloadbalancing:${name}`);
    const ofCluster = (key: 'RequestTag' | 'ResourceTag') => ({
      [`aws:${key}/elbv2.k8s.aws/cluster`]: this.clusterName,
    });
    const owned = arns('loadbalancer/app/*', 'targetgroup/*');
    const rules = arns('listener/app/*', 'listener-rule/app/*');
    const controller = this.podRole('load-balancers', 'kube-system', 'aws-load-balancer-controller', [
      new PolicyStatement({
        actions: [
          ...[
            'AvailabilityZones',
            'Instances',
            'NetworkInterfaces',
            'SecurityGroups',
            'Subnets',
            'Tags',
            'Vpcs',
          ].map((what) => `ec2:Describe${what}`),
          ...actions('DescribeLoadBalancers', 'DescribeLoadBalancerAttributes', 'DescribeListeners'),
          ...actions(
            'DescribeListenerAttributes',
            'DescribeListenerCertificates',
            'DescribeRules',
            'DescribeTags',
          ),
          ...actions('DescribeTargetGroups', 'DescribeTargetGroupAttributes', 'DescribeTargetHealth'),
          ...actions('DescribeCapacityReservation'),
        ],
        resources: ['*'],
      }),
      new PolicyStatement({
        actions: actions('CreateLoadBalancer', 'CreateTargetGroup', 'AddTags'),
        resources: owned,
        conditions: { StringEquals: ofCluster('RequestTag') },
      }),
      new PolicyStatement({
        actions: [
          ...actions('AddTags', 'RemoveTags', 'DeleteLoadBalancer', 'ModifyLoadBalancerAttributes'),
          ...actions(
            'SetIpAddressType',
            'SetSecurityGroups',
            'SetSubnets',
            'CreateListener',
            'DeleteTargetGroup',
          ),
          ...actions(
            'ModifyTargetGroup',
            'ModifyTargetGroupAttributes',
            'RegisterTargets',
            'DeregisterTargets',
          ),
        ],
        resources: owned,
        conditions: { StringEquals: ofCluster('ResourceTag') },
      }),
      // Listeners and rules of an earlier version of the controller have no tag.
      new PolicyStatement({
        actions: [
          ...actions('AddTags', 'RemoveTags', 'DeleteListener', 'ModifyListener', 'ModifyListenerAttributes'),
          ...actions('AddListenerCertificates', 'RemoveListenerCertificates'),
          ...actions('CreateRule', 'ModifyRule', 'DeleteRule', 'SetRulePriorities'),
        ],
        resources: rules,
      }),
    ]);
    const account = `arn:aws:elasticloadbalancing:${this.region}:<AWS::AccountId>`;
    acknowledge(controller.role, {
      'AwsSolutions-IAM5[Resource::*]':
        'Descriptions of EC2 and of load balancers have no resource to name: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html',
      ...Object.fromEntries(
        ['loadbalancer/app/*', 'targetgroup/*', 'listener/app/*', 'listener-rule/app/*'].map((resource) => [
          `AwsSolutions-IAM5[Resource::${account}:${resource}]`,
          'The controller makes up the names. Of load balancers and target groups, the tag of the cluster is a condition.',
        ]),
      ),
    });
    return controller;
  }

  /** Narrower than CloudWatchAgentServerPolicy: these groups alone, and only metrics of containers. */
  private agentRole(logGroups: readonly LogGroup[]): PodRole {
    const agent = this.podRole('agent', 'amazon-cloudwatch', 'cloudwatch-agent', [
      new PolicyStatement({
        // It creates a group before it writes to it, also where it exists.
        actions: [
          'logs:CreateLogGroup',
          'logs:CreateLogStream',
          'logs:DescribeLogStreams',
          'logs:PutLogEvents',
        ],
        resources: logGroups.map(({ logGroupArn }) => logGroupArn),
      }),
      new PolicyStatement({
        actions: ['cloudwatch:PutMetricData'],
        resources: ['*'],
        conditions: { StringEquals: { 'cloudwatch:namespace': 'ContainerInsights' } },
      }),
      new PolicyStatement({ actions: ['ec2:DescribeTags', 'ec2:DescribeVolumes'], resources: ['*'] }),
    ]);
    acknowledge(agent.role, {
      'AwsSolutions-IAM5[Resource::*]':
        'Metrics and descriptions of EC2 have no resource to name; the namespace of the metrics is a condition: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html',
    });
    return agent;
  }

  /**
   * A role that only EKS Pod Identity hands out, and only to the pods of one service account of this cluster:
   * https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html
   */
  private podRole(
    name: string,
    namespace: string,
    serviceAccount: string,
    statements: PolicyStatement[],
    managedPolicy?: IManagedPolicy,
  ): PodRole {
    const principal = new ServicePrincipal('pods.eks.amazonaws.com', {
      conditions: {
        StringEquals: {
          'aws:RequestTag/eks-cluster-name': this.clusterName,
          'aws:RequestTag/kubernetes-namespace': namespace,
          'aws:RequestTag/kubernetes-service-account': serviceAccount,
        },
      },
    }).withSessionTags();
    const role = new Role(this, name, {
      roleName: this.named(name),
      description: `Pods of ${namespace}/${serviceAccount}`,
      assumedBy: principal,
      managedPolicies: managedPolicy ? [managedPolicy] : [],
    });
    for (const statement of statements) role.addToPolicy(statement);
    return { role, namespace, serviceAccount };
  }
}
