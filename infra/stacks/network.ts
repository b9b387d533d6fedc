import { Tags } from 'aws-cdk-lib';
import {
  CfnSecurityGroupEgress,
  CfnSecurityGroupIngress,
  FlowLogDestination,
  GatewayVpcEndpointAwsService,
  InterfaceVpcEndpoint,
  InterfaceVpcEndpointAwsService,
  IpAddresses,
  Peer,
  Port,
  SecurityGroup,
  SubnetType,
  Vpc,
} from 'aws-cdk-lib/aws-ec2';
import { AnyPrincipal, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { StringParameter } from 'aws-cdk-lib/aws-ssm';
import type { Construct } from 'constructs';
import { OrderStack, type Place } from './order-stack.ts';

const SERVICE = InterfaceVpcEndpointAwsService;
/**
 * All that nodes, pods and the database's password rotation ask of AWS. Nothing else of AWS can be reached:
 * https://docs.aws.amazon.com/eks/latest/userguide/private-clusters.html
 */
const ENDPOINTS = {
  sqs: SERVICE.SQS,
  kms: SERVICE.KMS,
  secretsmanager: SERVICE.SECRETS_MANAGER,
  sts: SERVICE.STS,
  logs: SERVICE.CLOUDWATCH_LOGS,
  monitoring: SERVICE.CLOUDWATCH_MONITORING,
  'ecr.api': SERVICE.ECR,
  'ecr.dkr': SERVICE.ECR_DOCKER,
  // Pod Identity.
  'eks-auth': SERVICE.EKS_AUTH,
  ec2: SERVICE.EC2,
  // The load balancer controller.
  elasticloadbalancing: SERVICE.ELASTIC_LOAD_BALANCING,
} as const;
/** Their requests name resources, and these may only be this account's. */
const OWN_RESOURCES = ['sqs', 'kms', 'secretsmanager', 'logs'];

export const PORTS = {
  producer: 8080,
  consumer: 8081,
  management: 8082,
  database: 5432,
  https: 443,
} as const;

/** What an IPv4 range must be at least for each kind of subnet. Pods have addresses of the VPC, so theirs are large. */
const SUBNETS = { pods: 20, controlPlane: 28, database: 26 } as const;

/** The VPC. No subnet has a route to the internet, so nothing in it can be reached from there, and nothing can send there. */
export class NetworkStack extends OrderStack {
  readonly vpc: Vpc;
  readonly nodes: SecurityGroup;
  readonly database: SecurityGroup;

  constructor(scope: Construct, place: Place, flowLogs: ILogGroup) {
    super(scope, 'network', place, 'VPC without a route to the internet, endpoints, security groups');
    const { cidr, zones, clients, s3PrefixList } = place.environment;
    const isolated = (name: keyof typeof SUBNETS) => ({
      name,
      subnetType: SubnetType.PRIVATE_ISOLATED,
      cidrMask: SUBNETS[name],
    });
    this.vpc = new Vpc(this, 'Vpc', {
      vpcName: this.named('vpc'),
      ipAddresses: IpAddresses.cidr(cidr),
      availabilityZones: [...zones],
      natGateways: 0,
      subnetConfiguration: [isolated('pods'), isolated('controlPlane'), isolated('database')],
      // Nothing uses the VPC's default group. To empty it takes a Lambda function with rights on groups; not worth it.
      restrictDefaultSecurityGroup: false,
      flowLogs: { All: { destination: FlowLogDestination.toCloudWatchLogs(flowLogs) } },
    });

    // Where the load balancer controller puts internal load balancers:
    // https://docs.aws.amazon.com/eks/latest/userguide/network-load-balancing.html
    for (const subnet of this.vpc.selectSubnets({ subnetGroupName: 'pods' }).subnets)
      Tags.of(subnet).add('kubernetes.io/role/internal-elb', '1');

    const group = (id: string, description: string) =>
      new SecurityGroup(this, id, {
        vpc: this.vpc,
        securityGroupName: this.named(id.toLowerCase()),
        description,
        // Each connection is named below, on both sides.
        allowAllOutbound: false,
      });
    const loadBalancer = group('LoadBalancer', 'The load balancer of order-producer');
    this.nodes = group('Nodes', 'Nodes of the cluster, and all pods on them');
    this.database = group('Database', 'PostgreSQL');
    const endpoints = group('Endpoints', 'Interface endpoints of AWS services');

    // By this name, the ingress asks for it: the controller has no rights to make groups of its own.
    Tags.of(loadBalancer).add('Name', this.named('loadbalancer'));
    for (const client of clients) {
      loadBalancer.addIngressRule(Peer.ipv4(client), Port.tcp(PORTS.https), 'Clients that place orders');
      loadBalancer.addIngressRule(Peer.ipv4(client), Port.tcp(80), 'Sent on to HTTPS');
    }
    this.connect(loadBalancer, this.nodes, PORTS.producer, 'Orders, and health checks');
    this.connect(loadBalancer, this.nodes, PORTS.consumer, 'Look-ups, and health checks');
    // Pods share the group of their node. Which pod may reach which, and only Prometheus the management port, is for
    // the NetworkPolicies of k8s/components/network-policy. Security groups for pods would do it as well, with an
    // interface per pod: https://docs.aws.amazon.com/eks/latest/userguide/security-groups-for-pods.html
    this.connect(this.nodes, this.nodes, 'all', 'Pods to pods, DNS, kubelets');
    this.connect(this.nodes, endpoints, PORTS.https, 'AWS services');
    this.connect(this.nodes, this.database, PORTS.database, 'The consumers');
    this.nodes.addEgressRule(Peer.prefixList(s3PrefixList), Port.tcp(PORTS.https), 'Layers of images');
    // The function that rotates the database's password has the database's group.
    this.connect(this.database, this.database, PORTS.database, 'Password rotation');
    this.connect(this.database, endpoints, PORTS.https, 'Password rotation');

    for (const [name, service] of Object.entries(ENDPOINTS)) this.addEndpoint(name, service, endpoints);
    this.addS3();

    // What the overlays in k8s/overlays ask for: docs/infrastructure.md.
    const cidrsOf = (name: keyof typeof SUBNETS) =>
      this.vpc.selectSubnets({ subnetGroupName: name }).subnets.map(({ ipv4CidrBlock }) => ipv4CidrBlock);
    for (const [name, subnets] of [
      ['control-plane-subnets', 'controlPlane'],
      ['database-subnets', 'database'],
    ] as const)
      new StringParameter(this, `${subnets}Parameter`, {
        parameterName: `/orders/${place.name}/${name}`,
        description: 'For the NetworkPolicies of the overlay',
        stringValue: cidrsOf(subnets).join(','),
      });
  }

  /** Both rules of one connection: out of one group and into the other. */
  private connect(from: SecurityGroup, to: SecurityGroup, port: number | 'all', description: string): void {
    const range = port === 'all' ? { ipProtocol: '-1' } : { ipProtocol: 'tcp', fromPort: port, toPort: port };
    const id = `${from.node.id}To${to.node.id}${port}`;
    new CfnSecurityGroupEgress(this, `${id}Out`, {
      groupId: from.securityGroupId,
      destinationSecurityGroupId: to.securityGroupId,
      description,
      ...range,
    });
    new CfnSecurityGroupIngress(this, `${id}In`, {
      groupId: to.securityGroupId,
      sourceSecurityGroupId: from.securityGroupId,
      description,
      ...range,
    });
  }

  private addEndpoint(name: string, service: InterfaceVpcEndpointAwsService, endpoints: SecurityGroup): void {
    const endpoint = new InterfaceVpcEndpoint(this, `Endpoint-${name}`, {
      vpc: this.vpc,
      service,
      subnets: { subnetGroupName: 'pods' },
      securityGroups: [endpoints],
      open: false,
      // The services' usual names resolve to the endpoint: nothing else has to be configured.
      privateDnsEnabled: true,
    });
    // Also a stolen key of another account cannot carry anything out this way:
    // https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
    endpoint.addToPolicy(
      new PolicyStatement({
        principals: [new AnyPrincipal()],
        actions: ['*'],
        resources: ['*'],
        conditions: {
          StringEquals: {
            'aws:PrincipalAccount': this.account,
            ...(OWN_RESOURCES.includes(name) ? { 'aws:ResourceAccount': this.account } : {}),
          },
        },
      }),
    );
  }

  private addS3(): void {
    const s3 = this.vpc.addGatewayEndpoint('Endpoint-s3', { service: GatewayVpcEndpointAwsService.S3 });
    // ECR keeps the layers in a bucket of its own:
    // https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-minimum-s3-perms
    s3.addToPolicy(
      new PolicyStatement({
        principals: [new AnyPrincipal()],
        actions: ['s3:GetObject'],
        resources: [`arn:aws:s3:::prod-${this.region}-starport-layer-bucket/*`],
      }),
    );
  }
}
