import { z } from 'zod';
import { defineCommand, runCommand, type ValuesOf, wholeNumber } from './command.ts';
import { askAll, INSTANCES_NEED, openInstances } from './instances.ts';
import { environment } from './sqs-tool.ts';

export const command = defineCommand({
  name: 'scripts/log-level.sh',
  summary:
    "Shows the log level of a service's instances, or changes it for some minutes; then the configured one comes back. Lines of libraries keep theirs.",
  positionals: {
    service: { schema: z.enum(['order-producer', 'order-consumer']), description: 'all of its instances' },
    environment: { schema: environment, description: 'in dev those of npm start, elsewhere the namespace' },
  },
  options: {
    level: {
      takes: 'LEVEL',
      description: 'trace, debug, info, warn, error or fatal; without it, the level is shown',
      schema: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).optional(),
    },
    minutes: { takes: 'N', description: 'for how long, 1 to 60', schema: wholeNumber(1, 60).default(10) },
  },
  changes: 'with --level, the log level, and leaves a line in the logs of who did so.',
  needs: `${INSTANCES_NEED} The key needs operations:write; to look, operations.`,
  exitStatuses: { 0: 'shown, or changed in all', 1: 'one did not do so, or none runs' },
});

const answerSchema = z.object({ level: z.string(), configured: z.string(), until: z.string().optional() });

if (import.meta.main) await runCommand(command, main);

async function main({ service, environment, level, minutes }: ValuesOf<typeof command>): Promise<number> {
  await using instances = await openInstances(environment, process.env);
  const found = await instances.of(service);
  const failed = await askAll(found, '/actuator/log-level', {
    body: level && { level, minutes },
    describe: (answer) => {
      const { level, configured, until } = answerSchema.parse(answer);
      return until ? `${level} until ${until}, then ${configured}` : level;
    },
  });
  return failed > 0 || found.length === 0 ? 1 : 0;
}
