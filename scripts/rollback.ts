import { alert } from './deploy/alert.ts';
import { parseArguments } from './deploy/command-line.ts';
import type { Kubectl } from './deploy/kubectl.ts';
import { DeploymentLock } from './deploy/lock.ts';
import { SERVICES } from './deploy/manifests.ts';
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
  if (args.dryRun) return runInCluster(args, (session) => dryRun(session.kubectl, args.to));
  let release = args.to ?? 'the release before';
  let leftToDo: string | undefined;
  const status = await runInCluster(args, async (session) => {
    await locked(session, args, async (held, lock) => {
      const target = await rollBackTarget(held.kubectl, lock.state, args.to);
      release = target['order-producer'].release;
      leftToDo = await rollBack(held, lock, target);
    });
    return 0;
  });
  const how = status === 0 ? 'is back' : 'could not be brought back';
  const severity = status === 0 && leftToDo === undefined ? 'info' : 'warning';
  const text = [`${environment} ${how} on ${release}`, leftToDo].filter(Boolean).join('; ');
  await alert(webhook, { severity, text }, say);
  return leftToDo === undefined ? status : 1;
});

async function dryRun(kubectl: Kubectl, to: string | undefined): Promise<number> {
  const target = await rollBackTarget(kubectl, await DeploymentLock.readState(kubectl), to);
  for (const service of SERVICES) say(`would bring ${service} back to ${target[service].release}`);
  say('nothing was changed');
  return 0;
}
