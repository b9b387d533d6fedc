import { ClusterHttp } from './cluster-http.ts';
import type { Arguments } from './command-line.ts';
import type { Session } from './context.ts';
import { checkNamespace } from './deploy-release.ts';
import { DeploymentError } from './errors.ts';
import { Kubectl } from './kubectl.ts';
import { DeploymentLock } from './lock.ts';
import { describeSituation } from './situation.ts';

export const say = (line: string) => console.log(line);

/**
 * Opens what all three commands need. Ctrl-C and SIGTERM break a run off in good order.
 * @returns exit status: what `work` answers, or 1 after telling why it stopped and how things stand
 */
export async function runInCluster(
  args: Arguments,
  work: (session: Session) => Promise<number>,
): Promise<number> {
  const kubectl = new Kubectl(args.environment);
  const interrupted = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort());
  try {
    await checkNamespace(kubectl);
    await using http = await ClusterHttp.open(args.environment);
    const { watchSeconds, rolloutTimeoutSeconds } = args;
    return await work({
      kubectl,
      http,
      say,
      signal: interrupted.signal,
      watchSeconds,
      rolloutTimeoutSeconds,
    });
  } catch (error) {
    if (!(error instanceof DeploymentError)) throw error;
    say(`stopped: ${error.message}`);
    const situation = await describeSituation(kubectl).catch((cause) => [
      `how things stand cannot be seen: ${cause.message}`,
      'pods and Services go on as they were; when the cluster answers, run this again',
    ]);
    for (const line of situation) say(`  ${line}`);
    return 1;
  }
}

/** Runs `work` while holding the lock of the namespace. */
export async function locked(
  session: Session,
  work: (session: Session, lock: DeploymentLock) => Promise<void>,
): Promise<void> {
  await using lock = await DeploymentLock.acquire(session.kubectl);
  await work({ ...session, signal: AbortSignal.any([session.signal, lock.signal]) }, lock);
}
