import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import {
  App,
  CliCredentialsStackSynthesizer,
  type IPolicyValidationPlugin,
  RemovalPolicies,
  type Stack,
  Validations,
} from 'aws-cdk-lib';
import { ENVIRONMENTS, type EnvironmentName } from './environments.ts';
import type { Settings } from './settings.ts';
import { AccessStack } from './stacks/access.ts';
import { AuditStack } from './stacks/audit.ts';
import { ComputeStack } from './stacks/compute.ts';
import { DataStack } from './stacks/data.ts';
import { DeliveryStack } from './stacks/delivery.ts';
import { LogsStack } from './stacks/logs.ts';
import { MessagingStack } from './stacks/messaging.ts';
import { NetworkStack } from './stacks/network.ts';
import { ObservabilityStack } from './stacks/observability.ts';
import type { Place } from './stacks/order-stack.ts';
import { RegistryStack } from './stacks/registry.ts';
import { SecretsStack } from './stacks/secrets.ts';

/** What this version of the library recommends to new projects. A later version may change templates: the snapshot shows it. */
const flags = JSON.parse(
  readFileSync(createRequire(import.meta.url).resolve('aws-cdk-lib/recommended-feature-flags.json'), 'utf8'),
);

type Options = {
  /** Where the templates go; a temporary folder where left out. */
  outdir?: string | undefined;
  /** Look at what is synthesised, and fail it. */
  plugins?: readonly ((app: App) => IPolicyValidationPlugin)[];
  /** For LocalStack 4.14: only what it has, with its files in this bucket, and nothing outlives its stack. */
  standIn?: { bucket: string } | undefined;
};

/** All stacks of one environment. Asks AWS nothing. */
export function createApp(
  name: EnvironmentName,
  settings: Settings,
  { outdir, plugins = [], standIn }: Options = {},
) {
  const app = new App({
    // Exports keep CloudFormation from deleting what another stack uses, and every stand-in for AWS knows them. The
    // recommendation, `weak`, knows no such check.
    context: { ...flags, '@aws-cdk/core:defaultCrossStackReferences': 'strong' },
    // The templates say the same on every machine.
    analyticsReporting: false,
    ...(outdir === undefined ? {} : { outdir }),
    // A stand-in knows neither the roles nor the registry of `cdk bootstrap`.
    ...(standIn
      ? {
          defaultStackSynthesizer: new CliCredentialsStackSynthesizer({
            fileAssetsBucketName: standIn.bucket,
          }),
        }
      : {}),
  });
  const place: Place = { name, environment: ENVIRONMENTS[name], settings };
  const stacks = standIn ? stacksOfStandIn(app, place) : stacksOf(app, place);
  if (standIn) {
    RemovalPolicies.of(app).destroy();
    for (const stack of Object.values(stacks)) stack.terminationProtection = false;
  }
  if (plugins.length > 0) Validations.of(app).addPlugins(...plugins.map((create) => create(app)));
  return { app, stacks };
}

type Stacks = Readonly<Record<string, Stack>>;

function stacksOf(app: App, place: Place): Stacks {
  const logs = new LogsStack(app, place);
  const network = new NetworkStack(app, place, logs.network);
  const messaging = new MessagingStack(app, place);
  const secrets = new SecretsStack(app, place);
  const data = new DataStack(app, place, { vpc: network.vpc, database: network.database, key: secrets.key });
  const access = new AccessStack(app, place, {
    messaging,
    secrets: [secrets.clients, data.secret],
    secretsKey: secrets.key,
    logGroups: logs.ofAgent,
  });
  const delivery = new DeliveryStack(app, place, messaging);
  const compute = new ComputeStack(app, place, { vpc: network.vpc, nodes: network.nodes, access, delivery });
  const audit = new AuditStack(app, place, messaging);
  const observability = new ObservabilityStack(app, place, {
    webhook: secrets.slackWebhook,
    secretsKey: secrets.key,
    logs: logs.slack,
  });
  return {
    logs,
    network,
    messaging,
    secrets,
    data,
    access,
    delivery,
    compute,
    audit,
    observability,
    ...(place.environment.hasRegistry ? { registry: new RegistryStack(app, place) } : {}),
  };
}

/** Of the same code. LocalStack 4.14 has no EKS, ECR, RDS, CloudTrail, dashboards or rules of security groups. */
function stacksOfStandIn(app: App, place: Place): Stacks {
  const logs = new LogsStack(app, place);
  const messaging = new MessagingStack(app, place);
  const secrets = new SecretsStack(app, place);
  const access = new AccessStack(app, place, {
    messaging,
    secrets: [secrets.clients],
    secretsKey: secrets.key,
    logGroups: logs.ofAgent,
  });
  const observability = new ObservabilityStack(
    app,
    place,
    { webhook: secrets.slackWebhook, secretsKey: secrets.key, logs: logs.slack },
    { standIn: true },
  );
  return { logs, messaging, secrets, access, observability };
}
