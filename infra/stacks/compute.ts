import {
  CfnLaunchTemplate,
  CfnSecurityGroupEgress,
  CfnSecurityGroupIngress,
  type SecurityGroup,
  type Vpc,
} from 'aws-cdk-lib/aws-ec2';
import {
  CfnAccessEntry,
  CfnAddon,
  CfnCluster,
  CfnNodegroup,
  CfnPodIdentityAssociation,
} from 'aws-cdk-lib/aws-eks';
import { ManagedPolicy, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import type { Construct } from 'constructs';
import type { AccessStack } from './access.ts';
import { acknowledge } from './acknowledge.ts';
import type { DeliveryStack } from './delivery.ts';
import { PORTS } from './network.ts';
import { OrderStack, type Place } from './order-stack.ts';

/** What the control plane calls on nodes and pods. Everything else of it stays outside. */
const FROM_CONTROL_PLANE: Readonly<Record<string, number>> = {
  'kubelet, and the webhooks of External Secrets and of the Prometheus operator': 10_250,
  'metrics server': 10_251,
  'metrics of KEDA': 6_443,
  'webhooks of KEDA and of the load balancer controller': 9_443,
  // scripts/deploy.sh, verify-deployment.sh and rollback.sh look into pods through the API server.
  'order-producer, through the API server': PORTS.producer,
  'order-consumer, through the API server': PORTS.consumer,
  'management port of both, through the API server': PORTS.management,
};

type Needs = { vpc: Vpc; nodes: SecurityGroup; access: AccessStack; delivery: DeliveryStack };

/**
 * EKS as CloudFormation has it. CDK's own cluster construct would bring Lambda functions with rights in the cluster, to
 * apply manifests; the deployment scripts do that.
 */
export class ComputeStack extends OrderStack {
  readonly cluster: CfnCluster;

  constructor(scope: Construct, place: Place, { vpc, nodes, access, delivery }: Needs) {
    super(scope, 'compute', place, 'EKS: cluster, nodes, add-ons, and who may do what in it');
    this.cluster = this.createCluster(vpc);
    this.letControlPlaneReach(nodes);
    const network = this.addOn('vpc-cni', {
      // Without it, NetworkPolicies have no effect.
      configurationValues: JSON.stringify({ enableNetworkPolicy: 'true' }),
      podIdentityAssociations: [{ serviceAccount: 'aws-node', roleArn: access.network.role.roleArn }],
    });
    const identity = this.addOn('eks-pod-identity-agent');
    const proxy = this.addOn('kube-proxy');
    const nodegroup = this.createNodes(vpc, nodes);
    for (const addOn of [network, identity, proxy]) nodegroup.addResourceDependency(addOn);
    const onNodes = [
      this.addOn('coredns'),
      this.addOn('metrics-server'),
      this.addOn('amazon-cloudwatch-observability', {
        podIdentityAssociations: [{ serviceAccount: 'cloudwatch-agent', roleArn: access.agent.role.roleArn }],
      }),
    ];
    // They count as installed only once their pods run.
    for (const addOn of onNodes) addOn.addResourceDependency(nodegroup);

    for (const { role, namespace, serviceAccount } of [
      access.producer,
      access.consumer,
      access.keda,
      access.externalSecrets,
      access.loadBalancers,
    ])
      new CfnPodIdentityAssociation(this, `${namespace}-${serviceAccount}`, {
        clusterName: this.cluster.ref,
        namespace,
        serviceAccount,
        roleArn: role.roleArn,
      });
    this.letIn('Administrators', place.settings.clusterAdminRoleArn, {
      accessPolicies: [
        {
          policyArn: 'arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy',
          accessScope: { type: 'cluster' },
        },
      ],
    });
    // The groups have the rights that k8s/deployer grants, in one namespace.
    this.letIn('Deployers', delivery.deploy.roleArn, { kubernetesGroups: ['order-deployers'] });
    if (delivery.rollback)
      this.letIn('Rollback', delivery.rollback.roleArn, { kubernetesGroups: ['order-rollback'] });
  }

  private createCluster(vpc: Vpc): CfnCluster {
    const { kubernetes, publicKubernetesApi } = this.place.environment;
    const role = new Role(this, 'ClusterRole', {
      roleName: this.named('cluster'),
      assumedBy: new ServicePrincipal('eks.amazonaws.com'),
      managedPolicies: [ManagedPolicy.fromAwsManagedPolicyName('AmazonEKSClusterPolicy')],
    });
    acknowledge(role, {
      'AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/AmazonEKSClusterPolicy]':
        "EKS's own needs change with its version; AWS keeps this policy in step: https://docs.aws.amazon.com/eks/latest/userguide/cluster-iam-role.html",
    });
    const key = new Key(this, 'Key', {
      alias: `alias/${this.named('cluster')}`,
      description: 'Secrets in the cluster',
      enableKeyRotation: true,
    });
    const cluster = new CfnCluster(this, 'Cluster', {
      name: this.clusterName,
      version: kubernetes.version,
      roleArn: role.roleArn,
      deletionProtection: this.place.name === 'production',
      // The add-ons below, with our configuration, instead of copies that nobody updates.
      bootstrapSelfManagedAddons: false,
      accessConfig: { authenticationMode: 'API', bootstrapClusterCreatorAdminPermissions: false },
      // Once more, under our key: https://docs.aws.amazon.com/eks/latest/userguide/enable-kms.html
      encryptionConfig: [{ provider: { keyArn: key.keyArn }, resources: ['secrets'] }],
      logging: {
        clusterLogging: {
          enabledTypes: ['api', 'audit', 'authenticator', 'controllerManager', 'scheduler'].map((type) => ({
            type,
          })),
        },
      },
      resourcesVpcConfig: {
        subnetIds: vpc.selectSubnets({ subnetGroupName: 'controlPlane' }).subnetIds,
        endpointPrivateAccess: true,
        endpointPublicAccess: publicKubernetesApi.length > 0,
        publicAccessCidrs: [...publicKubernetesApi],
      },
    });
    acknowledge(cluster, {
      'CloudFormation-Validate::W9009':
        "`resources` is on its way out of CloudFormation's schema, and EKS's API reference still has it.",
    });
    return cluster;
  }

  private letControlPlaneReach(nodes: SecurityGroup): void {
    const { attrClusterSecurityGroupId: controlPlane } = this.cluster;
    const rule = { ipProtocol: 'tcp' };
    for (const [description, port] of Object.entries(FROM_CONTROL_PLANE))
      new CfnSecurityGroupIngress(this, `FromControlPlane${port}`, {
        ...rule,
        groupId: nodes.securityGroupId,
        sourceSecurityGroupId: controlPlane,
        fromPort: port,
        toPort: port,
        description,
      });
    const https = { ...rule, fromPort: PORTS.https, toPort: PORTS.https, description: 'Kubernetes API' };
    new CfnSecurityGroupEgress(this, 'ToControlPlaneOut', {
      ...https,
      groupId: nodes.securityGroupId,
      destinationSecurityGroupId: controlPlane,
    });
    new CfnSecurityGroupIngress(this, 'ToControlPlaneIn', {
      ...https,
      groupId: controlPlane,
      sourceSecurityGroupId: nodes.securityGroupId,
    });
  }

  private createNodes(vpc: Vpc, nodes: SecurityGroup): CfnNodegroup {
    const { nodeType, minNodes, maxNodes } = this.place.environment.kubernetes;
    const policies = ['AmazonEKSWorkerNodePolicy', 'AmazonEC2ContainerRegistryPullOnly'];
    const role = new Role(this, 'NodeRole', {
      roleName: this.named('node'),
      assumedBy: new ServicePrincipal('ec2.amazonaws.com'),
      managedPolicies: policies.map((name) => ManagedPolicy.fromAwsManagedPolicyName(name)),
    });
    acknowledge(
      role,
      Object.fromEntries(
        policies.map((name) => [
          `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${name}]`,
          'What every node needs, kept in step by AWS: https://docs.aws.amazon.com/eks/latest/userguide/create-node-role.html',
        ]),
      ),
    );
    const template = new CfnLaunchTemplate(this, 'NodeTemplate', {
      launchTemplateData: {
        // Ours alone: the cluster's own group would let out to everywhere.
        securityGroupIds: [nodes.securityGroupId],
        // Pods do not reach the node's role: https://docs.aws.amazon.com/eks/latest/best-practices/identity-and-access-management.html
        metadataOptions: { httpTokens: 'required', httpPutResponseHopLimit: 1 },
        blockDeviceMappings: [
          { deviceName: '/dev/xvda', ebs: { encrypted: true, volumeType: 'gp3', volumeSize: 50 } },
        ],
      },
    });
    return new CfnNodegroup(this, 'Nodes', {
      clusterName: this.cluster.ref,
      nodeRole: role.roleArn,
      subnets: vpc.selectSubnets({ subnetGroupName: 'pods' }).subnetIds,
      // The images are for both kinds of processors.
      amiType: 'AL2023_ARM_64_STANDARD',
      instanceTypes: [nodeType],
      scalingConfig: { minSize: minNodes, desiredSize: minNodes, maxSize: maxNodes },
      updateConfig: { maxUnavailable: 1 },
      nodeRepairConfig: { enabled: true },
      launchTemplate: { id: template.ref, version: template.attrLatestVersionNumber },
    });
  }

  /** In the version that EKS has for that of the cluster. */
  private addOn(name: string, more: Partial<ConstructorParameters<typeof CfnAddon>[2]> = {}): CfnAddon {
    return new CfnAddon(this, name, {
      addonName: name,
      clusterName: this.cluster.ref,
      resolveConflicts: 'OVERWRITE',
      ...more,
    });
  }

  private letIn(
    id: string,
    principalArn: string,
    rights: Partial<ConstructorParameters<typeof CfnAccessEntry>[2]>,
  ) {
    new CfnAccessEntry(this, id, { clusterName: this.cluster.ref, principalArn, ...rights });
  }
}
