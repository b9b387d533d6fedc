import { migrate } from '@orders/consumer/migrate.ts';
import { defineCommand, runCommand } from './command.ts';
import { storeOfAppEnv } from './store-url.ts';

export const command = defineCommand({
  name: 'npm run migrate --',
  summary:
    'Brings the schema of the database up to date, as its owner, before a release whose consumers may not do that themselves (DATABASE_MIGRATIONS=off). Consumers of the release before go on working. Repeat it as often as you like.',
  positionals: {},
  options: {},
  changes: 'tables, indexes and columns that the release needs and that are not there; no order.',
  needs:
    'DATABASE_URL and DATABASE_CA_FILE, required outside dev (APP_ENV), of a role that owns the tables or may act as DATABASE_OWNER.',
  exitStatuses: { 0: 'the schema is up to date', 1: 'it is not, with the reason' },
});

if (import.meta.main)
  await runCommand(command, async () => {
    storeOfAppEnv(process.env);
    await migrate(process.env);
    return 0;
  });
