import { existsSync } from 'node:fs';
import { openOrderRepository } from '@orders/consumer/adapters/open-order-repository.ts';
import { databaseUrl, loadStoreConfig } from '@orders/consumer/config.ts';
import type { OrderRepository } from '@orders/consumer/domain/order-repository.ts';
import type { AppEnv } from '@orders/shared/runtime/config.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { UsageError } from './command.ts';
import { environment } from './sqs-tool.ts';

/**
 * `DATABASE_URL`, with the CAs of `DATABASE_CA_FILE` and the files of user and password, for a tool. Its default is a
 * developer's file, which is no other environment's store.
 * @throws {StartupError} it is not set where it must be, or is none
 */
export function storeUrl(appEnv: AppEnv, env: NodeJS.ProcessEnv): string {
  if (appEnv !== 'dev' && !env['DATABASE_URL'])
    throw new StartupError(`DATABASE_URL is not set: name the store of ${appEnv}`);
  return databaseUrl(loadStoreConfig({ ...env, APP_ENV: appEnv }));
}

/** The same, of the environment that `APP_ENV` names. @throws {UsageError} it names none */
export function storeOfAppEnv(env: NodeJS.ProcessEnv): { appEnv: AppEnv; databaseUrl: string } {
  const { data: appEnv } = environment.safeParse(env['APP_ENV'] || 'dev');
  if (!appEnv) throw new UsageError('APP_ENV must be dev, staging or production');
  return { appEnv, databaseUrl: storeUrl(appEnv, env) };
}

const FOR_A_TOOL = { poolSize: 2, connectTimeoutMs: 5_000, statementTimeoutMs: 30_000 };

/** The store of {@link storeUrl}, for a tool. @throws {StartupError} it cannot be opened */
export const openStore = (appEnv: AppEnv, env: NodeJS.ProcessEnv): Promise<OrderRepository> =>
  openOrderRepository(storeUrl(appEnv, env), FOR_A_TOOL);

/** Whether somebody named a store, or a developer's default one is there: a tool must not create it. */
export function isStoreKnown(appEnv: AppEnv, env: NodeJS.ProcessEnv): boolean {
  if (env['DATABASE_URL']) return true;
  return appEnv === 'dev' && existsSync(storeUrl(appEnv, env).replace(/^sqlite:/, ''));
}
