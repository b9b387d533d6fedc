import { alert } from './deploy/alert.ts';
import { parseArguments } from './deploy/command-line.ts';
import type { RunningReleases } from './deploy/manifests.ts';
import { rollBack, rollBackTarget } from './deploy/roll-back.ts';
import { locked, runInCluster, say } from './deploy/run.ts';
import { runTool } from './sqs-tool.ts';

const USAGE = `usage: scripts/rollback.sh staging|production [--to=TAG] [options]

  Brings both services back to the release before (or TAG, if one of the last ten), takes away what a broken-off
  deployment left, and redrives what the release that is left had dead-lettered (with the variables of scripts/dlq.sh).

  --dry-run             says what it would do
  --timeout-seconds=N   how long pods may take to become ready (180)

  ALERT_WEBHOOK_URL gets a POST at the end. Exit status: 0 done, 1 not done and why, 2 wrong usage.`;

await runTool(async () => {
  const args = parseArguments(process.argv.slice(2), ['to', 'dry-run', 'timeout-seconds'], USAGE);
  const { environment } = args;
  const webhook = process.env['ALERT_WEBHOOK_URL'];
  let target: RunningReleases | undefined;
  const status = await runInCluster(args, async (session) => {
    await locked(session, async (held, lock) => {
      target = await rollBackTarget(held, lock, args.to);
      if (args.dryRun)
        say(
          `would bring order-producer and order-consumer back to ${Object.values(target)
            .map(({ release }) => release)
            .join(' and ')}; nothing was changed`,
        );
      else await rollBack(held, lock, environment, target);
    });
    return 0;
  });
  if (args.dryRun) return status;
  const text = `${environment} ${status === 0 ? 'is back' : 'could not be brought back'} on ${target?.['order-producer'].release ?? 'the release before'}`;
  await alert(webhook, { severity: status === 0 ? 'info' : 'warning', text }, say);
  return status;
});
