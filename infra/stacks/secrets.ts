import { ENVIRONMENT_TAG } from '@orders/shared/sqs/queue-environment.ts';
import { RemovalPolicy } from 'aws-cdk-lib';
import { AnyPrincipal, Effect, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { type CfnResourcePolicy, type CfnSecret, type ISecret, Secret } from 'aws-cdk-lib/aws-secretsmanager';
import type { Construct } from 'constructs';
import { acknowledge } from './acknowledge.ts';
import { OrderStack, type Place } from './order-stack.ts';

/**
 * Secrets whose values people make, and the key of all secrets. They are created without a value, so that none is ever in
 * a template: `aws secretsmanager put-secret-value` fills them (docs/infrastructure.md).
 */
export class SecretsStack extends OrderStack {
  readonly key: Key;
  /** The file of API keys that both services read (docs/security.md). */
  readonly clients: ISecret;
  /** The URL that the function of alarms posts to. */
  readonly slackWebhook: ISecret;

  constructor(scope: Construct, place: Place) {
    super(scope, 'secrets', place, 'Secrets that people fill, and the key of all secrets');
    this.key = new Key(this, 'Key', {
      alias: `alias/${this.named('secrets')}`,
      description: 'Secrets of the order pipeline',
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    this.clients = this.emptySecret(
      'Clients',
      'clients',
      'API keys of clients, as scripts/client-key.sh writes them',
      'A client must be given its new key before the old one ends, by people: docs/security.md, Replace a key. No function can do that.',
    );
    this.slackWebhook = this.emptySecret(
      'SlackWebhook',
      'slack-webhook',
      'URL of the incoming webhook of Slack, for alarms',
      'Slack hands out a new URL to a person only: docs/infrastructure.md, Slack. No function can ask for one.',
    );
  }

  private emptySecret(id: string, name: string, description: string, whyNotRotated: string): ISecret {
    const secret = new Secret(this, id, {
      secretName: `orders/${this.place.name}/${name}`,
      description,
      encryptionKey: this.key,
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    // Without this, a random text that nobody could use.
    (secret.node.defaultChild as CfnSecret).generateSecretString = undefined;
    acknowledge(secret, { 'AwsSolutions-SMG4': whyNotRotated });
    keepWithin(this, secret);
    return secret;
  }
}

/**
 * Refuses whoever reads or writes from another account, and roles of the other environment should both be in one account.
 * This cannot let anybody in:
 * https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_resource-policies.html
 */
export function keepWithin(stack: OrderStack, secret: Secret): void {
  const refuse = (sid: string, conditions: Record<string, object>) =>
    new PolicyStatement({
      sid,
      effect: Effect.DENY,
      principals: [new AnyPrincipal()],
      actions: ['GetSecretValue', 'PutSecretValue', 'UpdateSecret', 'DeleteSecret'].map(
        (action) => `secretsmanager:${action}`,
      ),
      // In a resource policy, the secret that it belongs to.
      resources: ['*'],
      conditions,
    });
  const refusals = [
    refuse('RefuseForeignAccounts', { StringNotEquals: { 'aws:PrincipalAccount': stack.account } }),
    refuse('RefuseOtherEnvironments', {
      StringNotEquals: { [`aws:PrincipalTag/${ENVIRONMENT_TAG}`]: stack.place.name },
      Null: { [`aws:PrincipalTag/${ENVIRONMENT_TAG}`]: 'false' },
    }),
  ];
  for (const statement of refusals) secret.addToResourcePolicy(statement);
  (secret.node.findChild('Policy').node.defaultChild as CfnResourcePolicy).blockPublicPolicy = true;
}
