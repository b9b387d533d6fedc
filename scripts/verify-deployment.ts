import { defineCommand, runCommand } from './command.ts';
import { deployerEnvironment, NEEDS_KUBECTL, watchSeconds } from './deploy/command-line.ts';
import { readState } from './deploy/lock.ts';
import { runInCluster } from './deploy/run.ts';
import { verify } from './deploy/verify.ts';

export const command = defineCommand({
  name: 'scripts/verify-deployment.sh',
  summary:
    'Health check after a deployment. Checks that it is rolled out, complete and healthy, that an order reaches the store, and that for a while nothing fails and the dead-letter queue does not grow.',
  positionals: { environment: deployerEnvironment },
  options: { 'watch-seconds': watchSeconds },
  changes: 'places one order of its own, which is stored.',
  needs: NEEDS_KUBECTL,
  exitStatuses: { 0: 'all is well', 1: 'something is wrong, and what' },
});

if (import.meta.main) {
  await runCommand(command, (values) =>
    runInCluster(values, async (session) => {
      const problems = await verify(session, await readState(session.kubectl));
      return problems.length === 0 ? 0 : 1;
    }),
  );
}
