import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { tlsAdvice } from '@orders/shared/runtime/tls.ts';
import type { OrderRepository } from '../domain/order-repository.ts';
import {
  openPostgresOrderRepository,
  type PoolGauges,
  type PostgresOptions,
} from './postgres-order-repository.ts';
import { openSqliteOrderRepository } from './sqlite-order-repository.ts';

/** A repository, with the state of its connections where it has several. */
export type OpenedOrderRepository = OrderRepository & { pool?: () => PoolGauges };

// `sqlite://name` would be a host, and with its slashes taken as a path end in the root folder.
const SQLITE_URL = /^sqlite:(?!\/\/[^/])(.+)$/;
const POSTGRES_URL = /^postgres(?:ql)?:\/\//;

/**
 * Opens what `DATABASE_URL` names: `sqlite:./file`, `sqlite::memory:` or `postgres://user:password@host:port/database`.
 * @throws {StartupError} naming the variable and the reason, never the password
 */
export async function openOrderRepository(
  databaseUrl: string,
  options: PostgresOptions,
): Promise<OpenedOrderRepository> {
  return openDatabase<OpenedOrderRepository>(databaseUrl, {
    sqlite: async (path) => openSqliteOrderRepository(path),
    postgres: (url) => openPostgresOrderRepository(url, options),
  });
}

/**
 * Opens `DATABASE_URL` by the function of its engine.
 * @throws {StartupError} naming the variable and the reason, never the password
 */
export async function openDatabase<T>(
  databaseUrl: string,
  open: { sqlite: (path: string) => Promise<T>; postgres: (url: string) => Promise<T> },
): Promise<T> {
  const path = SQLITE_URL.exec(databaseUrl)?.[1];
  if (path !== undefined) return opening(databaseUrl, () => open.sqlite(path));
  if (POSTGRES_URL.test(databaseUrl) && !isEncoded(databaseUrl)) {
    throw new StartupError(
      'DATABASE_URL: characters such as / ? # @ : % in the user or the password must be percent-encoded (%2F %3F %23 %40 %3A %25); or leave the password out and set PGPASSWORD',
    );
  }
  if (!POSTGRES_URL.test(databaseUrl) || !URL.canParse(databaseUrl)) {
    throw new StartupError(
      'DATABASE_URL must be sqlite:./path, sqlite::memory: or postgres://user:password@host/database',
    );
  }
  const { protocol, host, pathname } = new URL(databaseUrl);
  return opening(`${protocol}//${host}${pathname}`, () => open.postgres(databaseUrl));
}

/** Whether a password may not have been cut in two: what stands before a `/`, `?` or `#` would be taken for the host. */
function isEncoded(databaseUrl: string): boolean {
  const [authority = '', ...rest] = databaseUrl.replace(POSTGRES_URL, '').split(/[/?#]/);
  if (rest.some((part) => part.includes('@'))) return false;
  try {
    decodeURIComponent(authority);
    return true;
  } catch {
    return false;
  }
}

async function opening<T>(target: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (cause) {
    throw new StartupError(`DATABASE_URL: cannot open ${target}: ${reasonOf(cause)}`, { cause });
  }
}

/** A host with several addresses fails with an error for each and no message of its own. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const errors = error instanceof AggregateError ? error.errors : [];
  const code = String((error as NodeJS.ErrnoException).code);
  const advice = tlsAdvice(code, { server: 'DATABASE_URL', ca: 'DATABASE_CA_FILE' });
  const reason = error.message || errors.map(reasonOf).join('; ') || code;
  return advice ? `${code}: ${reason.trim()} (${advice})` : reason;
}
