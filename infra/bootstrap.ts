import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand, type ValuesOf } from '../scripts/command.ts';
import { openAccount } from './account.ts';
import { describeChange } from './changes.ts';
import { bootstrap as command } from './commands.ts';
import { deployAsked } from './deploy-asked.ts';
import { Deployment } from './deployment.ts';
import { ENVIRONMENTS, type EnvironmentName } from './environments.ts';
import { fillOverlay, parameterIn } from './overlay.ts';
import type { Settings } from './settings.ts';

/** The stack that CDK keeps its bucket and roles in. */
const CDK_STACK = 'CDKToolkit';

await runCommand(command, main);

async function main({ environment, replace, 'dry-run': dryRun }: ValuesOf<typeof command>): Promise<number> {
  const { region } = ENVIRONMENTS[environment];
  const { settings, cloudFormation } = await openAccount(environment, process.env);
  const deployment = new Deployment(environment, { settings, cloudFormation });
  const isPrepared = (await deployment.deployed.find(CDK_STACK)) !== undefined;
  if (dryRun) {
    if (!isPrepared) console.log(`would prepare account ${settings.account} for CDK: stack ${CDK_STACK}`);
    for (const problem of await deployment.stuck()) console.log(`would stop: ${problem}`);
    for (const change of await deployment.changes()) console.log(`would ${describeChange(change)}`);
    console.log(`would write ${path.relative('.', overlayOf(environment))}`);
    return 0;
  }
  if (!isPrepared) await deployment.prepareAccount(String(settings.account), region);
  const status = await deployAsked(deployment, replace);
  if (status !== 0) return status;
  writeOverlay(environment, settings, deployment);
  console.log(`\n${environment} is there. What is left for a person: docs/first-deployment.md, from step 4`);
  return 0;
}

const overlayOf = (environment: EnvironmentName) =>
  path.join(import.meta.dirname, '..', 'k8s', 'overlays', environment, 'kustomization.yaml');

/** For a person to review and commit. */
function writeOverlay(environment: EnvironmentName, settings: Settings, { stacks }: Deployment): void {
  const { region } = ENVIRONMENTS[environment];
  const file = overlayOf(environment);
  const before = readFileSync(file, 'utf8');
  const after = fillOverlay(before, {
    registry: `${settings.registryAccount}.dkr.ecr.${region}.amazonaws.com`,
    controlPlane: parameterIn(stacks, `/orders/${environment}/control-plane-subnets`),
    database: parameterIn(stacks, `/orders/${environment}/database-subnets`),
  });
  if (after === before) return;
  writeFileSync(file, after);
  console.log(`written: ${path.relative('.', file)}`);
}
