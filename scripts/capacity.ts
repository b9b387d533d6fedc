import { z } from 'zod';
import { describePlan, planCapacity } from './capacity/plan.ts';
import { defineCommand, flag, runCommand, type ValuesOf, wholeNumber } from './command.ts';

export const command = defineCommand({
  name: 'npm run capacity --',
  summary:
    'Computes what a rate of orders needs on AWS: pods, nodes, connections, quotas and cost, from the benchmarks, the manifests and infra/environments.ts. docs/capacity.md has the formulas. Asks AWS nothing.',
  positionals: {
    environment: {
      schema: z.enum(['staging', 'production']).default('production'),
      description: 'production by default',
    },
  },
  options: {
    'orders-per-second': {
      takes: 'N',
      description: 'a rate that never pauses, up to 100000',
      schema: wholeNumber(1, 100_000),
    },
    packed: flag('with PUBLISH_PACKING=on and full batches'),
    json: flag('prints the plan as JSON'),
  },
  changes: 'nothing.',
  exitStatuses: { 0: 'fits', 1: 'does not fit the environment as it is; the last lines say why' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const plan = planCapacity(values['orders-per-second'], {
    environment: values.environment,
    sending: values.packed ? 'packed' : 'single',
  });
  console.log(values.json ? JSON.stringify(plan) : describePlan(plan));
  return plan.exceeded.length > 0 ? 1 : 0;
}
