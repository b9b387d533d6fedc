import { ENVIRONMENT_TAG } from '@orders/shared/sqs/queue-environment.ts';
import { Stack, Tags } from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import type { Environment, EnvironmentName } from '../environments.ts';
import type { Settings } from '../settings.ts';

/** What every stack is made from. */
export type Place = { name: EnvironmentName; environment: Environment; settings: Settings };

/** A stack of one environment: `orders-staging-messaging`. */
export class OrderStack extends Stack {
  readonly place: Place;

  constructor(scope: Construct, part: string, place: Place, description: string) {
    const { account } = place.settings;
    super(scope, `orders-${place.name}-${part}`, {
      description,
      env: { region: place.environment.region, ...(account === undefined ? {} : { account }) },
      // Nobody may delete by mistake what would take orders along.
      terminationProtection: place.name === 'production',
    });
    this.place = place;
    Tags.of(this).add(ENVIRONMENT_TAG, place.name);
  }

  get clusterName(): string {
    return `orders-${this.place.name}`;
  }

  /** The environment's own name for something, such as `orders-staging-deploy`. */
  named(what: string): string {
    return `orders-${this.place.name}-${what}`;
  }
}
