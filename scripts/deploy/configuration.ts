import { isDeepStrictEqual } from 'node:util';
import type { Context, Session, Step } from './context.ts';
import { DeploymentError, messageOf } from './errors.ts';
import { type Kubectl, type KubernetesObject, lastApplied, type ServiceObject } from './kubectl.ts';
import { trackOf } from './live.ts';
import type { DeploymentState } from './lock.ts';
import { defaultOverlay, type RunningReleases, type Track } from './manifests.ts';
import { verify } from './verify.ts';

/** What they hold has another name when it changes, so that pods keep theirs; and a deployer may not read Secrets. */
const isHarmless = ({ kind }: KubernetesObject) => kind === 'ConfigMap' || kind === 'Secret';

const nameOf = ({ kind, metadata: { name } }: KubernetesObject) => `${kind} ${name}`;

/** What of the overlay, but for the two Deployments, is new or other than what was applied last. */
export async function findChanges(kubectl: Kubectl, objects: KubernetesObject[]): Promise<string[]> {
  const wanted = objects.filter((object) => !isHarmless(object));
  const live = new Map((await kubectl.findAll(wanted)).map((object) => [nameOf(object), object]));
  const changed = wanted.filter((object) => {
    const found = live.get(nameOf(object));
    const applied = found && lastApplied(found);
    return !applied || !isDeepStrictEqual(comparable(applied), comparable(object));
  });
  return changed.map(nameOf);
}

/** kubectl notes annotations also where there are none, and a switch may have changed where the Service leads. */
const comparable = ({ metadata: { annotations = {}, ...metadata }, ...rest }: KubernetesObject) =>
  withTrack('stable', { ...rest, metadata: { ...metadata, annotations } });

/** Applies it, and looks whether what serves stands it: no candidate stands between it and the live pods. */
export function configurationStep(context: Context, changes: string[]): Step {
  const { kubectl, manifests, record, say } = context;
  return {
    title: `configuration of the overlay${changes.length > 0 ? `: ${changes.join(', ')}` : ''}`,
    run: async () => {
      await apply(kubectl, manifests.others);
      if (changes.length === 0) return;
      const indented = { ...context, say: (line: string) => say(`  ${line}`) };
      const problems = await verify(indented, record.state, { ordering: true });
      if (problems.length > 0) throw new DeploymentError('CHECK_FAILED', problems.join('; '));
    },
  };
}

/** Applies all of it, the Service to where it leads: nothing but a switch moves traffic. */
export async function apply(kubectl: Kubectl, objects: KubernetesObject[]): Promise<void> {
  const track = await trackOf(kubectl);
  await kubectl.apply(objects.map((object) => withTrack(track, object)));
}

function withTrack(track: Track, object: KubernetesObject): KubernetesObject {
  if (nameOf(object) !== 'Service order-producer') return object;
  const service = structuredClone(object) as ServiceObject;
  service.spec.selector['track'] = track;
  return service;
}

/**
 * Applies the overlay as it was at the commit of the release to go back to. Where git cannot say, what the release that
 * is left brought stays; and so does what is new with it. Both are told.
 */
export async function restoreConfiguration(
  { kubectl, configurationAt, say }: Session,
  { release, overlay = defaultOverlay(kubectl.namespace) }: DeploymentState,
  previous: RunningReleases,
): Promise<void> {
  const of = async (release: string) =>
    (await configurationAt(release, overlay)).filter((object) => !isHarmless(object));
  let wanted: KubernetesObject[];
  try {
    wanted = await of(previous['order-producer'].release);
  } catch (error) {
    return say(`  configuration stays as it is: ${messageOf(error)}`);
  }
  await apply(kubectl, wanted);
  const names = new Set(wanted.map(nameOf));
  const left = await of(release ?? '').catch(() => []);
  for (const name of left.map(nameOf).filter((name) => !names.has(name))) say(`  ${name} is new and stays`);
}
