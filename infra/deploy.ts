import { runCommand, type ValuesOf } from '../scripts/command.ts';
import { openAccount } from './account.ts';
import { deploy as command } from './commands.ts';
import { deployAsked } from './deploy-asked.ts';
import { Deployment } from './deployment.ts';

await runCommand(command, main);

async function main({ environment, replace }: ValuesOf<typeof command>): Promise<number> {
  const { settings, cloudFormation } = await openAccount(environment, process.env);
  return deployAsked(new Deployment(environment, { settings, cloudFormation }), replace);
}
