import { z } from 'zod';
import { defineCommand, runCommand, type ValuesOf } from './command.ts';
import { askAll, INSTANCES_NEED, openInstances } from './instances.ts';
import { environment } from './sqs-tool.ts';

export const command = defineCommand({
  name: 'scripts/consumption.sh',
  summary:
    'Pauses and resumes consuming in all order-consumers that run, without stopping one. What was received is still processed and settled, and orders go on to be accepted: they wait in the queue. A pause ends with its pod; a pod that starts meanwhile, as an autoscaler or a deployment does, consumes.',
  positionals: {
    action: {
      schema: z.enum(['pause', 'resume', 'status']),
      description: {
        pause: 'stops polls; the alert ConsumptionPaused reminds of it',
        resume: 'lets them poll again',
        status: 'who paused which, and since when',
      },
    },
    environment: {
      schema: environment,
      description: 'in dev the consumer of npm start, elsewhere the namespace',
    },
  },
  options: {},
  changes:
    'pause and resume change whether the consumers poll, and leave a line in their logs of who did so.',
  needs: `${INSTANCES_NEED} The key needs operations:write; for status, operations.`,
  exitStatuses: {
    0: 'all consumers do so; status: none is paused',
    1: 'one does not, or none runs; status: one is paused',
  },
});

const answerSchema = z.object({
  paused: z.boolean(),
  by: z.string().optional(),
  since: z.string().optional(),
});

if (import.meta.main) await runCommand(command, main);

async function main({ action, environment }: ValuesOf<typeof command>): Promise<number> {
  await using instances = await openInstances(environment, process.env);
  const consumers = await instances.of('order-consumer');
  let paused = 0;
  const failed = await askAll(consumers, '/actuator/consumption', {
    body: action === 'status' ? undefined : { paused: action === 'pause' },
    describe: (answer) => {
      const state = answerSchema.parse(answer);
      if (!state.paused) return 'consumes';
      paused++;
      return `paused since ${state.since}${state.by ? ` by ${state.by}` : ''}`;
    },
  });
  return failed > 0 || consumers.length === 0 || (action === 'status' && paused > 0) ? 1 : 0;
}
