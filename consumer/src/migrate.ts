import { createLogger } from '@orders/shared/runtime/logger.ts';
import { withoutCredentials } from '@orders/shared/runtime/without-credentials.ts';
import { migrateDatabase } from './adapters/migrate-database.ts';
import { databaseUrl, loadStoreConfig } from './config.ts';

/**
 * Brings the schema of `DATABASE_URL` up to date, before a release whose services may not (DATABASE_MIGRATIONS=off).
 * @throws {StartupError} naming the variable and the reason
 */
export async function migrate(env: NodeJS.ProcessEnv): Promise<void> {
  const config = loadStoreConfig(env);
  const version = config.RELEASE_VERSION ?? 'unknown';
  const logger = createLogger({ ...config, service: 'order-migrations', version });
  await migrateDatabase(databaseUrl(config), { owner: config.DATABASE_OWNER, logger });
  logger.info({}, 'the schema is up to date');
}

// In the image, where there are no scripts.
if (import.meta.main) {
  try {
    await migrate(process.env);
  } catch (error) {
    process.stderr.write(withoutCredentials(`migrate: ${error instanceof Error ? error.message : error}\n`));
    process.exitCode = 1;
  }
}
