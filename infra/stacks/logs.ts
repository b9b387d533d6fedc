import { ArnFormat, RemovalPolicy } from 'aws-cdk-lib';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { LogGroup, type RetentionDays } from 'aws-cdk-lib/aws-logs';
import type { Construct } from 'constructs';
import { OrderStack, type Place } from './order-stack.ts';

/** For what nobody reads after a few weeks. */
const OPERATIONS_DAYS = 30;

/**
 * The log groups, before anybody writes to them: a group that its writer creates is kept for ever and has no key of ours.
 * The agent writes what containers print to `application`. The producers' acceptance journal is among it: the lines that
 * scripts/reconcile.sh reads after an incident (docs/recovery.md).
 */
export class LogsStack extends OrderStack {
  readonly application: LogGroup;
  /** What the agent writes, `application` included. */
  readonly ofAgent: readonly LogGroup[];
  readonly network: LogGroup;
  /** Of the function that posts to Slack. */
  readonly slack: LogGroup;

  constructor(scope: Construct, place: Place) {
    super(scope, 'logs', place, 'Log groups with their retention and key');
    const key = new Key(this, 'Key', {
      alias: `alias/${this.named('logs')}`,
      description: 'Log groups',
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    // Only for log groups of this account:
    // https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    key.addToResourcePolicy(
      new PolicyStatement({
        principals: [new ServicePrincipal(`logs.${this.region}.amazonaws.com`)],
        actions: ['kms:Encrypt', 'kms:Decrypt', 'kms:ReEncrypt*', 'kms:GenerateDataKey*', 'kms:Describe*'],
        resources: ['*'],
        conditions: {
          ArnLike: {
            'kms:EncryptionContext:aws:logs:arn': this.formatArn({
              service: 'logs',
              resource: 'log-group',
              resourceName: '*',
              arnFormat: ArnFormat.COLON_RESOURCE_NAME,
            }),
          },
        },
      }),
    );
    const group = (id: string, logGroupName: string, days: number) =>
      new LogGroup(this, id, {
        logGroupName,
        // The values that CloudWatch knows: a wrong one fails the synthesis.
        retention: days as RetentionDays,
        encryptionKey: key,
        removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
      });
    // Names that the agent and EKS use: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-setup-logs-FluentBit.html
    const insights = `/aws/containerinsights/${this.clusterName}`;
    this.application = group('Application', `${insights}/application`, place.environment.applicationLogDays);
    this.ofAgent = [
      this.application,
      ...['dataplane', 'host', 'performance'].map((part) =>
        group(part, `${insights}/${part}`, OPERATIONS_DAYS),
      ),
    ];
    group('ControlPlane', `/aws/eks/${this.clusterName}/cluster`, place.environment.applicationLogDays);
    group('Database', `/aws/rds/instance/${this.named('database')}/postgresql`, OPERATIONS_DAYS);
    this.slack = group('Slack', `/aws/lambda/${this.named('slack')}`, OPERATIONS_DAYS);
    this.network = group('Network', `/orders/${place.name}/network`, OPERATIONS_DAYS);
  }
}
