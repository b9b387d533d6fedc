import type { Session } from './context.ts';
import { DeploymentError } from './errors.ts';
import { goBack } from './go-back.ts';
import type { Kubectl } from './kubectl.ts';
import { findLive, releasesOf } from './live.ts';
import type { DeploymentLock, DeploymentState } from './lock.ts';
import { type RunningReleases, SERVICES } from './manifests.ts';
import { findRevision, revisions } from './rollout.ts';

const to = (producer: string, consumer = producer): RunningReleases => ({
  'order-producer': { release: producer },
  'order-consumer': { release: consumer },
});

/**
 * Which releases to go back to: the one named, or the two as `PRODUCER,CONSUMER`; those before the last deployment; or,
 * where no script deployed, the one of the producer's revision before. Both are known to be there.
 * @throws {DeploymentError} NOTHING_TO_GO_BACK_TO
 */
export async function rollBackTarget(
  kubectl: Kubectl,
  state: DeploymentState,
  named?: string,
): Promise<RunningReleases> {
  const target = await choose(kubectl, state, named);
  for (const service of SERVICES) await findRevision(kubectl, service, target[service]);
  return target;
}

async function choose(
  kubectl: Kubectl,
  { previous, release }: DeploymentState,
  named?: string,
): Promise<RunningReleases> {
  // The release before, named by the producer's: the consumer may have had another one.
  if (previous && [undefined, previous['order-producer'].release].includes(named)) return previous;
  const [producer, consumer] = named?.split(',') ?? [];
  if (producer !== undefined) return to(producer, consumer);
  const [current, ...earlier] = await revisions(kubectl, 'order-producer');
  const before = earlier.find((revision) => revision.release !== current?.release);
  // After a rollback the revision before is the one that was left: nobody wants that by calling twice.
  if (before && release === undefined) return to(before.release);
  throw new DeploymentError(
    'NOTHING_TO_GO_BACK_TO',
    `${current?.release ?? 'nothing'} runs, and no earlier deployment is known; name a release with --to=TAG`,
  );
}

/**
 * Both services to `target`, the candidates of a broken-off deployment away, its dead letters back in the queue.
 * @returns what is left to a person, though all is back
 * @throws {DeploymentError} NOT_BACK
 */
export async function rollBack(
  session: Session,
  lock: DeploymentLock,
  target: RunningReleases,
): Promise<string | undefined> {
  const { kubectl, say } = session;
  const startedAt = performance.now();
  const live = await findLive(kubectl);
  if (!live)
    throw new DeploymentError('NOTHING_TO_GO_BACK_TO', `nothing is deployed in ${kubectl.namespace}`);
  const current = releasesOf(live);
  const release = lock.state.release ?? current['order-consumer'].release;
  for (const service of SERVICES) say(`${service}: ${current[service].release} → ${target[service].release}`);
  // Broken off, it is half a deployment like any other: the next run goes back first.
  await lock.setState({ ...lock.state, release, previous: target, step: 'rollback' });
  const redrive = release !== target['order-consumer'].release;
  const leftToDo = await goBack(session, lock.state, target, { redrive });
  await lock.setState({ release: target['order-producer'].release });
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  say(`${target['order-producer'].release} runs again after ${seconds} s`);
  return leftToDo;
}
