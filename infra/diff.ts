import { runCommand, type ValuesOf } from '../scripts/command.ts';
import { createTool } from '../scripts/sqs-tool.ts';
import { openAccount } from './account.ts';
import { diff as command } from './commands.ts';
import { Deployment } from './deployment.ts';
import { findDifferences } from './differences.ts';
import { ENVIRONMENTS } from './environments.ts';

await runCommand(command, main);

async function main({
  environment,
  'templates-only': templatesOnly,
}: ValuesOf<typeof command>): Promise<number> {
  const { settings, cloudFormation } = await openAccount(environment, process.env);
  const deployment = new Deployment(environment, { settings, cloudFormation });
  const problems = await deployment.stuck();
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) return 2;

  const { region } = ENVIRONMENTS[environment];
  const { client } = createTool(environment, { ...process.env, AWS_REGION: region });
  const arn = `arn:aws:sqs:${region}:${settings.account}`;
  const { lines, unknown } = await findDifferences(
    deployment,
    templatesOnly ? undefined : { client, environment, arn },
  ).finally(() => client.destroy());
  for (const line of lines) console.log(line);
  for (const stackName of unknown)
    console.error(`${stackName}: nobody compares its resources here, only its template`);
  if (lines.length > 0) return 1;
  if (unknown.length > 0) return 2;
  console.log(`${environment}: no differences`);
  return 0;
}
