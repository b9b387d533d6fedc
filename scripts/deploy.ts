import { z } from 'zod';
import { defineCommand, flag, runCommand, type ValuesOf } from './command.ts';
import { alert } from './deploy/alert.ts';
import {
  deployerEnvironment,
  digest,
  NEEDS_KUBECTL,
  seconds,
  tag,
  timeoutSeconds,
  watchSeconds,
} from './deploy/command-line.ts';
import { deployRelease, findLeftOver, planSteps, type Request } from './deploy/deploy-release.ts';
import { readState } from './deploy/lock.ts';
import { defaultOverlay, readManifests, SERVICES } from './deploy/manifests.ts';
import { renderOverlay } from './deploy/overlay.ts';
import { locked, runInCluster, say } from './deploy/run.ts';

export const command = defineCommand({
  name: 'scripts/deploy.sh',
  summary:
    "Deploys a release to kubectl's current cluster: order-consumer gradually, then order-producer blue-green. Rolls back by itself if the release is worse than what runs. Safe to run again: it first rolls back what an interrupted run left.",
  positionals: { environment: deployerEnvironment },
  options: {
    'image-tag': { takes: 'TAG', description: 'the release; required', schema: tag },
    'producer-digest': digest('order-producer'),
    'consumer-digest': digest('order-consumer'),
    'dry-run': flag('says what it would do'),
    overlay: {
      takes: 'DIR',
      description: 'kustomize overlay; k8s/overlays/staging or …/production by default',
      schema: z.string().optional(),
    },
    'watch-seconds': watchSeconds,
    'timeout-seconds': timeoutSeconds,
    'lock-wait-seconds': {
      takes: 'N',
      description: 'how long to wait until another deployment, or its lock, ends; by default does not wait',
      schema: seconds.optional(),
    },
    first: flag(
      'replaces what is there without comparing: for the first deployment, or if nothing serves any more',
    ),
  },
  changes:
    'workloads, Services and the lock in the namespace; a rollback redrives dead letters; ALERT_WEBHOOK_URL gets a POST at the end.',
  needs: `${NEEDS_KUBECTL} The variables of scripts/dlq.sh, for a rollback.`,
  exitStatuses: { 0: 'deployed', 1: 'not deployed, with the reason' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const { environment, 'image-tag': tag, overlay = defaultOverlay(environment) } = values;
  const webhook = process.env['ALERT_WEBHOOK_URL'];
  const manifests = readManifests(await renderOverlay(overlay), tag, {
    'order-producer': values['producer-digest'],
    'order-consumer': values['consumer-digest'],
  });

  const status = await runInCluster(values, async (session) => {
    const request = { ...session, manifests, tag, overlay, isFirst: values.first };
    if (values['dry-run']) return dryRun(request);
    await locked(session, values, (held, lock) => deployRelease({ ...request, ...held }, lock));
    await alert(webhook, { severity: 'info', text: `${tag} is deployed to ${environment}` }, say);
    return 0;
  });
  if (status !== 0) {
    await alert(webhook, { severity: 'warning', text: `${tag} was not deployed to ${environment}` }, say);
  }
  return status;
}

async function dryRun(request: Request): Promise<number> {
  const state = await readState(request.kubectl);
  const leftOver = request.isFirst ? undefined : await findLeftOver(request, state);
  if (leftOver) {
    const releases = SERVICES.map((service) => leftOver.previous[service].release);
    say(
      `would first clear away what is left of ${leftOver.state.release}: back to ${releases.join(' and ')}`,
    );
    say('nothing was changed; the steps are known when that is done');
    return 0;
  }
  const { steps } = await planSteps({ ...request, record: { state, setState: async () => {} } });
  for (const [index, { title }] of steps.entries()) say(`would do ${index + 1}/${steps.length}: ${title}`);
  say(steps.length > 0 ? 'nothing was changed' : `${request.tag} is deployed already`);
  return 0;
}
