import { OWNER, OWNER_TAG } from '@orders/shared/sqs/queue-environment.ts';
import {
  deadLetterQueueDefinition,
  KEY_ALIAS,
  orderQueueDefinition,
  type QueueDefinition,
} from '@orders/shared/sqs/queues.ts';
import { RemovalPolicy, Tags } from 'aws-cdk-lib';
import { AnyPrincipal, Effect, PolicyDocument, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { CfnQueue, CfnQueuePolicy, type CfnQueueProps, type IQueue, Queue } from 'aws-cdk-lib/aws-sqs';
import { StringParameter } from 'aws-cdk-lib/aws-ssm';
import type { Construct } from 'constructs';
import { OrderStack, type Place } from './order-stack.ts';

export const QUEUE_NAME = 'order-queue';
export const DEAD_LETTER_QUEUE_NAME = 'order-dlq';

/** The two queues, as shared/src/sqs/queues.ts defines them, and the key of production's. */
export class MessagingStack extends OrderStack {
  readonly queue: IQueue;
  readonly deadLetterQueue: IQueue;
  /** Production's; staging's queues use a key of SQS. */
  readonly key: Key | undefined;
  /** Encrypts the orders in messages, before SQS gets them. */
  readonly messageKey: Key | undefined;

  constructor(scope: Construct, place: Place) {
    super(scope, 'messaging', place, 'order-queue and order-dlq, and their keys');
    const deadLetters = deadLetterQueueDefinition(place.name, DEAD_LETTER_QUEUE_NAME);
    const orders = orderQueueDefinition(place.name, QUEUE_NAME, this.queueArn(DEAD_LETTER_QUEUE_NAME));

    if (orders.attributes.KmsMasterKeyId !== undefined) {
      this.key = new Key(this, 'Key', {
        alias: KEY_ALIAS,
        description: 'Messages in order-queue and order-dlq',
        // Once a year. What an earlier key encrypted stays readable:
        // https://docs.aws.amazon.com/kms/latest/developerguide/rotate-keys.html
        enableKeyRotation: true,
        removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
      });
    }
    if (place.environment.encryptsMessages) {
      this.messageKey = new Key(this, 'MessageKey', {
        alias: 'alias/order-messages',
        description: 'Orders in messages',
        enableKeyRotation: true,
        // With it, every order that is still in a queue would be gone.
        removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
      });
      new StringParameter(this, 'MessageKeyParameter', {
        parameterName: `/orders/${place.name}/message-key`,
        description: 'MESSAGE_ENCRYPTION_KMS_KEYS of the overlay',
        stringValue: this.messageKey.keyArn,
      });
    }
    const deadLetterQueue = this.createQueue('DeadLetterQueue', deadLetters, {
      // Only the order queue may name this one as its DLQ. The ARN is written out: each queue names the other.
      redriveAllowPolicy: { redrivePermission: 'byQueue', sourceQueueArns: [this.queueArn(QUEUE_NAME)] },
    });
    const queue = this.createQueue('OrderQueue', orders);
    queue.addResourceDependency(deadLetterQueue);
    this.deadLetterQueue = this.protect('DeadLetterQueue', deadLetterQueue);
    this.queue = this.protect('OrderQueue', queue);
  }

  private queueArn(name: string): string {
    return this.formatArn({ service: 'sqs', resource: name });
  }

  /** Attributes have the same names in CloudFormation as in the API; what is text that holds JSON there is an object here. */
  private createQueue(id: string, { name, attributes }: QueueDefinition, more: CfnQueueProps = {}): CfnQueue {
    const properties = Object.entries(attributes).map(([attribute, value = '']) => [
      `${attribute.charAt(0).toLowerCase()}${attribute.slice(1)}`,
      /^(\d+$|true$|false$|\{)/.test(value) ? JSON.parse(value) : value,
    ]);
    const queue = new CfnQueue(this, id, { queueName: name, ...Object.fromEntries(properties), ...more });
    // A queue that is deleted takes its orders along. One of a first deployment that failed is empty, and would be in the
    // way of the next.
    queue.applyRemovalPolicy(RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE);
    // manage-queues.sh leaves what CloudFormation owns.
    Tags.of(queue).add(OWNER_TAG, OWNER);
    if (this.key) queue.node.addDependency(this.key);
    return queue;
  }

  /** Refuses what is not encrypted in transit, and whoever is not of this account, whatever else allows them. */
  private protect(id: string, { ref, attrArn }: CfnQueue): IQueue {
    const refuse = (sid: string, conditions: Record<string, object>) =>
      new PolicyStatement({
        sid,
        effect: Effect.DENY,
        principals: [new AnyPrincipal()],
        actions: ['sqs:*'],
        resources: [attrArn],
        conditions,
      });
    new CfnQueuePolicy(this, `${id}Policy`, {
      queues: [ref],
      policyDocument: new PolicyDocument({
        statements: [
          // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html
          refuse('RefusePlaintext', { Bool: { 'aws:SecureTransport': 'false' } }),
          // AWS's own services have no account to compare. No statement lets one in.
          refuse('RefuseForeignAccounts', {
            StringNotEquals: { 'aws:PrincipalAccount': this.account },
            Bool: { 'aws:PrincipalIsAWSService': 'false' },
          }),
        ],
      }),
    });
    return Queue.fromQueueArn(this, `${id}Reference`, attrArn);
  }
}
