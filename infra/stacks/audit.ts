import { Duration, RemovalPolicy } from 'aws-cdk-lib';
import { CfnTrail } from 'aws-cdk-lib/aws-cloudtrail';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import {
  BlockPublicAccess,
  Bucket,
  BucketEncryption,
  ObjectLockRetention,
  ObjectOwnership,
} from 'aws-cdk-lib/aws-s3';
import type { Construct } from 'constructs';
import { acknowledge } from './acknowledge.ts';
import type { MessagingStack } from './messaging.ts';
import { OrderStack, type Place } from './order-stack.ts';

/** Who did what in the account, where nobody can change it afterwards. */
export class AuditStack extends OrderStack {
  constructor(scope: Construct, place: Place, { queue, deadLetterQueue }: MessagingStack) {
    super(scope, 'audit', place, 'CloudTrail and its locked bucket');
    const { sqsCalls, lockDays } = place.environment.audit;
    const trailName = this.named('audit');
    const trailArn = this.formatArn({ service: 'cloudtrail', resource: 'trail', resourceName: trailName });
    const cloudTrail = new ServicePrincipal('cloudtrail.amazonaws.com');
    const byThisTrail = { StringEquals: { 'aws:SourceArn': trailArn } };

    const key = new Key(this, 'Key', {
      alias: `alias/${trailName}`,
      description: 'Records of CloudTrail',
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    // https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html
    key.addToResourcePolicy(
      new PolicyStatement({
        principals: [cloudTrail],
        actions: ['kms:GenerateDataKey*', 'kms:DescribeKey'],
        resources: ['*'],
        conditions: byThisTrail,
      }),
    );
    const bucket = new Bucket(this, 'Bucket', {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      encryption: BucketEncryption.KMS,
      encryptionKey: key,
      bucketKeyEnabled: true,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      versioned: true,
      // Not even the account's root user deletes a record before its time:
      // https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
      objectLockDefaultRetention: ObjectLockRetention.compliance(Duration.days(lockDays)),
      lifecycleRules: [
        { expiration: Duration.days(lockDays + 30), noncurrentVersionExpiration: Duration.days(1) },
      ],
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    acknowledge(bucket, {
      'AwsSolutions-S1':
        'Only CloudTrail writes here. Who reads is in CloudTrail itself, if data events of this bucket are wanted; logs of the log bucket would need a third bucket.',
    });
    // https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-s3-bucket-policy-for-cloudtrail.html
    const allow = (action: string, resource: string) =>
      bucket.addToResourcePolicy(
        new PolicyStatement({
          principals: [cloudTrail],
          actions: [action],
          resources: [resource],
          conditions: byThisTrail,
        }),
      );
    allow('s3:GetBucketAcl', bucket.bucketArn);
    allow('s3:PutObject', bucket.arnForObjects(`AWSLogs/${this.account}/*`));

    const is = (field: string, ...equalTo: string[]) => ({ field, equalTo });
    const trail = new CfnTrail(this, 'Trail', {
      trailName,
      s3BucketName: bucket.bucketName,
      kmsKeyId: key.keyArn,
      isLogging: true,
      isMultiRegionTrail: true,
      includeGlobalServiceEvents: true,
      // A digest each hour tells whether a record was changed or is missing:
      // https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-intro.html
      enableLogFileValidation: true,
      advancedEventSelectors: [
        { name: 'Management', fieldSelectors: [is('eventCategory', 'Management')] },
        // Only advanced selectors know queues:
        // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/logging-using-cloudtrail.html
        ...(sqsCalls
          ? [
              {
                name: 'Messages',
                fieldSelectors: [
                  is('eventCategory', 'Data'),
                  is('resources.type', 'AWS::SQS::Queue'),
                  is('resources.ARN', queue.queueArn, deadLetterQueue.queueArn),
                ],
              },
            ]
          : []),
      ],
    });
    // CloudTrail tries whether it may write when the trail is created.
    if (bucket.policy) trail.node.addDependency(bucket.policy);
  }
}
