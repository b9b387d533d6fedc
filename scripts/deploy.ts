import { spawnSync } from 'node:child_process';
import { alert } from './deploy/alert.ts';
import { parseArguments } from './deploy/command-line.ts';
import { deployRelease, findLeftOver, planSteps, type Request } from './deploy/deploy-release.ts';
import { DeploymentError } from './deploy/errors.ts';
import { DeploymentLock } from './deploy/lock.ts';
import { readManifests, SERVICES } from './deploy/manifests.ts';
import { locked, runInCluster, say } from './deploy/run.ts';
import { runTool, UsageError } from './sqs-tool.ts';

const USAGE = `usage: scripts/deploy.sh staging|production --image-tag=TAG [options]

  Brings TAG to the cluster that kubectl is set to: order-consumer gradually, then order-producer blue-green. What is
  worse than what runs goes back by itself. Safe to run again: it goes on where it broke off.

  --dry-run             says what it would do
  --overlay=DIR         kustomize overlay (k8s/overlays/staging or …/production)
  --watch-seconds=N     how long each step is watched (15 in staging, 60 in production)
  --timeout-seconds=N   how long pods may take to become ready (180)
  --lock-wait-seconds=N how long to wait for another deployment to end, or its lock (not at all)
  --first               replaces what is there without comparing: for the first one, or when nothing serves any more

  ALERT_WEBHOOK_URL gets a POST at the end. Going back redrives dead letters, with the variables of scripts/dlq.sh.
  Exit status: 0 deployed, 1 not deployed and why, 2 wrong usage.`;

await runTool(async () => {
  const args = parseArguments(
    process.argv.slice(2),
    ['image-tag', 'overlay', 'dry-run', 'first', 'watch-seconds', 'timeout-seconds', 'lock-wait-seconds'],
    USAGE,
  );
  const { environment, imageTag: tag } = args;
  if (tag === undefined) throw new UsageError('which --image-tag?', USAGE);
  const webhook = process.env['ALERT_WEBHOOK_URL'];
  const manifests = readManifests(render(args.overlay), tag);

  const status = await runInCluster(args, async (session) => {
    const request = { ...session, manifests, tag, isFirst: args.isFirst };
    if (args.dryRun) return dryRun(request);
    await locked(session, args, (held, lock) => deployRelease({ ...request, ...held }, lock));
    await alert(webhook, { severity: 'info', text: `${tag} is deployed to ${environment}` }, say);
    return 0;
  });
  if (status !== 0) {
    await alert(webhook, { severity: 'warning', text: `${tag} was not deployed to ${environment}` }, say);
  }
  return status;
});

async function dryRun(request: Request): Promise<number> {
  const state = await DeploymentLock.readState(request.kubectl);
  const leftOver = await findLeftOver(request, state);
  if (leftOver) {
    const releases = SERVICES.map((service) => leftOver.previous[service].release);
    say(
      `would first clear away what is left of ${leftOver.state.release}: back to ${releases.join(' and ')}`,
    );
    say('nothing was changed; the steps are known when that is done');
    return 0;
  }
  const { steps } = await planSteps(request, state);
  for (const [index, { title }] of steps.entries()) say(`would do ${index + 1}/${steps.length}: ${title}`);
  say(steps.length > 0 ? 'nothing was changed' : `${request.tag} is deployed already`);
  return 0;
}

function render(overlay: string): string {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', overlay], { encoding: 'utf8' });
  if (status === 0) return stdout;
  throw new DeploymentError(
    'MANIFEST',
    `kubectl kustomize ${overlay}: ${stderr?.trim() || 'kubectl is not on the PATH'}`,
  );
}
