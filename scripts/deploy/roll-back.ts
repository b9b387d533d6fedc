import { consumerBack } from './consumer-gradual.ts';
import type { Session } from './context.ts';
import { findLive, releasesOf, secondsSince } from './deploy-release.ts';
import { DeploymentError } from './errors.ts';
import type { DeploymentLock } from './lock.ts';
import type { RunningReleases } from './manifests.ts';
import { producerBack } from './producer-blue-green.ts';
import { codeVersionOf, type Environment, redriveRelease } from './redrive.ts';
import { revisions } from './rollout.ts';

const both = (release: string): RunningReleases => ({
  'order-producer': { release },
  'order-consumer': { release },
});

/**
 * Which releases to go back to: the one named, those before the last deployment, or, where no script deployed, the one
 * of the producer's revision before.
 * @throws {DeploymentError} NOTHING_TO_GO_BACK_TO
 */
export async function rollBackTarget(
  session: Session,
  lock: DeploymentLock,
  named?: string,
): Promise<RunningReleases> {
  const { previous, release } = lock.state;
  if (named !== undefined) return both(named);
  if (previous) return previous;
  const [current, ...earlier] = await revisions(session.kubectl, 'order-producer');
  const before = earlier.find((revision) => revision.release !== current?.release);
  // After a rollback the revision before is the one that was left: nobody wants that by calling twice.
  if (before && release === undefined) return both(before.release);
  throw new DeploymentError(
    'NOTHING_TO_GO_BACK_TO',
    `${current?.release ?? 'nothing'} runs, and no earlier deployment is known; name a release with --to=TAG`,
  );
}

/** Both services to `target`, the candidates of a broken-off deployment away, its dead letters back in the queue. */
export async function rollBack(
  session: Session,
  lock: DeploymentLock,
  environment: Environment,
  target: RunningReleases,
): Promise<void> {
  const { kubectl, say } = session;
  const startedAt = performance.now();
  const { startedAt: deployedAt, release } = lock.state;
  const live = await findLive(kubectl);
  if (!live)
    throw new DeploymentError('NOTHING_TO_GO_BACK_TO', `nothing is deployed in ${kubectl.namespace}`);
  const current = releasesOf(live);
  const left = release ?? current['order-consumer'].release;
  const codeVersion = await codeVersionOf(session, left);
  say(`[1/3] order-producer: ${current['order-producer'].release} → ${target['order-producer'].release}`);
  await producerBack(session, target['order-producer']);
  say(`[2/3] order-consumer: ${current['order-consumer'].release} → ${target['order-consumer'].release}`);
  await consumerBack(session, target['order-consumer']);
  say(`[3/3] redrive of what ${codeVersion} has dead-lettered`);
  const since = new Date(deployedAt ?? 0);
  const redriven =
    left === target['order-consumer'].release ? 0 : await redriveRelease(environment, codeVersion, since);
  say(`  ${redriven} messages are back in the queue`);
  await lock.setState({ release: target['order-producer'].release });
  say(`${target['order-producer'].release} runs again after ${secondsSince(startedAt)} s`);
}
