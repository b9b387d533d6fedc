import { defineCommand, flag, runCommand, type ValuesOf } from './command.ts';
import { alert } from './deploy/alert.ts';
import { deployerEnvironment, NEEDS_KUBECTL, seconds, tags, timeoutSeconds } from './deploy/command-line.ts';
import type { Kubectl } from './deploy/kubectl.ts';
import { readState } from './deploy/lock.ts';
import { SERVICES } from './deploy/manifests.ts';
import { rollBack, rollBackTarget } from './deploy/roll-back.ts';
import { locked, runInCluster, say } from './deploy/run.ts';

/** Longer than a lock outlives its holder. */
const LOCK_WAIT_SECONDS = 90;

export const command = defineCommand({
  name: 'scripts/rollback.sh',
  summary:
    'Rolls both services back to the previous release, removes what an interrupted deployment left, and redrives what the abandoned release had dead-lettered.',
  positionals: { environment: deployerEnvironment },
  options: {
    to: {
      takes: 'TAG[,CONSUMER_TAG]',
      description: 'roll back to this release instead; it must be one of the last ten',
      schema: tags.optional(),
    },
    'dry-run': flag('says what it would do'),
    'timeout-seconds': timeoutSeconds,
    'lock-wait-seconds': {
      takes: 'N',
      description:
        'how long to wait until a deployment, or its lock, ends; a killed one keeps its lock for 60 s',
      schema: seconds.default(LOCK_WAIT_SECONDS),
    },
  },
  changes:
    'workloads, Services and the lock in the namespace; redrives dead letters; ALERT_WEBHOOK_URL gets a POST at the end.',
  needs: `${NEEDS_KUBECTL} The variables of scripts/dlq.sh.`,
  exitStatuses: { 0: 'done', 1: 'not done, with the reason' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const { environment, to } = values;
  const webhook = process.env['ALERT_WEBHOOK_URL'];
  if (values['dry-run']) return runInCluster(values, (session) => dryRun(session.kubectl, to));
  let release = to ?? 'the release before';
  let leftToDo: string | undefined;
  const status = await runInCluster(values, async (session) => {
    await locked(session, values, async (held, lock) => {
      const target = await rollBackTarget(held.kubectl, lock.state, to);
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
}

async function dryRun(kubectl: Kubectl, to: string | undefined): Promise<number> {
  const target = await rollBackTarget(kubectl, await readState(kubectl), to);
  for (const service of SERVICES) say(`would bring ${service} back to ${target[service].release}`);
  say('nothing was changed');
  return 0;
}
