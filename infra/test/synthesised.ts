import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { App } from 'aws-cdk-lib';
import { createApp } from '../app.ts';
import type { EnvironmentName } from '../environments.ts';
import { readSettings } from '../settings.ts';

type Properties = Record<string, unknown>;
export type Resource = {
  Type: string;
  Properties: Properties;
  DeletionPolicy?: string;
  stack: string;
  id: string;
};

export type Synthesised = {
  app: App;
  /** Where the templates are. */
  folder: string;
  /** Of all stacks, with what they refer to written as text: `<OrderQueue.Arn>`, `<AWS::AccountId>`. */
  resources: readonly Resource[];
};

const folder = mkdtempSync(path.join(tmpdir(), 'order-pipeline-templates-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const made = new Map<EnvironmentName, Synthesised>();

/** With placeholders for what a team sets itself; once for all tests. */
export function synthesised(name: EnvironmentName): Synthesised {
  const before = made.get(name);
  if (before) return before;
  const outdir = path.join(folder, name);
  const { app, stacks } = createApp(name, readSettings({}).settings, { outdir });
  const assembly = app.synth();
  const resources = Object.entries(stacks).flatMap(([stack, { stackName }]) =>
    Object.entries(assembly.getStackByName(stackName).template.Resources as Record<string, Resource>).map(
      ([id, resource]) => ({ ...(plain(resource) as Resource), stack, id }),
    ),
  );
  const result = { app, folder: outdir, resources };
  made.set(name, result);
  return result;
}

export const ofType = (name: EnvironmentName, type: string): Resource[] =>
  synthesised(name).resources.filter(({ Type }) => Type === type);

/** The only one of its type; with `where`, the only one with these properties. */
export function theOnly(name: EnvironmentName, type: string, where: Properties = {}): Resource {
  const found = ofType(name, type).filter(({ Properties }) =>
    Object.entries(where).every(([key, value]) => Properties[key] === value),
  );
  const [only] = found;
  if (!only || found.length > 1) throw new Error(`${found.length} of ${type} in ${name}`);
  return only;
}

/** References as text, wherever they lead. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const [[key, inner] = ['', undefined], ...others] = Object.entries(value);
  if (others.length === 0) {
    if (key === 'Ref') return `<${inner}>`;
    if (key === 'Fn::GetAtt') return `<${(inner as string[]).join('.')}>`;
    if (key === 'Fn::Join')
      return (plain((inner as [string, unknown[]])[1]) as string[]).join(String((inner as unknown[])[0]));
    if (key === 'Fn::ImportValue') return imported(String(inner));
  }
  return Object.fromEntries(Object.entries(value).map(([name, inside]) => [name, plain(inside)]));
}

/** `orders-staging-messaging:ExportsOutputFnGetAttOrderQueueArn3A7B` is the ARN of OrderQueue. */
function imported(name: string): string {
  const [, kind, text = ''] = /:ExportsOutput(FnGetAtt|Ref)(\w+?)[0-9A-F]{8}$/.exec(name) ?? [];
  return kind === 'Ref' ? `<${text}>` : `<${text.replace(/(Arn|GroupId|QueueName)$/, '.$1')}>`;
}

export type Statement = {
  Sid?: string;
  Effect: 'Allow' | 'Deny';
  Action: string | string[];
  Resource?: string | string[];
  Principal?: unknown;
  Condition?: Record<string, Record<string, unknown>>;
};

export const statementsIn = (document: unknown): Statement[] =>
  (document as { Statement: Statement[] }).Statement;

/** What a role allows, such as `sqs:SendMessage <OrderQueue.Arn>`. */
export function allowedTo(name: EnvironmentName, roleName: string): string[] {
  const role = theOnly(name, 'AWS::IAM::Role', { RoleName: roleName });
  const policies = ofType(name, 'AWS::IAM::Policy').filter(
    ({ stack, Properties }) =>
      stack === role.stack && (Properties['Roles'] as string[]).includes(`<${role.id}>`),
  );
  return policies
    .flatMap(({ Properties }) => statementsIn(Properties['PolicyDocument']))
    .flatMap(({ Action, Resource = [] }) =>
      [Action].flat().flatMap((action) => [Resource].flat().map((resource) => `${action} ${resource}`)),
    )
    .toSorted();
}
