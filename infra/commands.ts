import { z } from 'zod';
import { defineCommand, flag } from '../scripts/command.ts';

// Apart from what they do: docs/commands.md is made of them where the packages of this folder are not installed.

const environment = {
  schema: z.enum(['staging', 'production']),
  description: 'the environment; its account is INFRA_ACCOUNT',
};
const VARIABLES =
  'the INFRA variables of docs/infrastructure.md, and credentials as the AWS CLI finds them (AWS_PROFILE).';
const named = {
  takes: 'NAME',
  repeated: true,
  description:
    'allows that this queue, key, database, secret, log, bucket, repository or cluster is replaced or removed, where nobody can be asked; may be given more than once',
  schema: z.array(z.string()).default([]),
} as const;

export const diff = defineCommand({
  name: 'npm run infra:diff --',
  summary:
    'Shows what npm run infra:deploy would change, by the templates, and what somebody changed by hand (drift), by CloudFormation and, for the two queues, by their definition. What takes orders, their record or their keys along is marked DESTRUCTIVE.',
  positionals: { environment },
  options: {
    'templates-only': flag(
      'does not look for drift, for which CloudFormation must read every resource with your rights',
    ),
  },
  changes: 'nothing in AWS; writes templates to infra/cdk.out.',
  needs: `${VARIABLES} cloudformation:DescribeStacks and GetTemplate; for drift, those of ReadOnlyAccess.`,
  exitStatuses: {
    0: 'no differences',
    1: 'differences',
    2: 'wrong usage; or it cannot be told whether there are any, with the reason',
  },
  failureStatus: 2,
});

export const deploy = defineCommand({
  name: 'npm run infra:deploy --',
  summary:
    'Deploys all stacks of an environment, after it has shown the changes. Asks for the name of each queue, key, database and the like that would be replaced or removed. What fails is taken back, stack by stack; run it again when the reason is mended.',
  positionals: { environment },
  options: { replace: named },
  changes: "the environment's resources in AWS. They cost money: docs/cost.md.",
  needs: `${VARIABLES} An administrator's rights, in an account that npm run infra:bootstrap has prepared.`,
  exitStatuses: { 0: 'deployed', 1: 'not deployed, or not all of it, with the reason' },
});

export const bootstrap = defineCommand({
  name: 'npm run infra:bootstrap --',
  summary:
    'From an empty account to the resources of an environment: prepares the account for CDK, deploys all stacks, and says what is left for a person. Run it again after a failure: what is done is left as it is.',
  positionals: { environment },
  options: {
    'dry-run': flag('shows what it would do, and changes nothing'),
    replace: named,
  },
  changes: "the account, and the environment's resources in it. They cost money: docs/cost.md.",
  needs: `${VARIABLES} An administrator's rights.`,
  exitStatuses: { 0: 'done, or shown', 1: 'not done, or not all of it, with the reason' },
});
