import { DATABASE_RULES, databaseFields, databaseUrl } from '@orders/consumer/config.ts';
import { type AppEnv, commonFields, loadConfig, withRules } from '@orders/shared/runtime/config.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';
import { UsageError } from './command.ts';
import { environment } from './sqs-tool.ts';

const storeSchema = withRules(z.object({ ...commonFields, ...databaseFields }), DATABASE_RULES);

/**
 * `DATABASE_URL`, with the CAs of `DATABASE_CA_FILE`, for a tool. Its default is a developer's file, which is no other
 * environment's store.
 * @throws {StartupError} it is not set where it must be, or is none
 */
export function storeUrl(appEnv: AppEnv, env: NodeJS.ProcessEnv): string {
  if (appEnv !== 'dev' && !env['DATABASE_URL'])
    throw new StartupError(`DATABASE_URL is not set: name the store of ${appEnv}`);
  return databaseUrl(loadConfig(storeSchema, { ...env, APP_ENV: appEnv }));
}

/** The same, of the environment that `APP_ENV` names. @throws {UsageError} it names none */
export function storeOfAppEnv(env: NodeJS.ProcessEnv): { appEnv: AppEnv; databaseUrl: string } {
  const { data: appEnv } = environment.safeParse(env['APP_ENV'] || 'dev');
  if (!appEnv) throw new UsageError('APP_ENV must be dev, staging or production');
  return { appEnv, databaseUrl: storeUrl(appEnv, env) };
}
