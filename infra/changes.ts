import { fullDiff, ResourceImpact } from '@aws-cdk/cloudformation-diff';

/** A template of CloudFormation, as JSON. */
export type Template = Readonly<Record<string, unknown>>;

/** What a deployment does to one resource, or, where `effect` is `update`, to a part of the template that is none. */
export type Change = {
  /** The stack and the resource's id in its template. */
  at: string;
  /** Such as `AWS::SQS::Queue`; empty for outputs, parameters and the like. */
  type: string;
  /** Its own name where the template gives it one, its id otherwise. What a person types to allow it. */
  name: string;
  effect: 'create' | 'update' | 'may replace' | 'replace' | 'remove';
  /** The properties that differ. */
  properties: readonly string[];
};

/** What holds orders, their record, or what they cannot be read without. */
const IRREPLACEABLE: readonly string[] = [
  'AWS::SQS::Queue',
  'AWS::KMS::Key',
  'AWS::RDS::DBInstance',
  'AWS::SecretsManager::Secret',
  'AWS::Logs::LogGroup',
  'AWS::S3::Bucket',
  'AWS::ECR::Repository',
  'AWS::EKS::Cluster',
];

const EFFECTS: Readonly<Record<ResourceImpact, Change['effect'] | undefined>> = {
  [ResourceImpact.WILL_CREATE]: 'create',
  [ResourceImpact.WILL_IMPORT]: 'create',
  [ResourceImpact.WILL_UPDATE]: 'update',
  [ResourceImpact.MAY_REPLACE]: 'may replace',
  [ResourceImpact.WILL_REPLACE]: 'replace',
  [ResourceImpact.WILL_DESTROY]: 'remove',
  // It stays in the account, and no stack looks after it: the services that use it are told nothing.
  [ResourceImpact.WILL_ORPHAN]: 'remove',
  [ResourceImpact.NO_CHANGE]: undefined,
};

/**
 * What deploying `after` would do where `before` stands. Which properties replace a resource is from AWS's own schemas.
 * @param before empty where there is no stack yet
 */
export function compareTemplates(stack: string, before: Template, after: Template): Change[] {
  const diff = fullDiff({ ...before }, { ...after });
  const changes: Change[] = [];
  diff.resources.forEachDifference((id, difference) => {
    const effect = EFFECTS[difference.changeImpact];
    if (effect === undefined) return;
    const type = difference.oldResourceType ?? difference.newResourceType ?? '';
    changes.push({
      at: `${stack}/${id}`,
      type,
      name: nameOf(difference.oldProperties) ?? nameOf(difference.newProperties) ?? id,
      effect,
      properties: [...Object.keys(difference.propertyUpdates), ...Object.keys(difference.otherChanges)],
    });
  });
  // Outputs, parameters, conditions: they do nothing by themselves.
  const others = diff.differenceCount - diff.resources.differenceCount;
  if (others > 0)
    changes.push({
      at: stack,
      type: '',
      name: `${others} outputs or the like`,
      effect: 'update',
      properties: [],
    });
  return changes;
}

/** Whether orders, their record or their keys may go with it: a person must name it. */
export const isDestructive = ({ type, effect }: Change): boolean =>
  IRREPLACEABLE.includes(type) && (effect === 'remove' || effect === 'replace' || effect === 'may replace');

/** One line. */
export function describeChange(change: Change): string {
  const { at, type, name, effect, properties } = change;
  const what = [at, type, at.endsWith(`/${name}`) ? '' : name].filter(Boolean).join(' ');
  const why = properties.length > 0 ? ` (${properties.join(', ')})` : '';
  return `${isDestructive(change) ? 'DESTRUCTIVE ' : ''}${effect}: ${what}${why}`;
}

/** Properties by which resources are named: `QueueName`, `DBInstanceIdentifier`, `Name`. A key has an alias of its own. */
function nameOf(properties: Readonly<Record<string, unknown>> | undefined): string | undefined {
  const [, name] =
    Object.entries(properties ?? {}).find(
      ([key, value]) =>
        typeof value === 'string' &&
        /^(Queue|Secret|LogGroup|Bucket|Repository)?Name$|^DBInstanceIdentifier$/.test(key),
    ) ?? [];
  return name as string | undefined;
}
