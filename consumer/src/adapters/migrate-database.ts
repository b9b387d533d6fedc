import type { Logger } from '@orders/shared/runtime/logger.ts';
import { DatabaseLogin } from './database-login.ts';
import { MIGRATION_TIMEOUT_MS, migratePostgres } from './migrations.ts';
import { openDatabase } from './open-order-repository.ts';
import { openClient } from './postgres-connection.ts';
import { openSqliteOrderRepository } from './sqlite-order-repository.ts';

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Brings the schema up to date, and nothing else: for a role that may, where the service's own may not.
 * @param owner role that the tables shall belong to
 * @throws {StartupError} naming the variable and the reason, never the password
 */
export async function migrateDatabase(
  databaseUrl: string,
  { owner, logger }: { owner?: string | undefined; logger?: Pick<Logger, 'warn'> },
): Promise<void> {
  await openDatabase(databaseUrl, {
    sqlite: (path) => openSqliteOrderRepository(path).close(),
    postgres: (url) => migrate(url, { owner, logger }),
  });
}

async function migrate(url: string, options: Parameters<typeof migratePostgres>[1]): Promise<void> {
  const login = new DatabaseLogin(url);
  try {
    const config = { application_name: 'order-migrations', connectionTimeoutMillis: CONNECT_TIMEOUT_MS };
    const client = await openClient(login, config, MIGRATION_TIMEOUT_MS);
    try {
      await migratePostgres(client, options);
    } finally {
      await client.end();
    }
  } finally {
    login.close();
  }
}
