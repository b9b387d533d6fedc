import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { App, type IPolicyValidationPlugin, type Stack, Validations } from 'aws-cdk-lib';
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
};

/** All stacks of one environment. Asks AWS nothing. */
export function createApp(name: EnvironmentName, settings: Settings, { outdir, plugins = [] }: Options = {}) {
  const app = new App({
    // Exports keep CloudFormation from deleting what another stack uses, and every stand-in for AWS knows them. The
    // recommendation, `weak`, knows no such check.
    context: { ...flags, '@aws-cdk/core:defaultCrossStackReferences': 'strong' },
    // The templates say the same on every machine.
    analyticsReporting: false,
    ...(outdir === undefined ? {} : { outdir }),
  });
  const environment = ENVIRONMENTS[name];
  const place: Place = { name, environment, settings };

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
  const stacks: Readonly<Record<string, Stack>> = {
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
    ...(environment.hasRegistry ? { registry: new RegistryStack(app, place) } : {}),
  };
  if (plugins.length > 0) Validations.of(app).addPlugins(...plugins.map((create) => create(app)));
  return { app, stacks };
}
