import { openKubectlProxy } from '../kubectl-proxy.ts';
import { ROLLOUT_TIMEOUT_SECONDS, type Settings, WATCH_SECONDS } from './command-line.ts';
import type { Session } from './context.ts';
import { DeploymentError, hasCode, messageOf } from './errors.ts';
import { Kubectl } from './kubectl.ts';
import { checkNamespace, describeSituation } from './live.ts';
import { acquireLock, type DeploymentLock } from './lock.ts';
import { readManifests } from './manifests.ts';
import { renderOverlayAt } from './overlay.ts';
import { podHttp } from './pod-http.ts';
import { redriveRelease } from './redrive.ts';

export const say = (line: string) => console.log(line);

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/**
 * Opens what all three commands need. Ctrl-C and SIGTERM break a run off in good order; the second one at once.
 * @returns exit status: what `work` answers, or 1 after telling why it stopped and how things stand
 */
export async function runInCluster(
  settings: Settings,
  work: (session: Session) => Promise<number>,
): Promise<number> {
  const { environment } = settings;
  const kubectl = new Kubectl(environment);
  const interrupted = new AbortController();
  const abort = () => interrupted.abort();
  for (const name of SIGNALS) process.once(name, abort);
  try {
    await checkNamespace(kubectl);
    await using proxy = await openKubectlProxy(environment).catch((cause) => {
      throw new DeploymentError('KUBECTL', messageOf(cause), { cause });
    });
    return await work({
      kubectl,
      http: podHttp(proxy, interrupted.signal),
      redrive: (codeVersion, since) => redriveRelease(environment, codeVersion, since, say),
      configurationAt: async (release, overlay) =>
        readManifests(await renderOverlayAt(release, overlay), release).others,
      say,
      signal: interrupted.signal,
      watchSeconds: settings['watch-seconds'] ?? WATCH_SECONDS[environment],
      rolloutTimeoutSeconds: settings['timeout-seconds'] ?? ROLLOUT_TIMEOUT_SECONDS,
    });
  } catch (error) {
    if (!(error instanceof DeploymentError)) throw error;
    // A cluster that was asked for 20 s in vain is asked once more, not for as long again.
    await explain(hasCode(error, 'UNREACHABLE') ? new Kubectl(environment, undefined, 0) : kubectl, error);
    return 1;
  } finally {
    for (const name of SIGNALS) process.off(name, abort);
  }
}

async function explain(kubectl: Kubectl, error: DeploymentError): Promise<void> {
  say(`stopped: ${error.message}`);
  const situation = await describeSituation(kubectl).catch((cause) => [
    `how things stand cannot be seen: ${cause.message}`,
    'pods and Services go on as they were; when the cluster answers, run this again',
  ]);
  for (const line of situation) say(`  ${line}`);
}

/** Runs `work` while holding the lock of the namespace. */
export async function locked(
  session: Session,
  { 'lock-wait-seconds': waitSeconds = 0 }: Settings,
  work: (session: Session, lock: DeploymentLock) => Promise<void>,
): Promise<void> {
  const { kubectl, say, signal } = session;
  await using lock = await acquireLock(kubectl, { signal, say, waitSeconds });
  await work({ ...session, signal: AbortSignal.any([signal, lock.signal]) }, lock);
}
