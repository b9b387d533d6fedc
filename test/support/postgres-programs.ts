import { findPgBouncer } from '../../dev/pgbouncer.ts';
import { findPostgres } from '../../dev/postgres-server.ts';
import type { Availability } from './containers.ts';

/** Where the programs are, for tests that ill-treat a server of their own; empty where they are skipped. */
export type PostgresPrograms = Availability & { postgres: string; pgbouncer: string };

/** @throws when one is missing, and REQUIRE_POSTGRES=1 says it must be there */
export function postgresPrograms(): PostgresPrograms {
  const [postgres, pgbouncer] = [findPostgres(), findPgBouncer()];
  if (postgres && pgbouncer) return { available: true, reason: 'on this machine', postgres, pgbouncer };
  const missing = postgres ? 'PgBouncer' : 'PostgreSQL';
  if (process.env['REQUIRE_POSTGRES'] === '1') throw new Error(`REQUIRE_POSTGRES=1, and no ${missing}`);
  return { available: false, reason: `skipped: no ${missing} on this machine`, postgres: '', pgbouncer: '' };
}
