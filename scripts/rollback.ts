import { alert } from './deploy/alert.ts';
import { parseArguments } from './deploy/command-line.ts';
import { DeploymentLock } from './deploy/lock.ts';
import { type RunningReleases, SERVICES } from './deploy/manifests.ts';
import { rollBack, rollBackTarget } from './deploy/roll-back.ts';
import { locked, runInCluster, say } from './deploy/run.ts';
import { runTool } from './sqs-tool.ts';

const USAGE = `usage: scripts/rollback.sh staging|production [--to=TAG[,CONSUMER_TAG]] [options]

  Brings both services back to the release before (or TAG, if one of the last ten), takes away what a broken-off
  deployment left, and redrives what the release that is left had dead-lettered (with the variables of scripts/dlq.sh).

  --dry-run             says what it would do
  --timeout-seconds=N   how long pods may take to become ready (180)
  --lock-wait-seconds=N how long to wait for a deployment to end, or its lock (90: one that was killed keeps it for 60)

  ALERT_WEBHOOK_URL gets a POST at the end. Exit status: 0 done, 1 not done and why, 2 wrong usage.`;

/** Longer than a lock outlives its holder. */
const LOCK_WAIT_SECONDS = 90;

await runTool(async () => {
  const args = parseArguments(
    process.argv.slice(2),
    ['to', 'dry-run', 'timeout-seconds', 'lock-wait-seconds'],
    USAGE,
    { lockWaitSeconds: LOCK_WAIT_SECONDS },
  );
  const { environment } = args;
  const webhook = process.env['ALERT_WEBHOOK_URL'];
  let target: RunningReleases | undefined;
  const status = await runInCluster(args, async (session) => {
    if (args.dryRun) {
      const wanted = await rollBackTarget(
        session.kubectl,
        await DeploymentLock.readState(session.kubectl),
        args.to,
      );
      for (const service of SERVICES) say(`would bring ${service} back to ${wanted[service].release}`);
      say('nothing was changed');
      return 0;
    }
    await locked(session, args, async (held, lock) => {
      target = await rollBackTarget(held.kubectl, lock.state, args.to);
      await rollBack(held, lock, target);
    });
    return 0;
  });
  if (args.dryRun) return status;
  const text = `${environment} ${status === 0 ? 'is back' : 'could not be brought back'} on ${target?.['order-producer'].release ?? 'the release before'}`;
  await alert(webhook, { severity: status === 0 ? 'info' : 'warning', text }, say);
  return status;
});
