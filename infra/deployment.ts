import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { CloudFormation } from '@aws-sdk/client-cloudformation';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { explainFailure, stuck } from './account.ts';
import { createApp } from './app.ts';
import { type Change, isDestructive } from './changes.ts';
import { DeployedStacks, type Wanted } from './deployed.ts';
import type { EnvironmentName } from './environments.ts';
import type { Settings } from './settings.ts';

type Options = {
  settings: Settings;
  cloudFormation: CloudFormation;
  /** Folder for the templates; one per environment in infra/cdk.out where left out. */
  outdir?: string;
  standIn?: { bucket: string };
};

/** One environment as the code describes it, next to what its account has. */
export class Deployment {
  readonly stacks: readonly Wanted[];
  readonly deployed: DeployedStacks;
  readonly #outdir: string;

  constructor(name: EnvironmentName, { settings, cloudFormation, outdir, standIn }: Options) {
    this.#outdir = outdir ?? path.join(import.meta.dirname, 'cdk.out', name);
    const { app } = createApp(name, settings, { outdir: this.#outdir, standIn });
    // In the order of their dependencies.
    this.stacks = app.synth().stacks.map(({ stackName, template }) => ({ stackName, template }));
    this.deployed = new DeployedStacks(cloudFormation);
  }

  /** Why it cannot be deployed as it stands: a stack that failed and was not taken back. */
  async stuck(): Promise<string[]> {
    const found = await Promise.all(
      this.stacks.map(async ({ stackName }) => {
        const stack = await this.deployed.find(stackName);
        return (stack && stuck(stackName, stack.StackStatus ?? '')) ?? [];
      }),
    );
    return found.flat();
  }

  async changes(): Promise<Change[]> {
    return (await Promise.all(this.stacks.map((stack) => this.deployed.changes(stack)))).flat();
  }

  /**
   * Deploys all stacks, one after the other; one that is as it should be is left. A stack that fails is taken back by
   * CloudFormation: what came before it stays, and the next run goes on from there.
   * @throws {StartupError} that says which resource failed and why
   */
  async deploy(): Promise<void> {
    for (const { stackName } of this.stacks) await this.deployed.unprotectFailedCreation(stackName);
    const status = await this.#cdk(
      'deploy',
      '--all',
      '--require-approval=never',
      '--progress=events',
      '--concurrency=3',
    );
    if (status === 0) return;
    const failures = await Promise.all(
      this.stacks.map(async ({ stackName }) =>
        explainFailure(stackName, await this.deployed.events(stackName)),
      ),
    );
    throw new StartupError(
      [
        'not deployed',
        ...failures.flat(),
        'The output above has the rest. Run this again when it is mended',
      ].join('\n'),
    );
  }

  /** For stand-ins: on AWS, production's stacks refuse it, and what holds orders stays in any case. */
  async destroy(): Promise<void> {
    if ((await this.#cdk('destroy', '--all', '--force')) !== 0) throw new StartupError('not destroyed');
  }

  /** What CDK needs in an account to deploy into it: a bucket and roles. Changes nothing where they are there. */
  async prepareAccount(account: string, region: string): Promise<void> {
    const status = await this.#cdk('bootstrap', `aws://${account}/${region}`, '--termination-protection');
    if (status !== 0) throw new StartupError('the account is not prepared: the output above has the reason');
  }

  async #cdk(...args: string[]): Promise<number> {
    const program = createRequire(import.meta.url).resolve('aws-cdk/bin/cdk');
    const child = spawn(
      process.execPath,
      [program, ...args, `--app=${this.#outdir}`, '--ci', '--no-notices'],
      {
        cwd: import.meta.dirname,
        stdio: ['ignore', 'inherit', 'inherit'],
      },
    );
    const [status] = await once(child, 'exit');
    return status ?? 1;
  }
}

/** The destructive ones that nobody allowed by name. */
export const notAllowed = (changes: readonly Change[], allowed: readonly string[]): Change[] =>
  changes.filter((change) => isDestructive(change) && !allowed.includes(change.name));
