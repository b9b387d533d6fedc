import { isDeepStrictEqual } from 'node:util';
import type { Context, Session, Step } from './context.ts';
import { hasCode, isOutOfReach, messageOf } from './errors.ts';
import type { Kubectl, KubernetesObject, ServiceObject } from './kubectl.ts';
import { trackOf } from './live.ts';
import type { Facts } from './lock.ts';
import type { Manifests, Track } from './manifests.ts';
import { lastApplied } from './rollout.ts';
import { checkUnharmed } from './watch.ts';

/**
 * Not looked at: what they hold has another name when it changes, so that pods keep theirs; and a deployer may not read
 * Secrets.
 */
const HARMLESS = new Set(['ConfigMap', 'Secret']);

/** What applying an overlay's configuration would change, and what it was before. */
export type Changes = Required<Pick<Facts, 'configuration' | 'added'>>;

/** Everything of the overlay but the two Deployments, as it differs from what was applied last. */
export async function findChanges(kubectl: Kubectl, { others }: Manifests): Promise<Changes> {
  const wanted = others.filter(({ kind }) => !HARMLESS.has(kind));
  const live = await kubectl.findAll(wanted);
  const changes: Changes = { configuration: [], added: [] };
  for (const object of wanted) {
    const { kind, metadata } = object;
    const found = live.find((each) => each.kind === kind && each.metadata.name === metadata.name);
    const before = found && (lastApplied(found) ?? bare(found));
    if (!before) changes.added.push([kindOf(object), metadata.name]);
    else if (!isDeepStrictEqual(comparable(before), comparable(object))) changes.configuration.push(before);
  }
  return changes;
}

/** Applies it, and looks whether what serves stands it: no candidate stands between it and the live pods. */
export function configurationStep(context: Context, changes: Changes): Step {
  const { kubectl, manifests, memory } = context;
  const { configuration, added } = changes;
  const names = [
    ...configuration.map(({ kind, metadata: { name } }) => `${kind} ${name}`),
    ...added.map(([kind, name]) => `${kind} ${name}`),
  ];
  return {
    title: `configuration of the overlay${names.length > 0 ? `: ${names.join(', ')}` : ''}`,
    run: async () => {
      // A run that goes on sees what the one before has applied: what was there first is what counts.
      await memory.remember({ configuration, added, ...memory.facts });
      await apply(kubectl, manifests.others);
      if (names.length > 0) await checkUnharmed(context, memory.facts.before);
    },
  };
}

/** Applies all of it, the Service to where it leads: nothing but a switch moves traffic. */
export async function apply(kubectl: Kubectl, objects: KubernetesObject[]): Promise<void> {
  const track = await trackOf(kubectl);
  await kubectl.apply(...objects.map((object) => withTrack(track, object)));
}

/** Puts the overlay's objects back to what they were. What a deployer may not delete is left, and named. */
export async function restoreConfiguration(session: Session, { configuration, added }: Facts): Promise<void> {
  const { kubectl, say } = session;
  await apply(kubectl, configuration ?? []);
  for (const [kind, name] of added ?? []) {
    await kubectl.delete(kind, name).catch((error) => {
      if (isOutOfReach(error) || !hasCode(error, 'FORBIDDEN', 'KUBECTL')) throw error;
      say(`  ${kind} ${name} is new and stays: ${messageOf(error)}`);
    });
  }
}

/** kubectl notes annotations also where there are none, and a switch has changed where the Service leads. */
function comparable(object: KubernetesObject): KubernetesObject {
  const { annotations = {}, ...metadata } = object.metadata;
  return withTrack('stable', { ...object, metadata: { ...metadata, annotations } });
}

function withTrack(track: Track, object: KubernetesObject): KubernetesObject {
  if (object.kind !== 'Service' || object.metadata.name !== 'order-producer') return object;
  const service = structuredClone(object) as ServiceObject;
  service.spec.selector['track'] = track;
  return service;
}

/** As kubectl takes it, whatever else in the cluster has a kind of that name. */
function kindOf({ apiVersion, kind }: KubernetesObject): string {
  const [group, version] = apiVersion.split('/');
  return version === undefined ? kind : `${kind}.${version}.${group}`;
}

/** A live object without what the API server wrote into it. */
function bare(object: KubernetesObject): KubernetesObject {
  const { status: _status, metadata, ...rest } = object as KubernetesObject & { status?: unknown };
  const { name, namespace, labels, annotations } = metadata;
  return structuredClone({
    ...rest,
    metadata: {
      name,
      ...(namespace ? { namespace } : {}),
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
    },
  });
}
