import { parseArguments } from './deploy/command-line.ts';
import { runInCluster, say } from './deploy/run.ts';
import { verify } from './deploy/verify.ts';
import { runTool } from './sqs-tool.ts';

const USAGE = `usage: scripts/verify-deployment.sh staging|production [--watch-seconds=N]

  The health check after a deployment: rolled out, nothing half-way, healthy, an order gets through to the store, and
  for N seconds (15 in staging, 60 in production) nothing fails and the dead-letter queue does not grow.

  Exit status: 0 all is well, 1 something is not, 2 wrong usage.`;

await runTool(async () => {
  const args = parseArguments(process.argv.slice(2), ['watch-seconds'], USAGE);
  return runInCluster(args, async (session) => ((await verify(session, say)) ? 0 : 1));
});
