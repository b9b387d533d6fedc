import { defineCommand, runCommand } from './command.ts';
import { deployerEnvironment, NEEDS_KUBECTL, settingsOf, watchSeconds } from './deploy/command-line.ts';
import { runInCluster, say } from './deploy/run.ts';
import { verify } from './deploy/verify.ts';

export const command = defineCommand({
  name: 'scripts/verify-deployment.sh',
  summary:
    'The health check after a deployment: rolled out, nothing half-way, healthy, an order gets through to the store, and for a while nothing fails and the dead-letter queue does not grow.',
  positionals: { environment: deployerEnvironment },
  options: { 'watch-seconds': watchSeconds },
  changes: 'one order of its own is placed and stored.',
  needs: NEEDS_KUBECTL,
  exitStatuses: { 0: 'all is well', 1: 'something is not, and what' },
});

if (import.meta.main) {
  await runCommand(command, (values) =>
    runInCluster(settingsOf(values), async (session) => ((await verify(session, say)) ? 0 : 1)),
  );
}
