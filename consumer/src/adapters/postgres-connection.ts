import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext } from 'node:tls';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { MIN_TLS_VERSION } from '@orders/shared/runtime/tls.ts';
import {
  type Client,
  type ClientBase,
  type ClientConfig,
  DatabaseError,
  type QueryResult,
  type QueryResultRow,
} from 'pg';
import { DatabaseLogin } from './database-login.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 60_000;

/** Of a server that was told to end a statement, the answer is worth waiting for so long. */
const ANSWER_MS = 1_000;

/** A setting of our own, that no default has: a session knows it if it was given the others, too. */
const MARK = 'order_pipeline.settings';

/** A database URL whose sessions have these settings, whatever the server's, the database's or the role's defaults are. */
export function withSessionSettings(url: string, settings: string): string {
  const parsed = new URL(url);
  parsed.searchParams.set('options', `${parsed.searchParams.get('options') ?? ''} ${settings}`.trim());
  return parsed.href;
}

/**
 * How to connect so that a statement ends in time and each one sees what is committed: the server keeps the limit;
 * behind it the client gives up. All settings travel in the start-up parameter `options`, so that a pooler needs to let
 * that one pass. It may also drop it: {@link runStatement}.
 */
export function limitedConnection(url: string, statementTimeoutMs: number) {
  const settings = `-c default_transaction_isolation=read\\ committed -c statement_timeout=${statementTimeoutMs} -c idle_in_transaction_session_timeout=${statementTimeoutMs} -c ${MARK}=given`;
  return {
    ...verifiedTls(withSessionSettings(url, settings)),
    query_timeout: statementTimeoutMs + ANSWER_MS,
  };
}

/**
 * A URL with `sslmode=verify-full` split into the rest of it and its TLS, which pg would set up anew, files and all, for
 * each connection. Other URLs are pg's to understand.
 * @throws {StartupError} a file cannot be read, or holds nothing that TLS can use
 */
function verifiedTls(url: string): { connectionString: string; ssl?: { secureContext: SecureContext } } {
  const rest = new URL(url);
  const { searchParams } = rest;
  if (searchParams.get('sslmode') !== 'verify-full') return { connectionString: url };
  const [ca, cert, key] = ['sslrootcert', 'sslcert', 'sslkey'].map((name) => pemOf(name, searchParams));
  for (const name of [...searchParams.keys()])
    if (/^(ssl|uselibpqcompat)/.test(name)) searchParams.delete(name);
  const secureContext = createSecureContext({ ca, cert, key, minVersion: MIN_TLS_VERSION });
  return { connectionString: rest.href, ssl: { secureContext } };
}

/** Node takes an empty text for none at all, and would trust its own CAs then. */
function pemOf(name: string, parameters: URLSearchParams): string | undefined {
  const file = parameters.get(name);
  if (file === null) return undefined;
  const what = name === 'sslrootcert' ? 'DATABASE_CA_FILE' : `${name} in DATABASE_URL`;
  try {
    const pem = readFileSync(file, 'utf8');
    if (pem.includes('-----BEGIN ')) return pem;
  } catch (cause) {
    throw new StartupError(`${what}: ${(cause as NodeJS.ErrnoException).code} at ${file}`, { cause });
  }
  throw new StartupError(`${what}: there is no PEM in ${file}`);
}

type Session = { beginLimited: string; hasSettings?: boolean; inTransaction?: boolean; lost?: boolean };
const sessions = new WeakMap<ClientBase, Session>();

/**
 * Before a connection is used. A lost connection rejects the query as well; an event that nobody listens to would end
 * the process.
 */
export function beginSession(client: ClientBase, statementTimeoutMs: number): void {
  const session: Session = {
    beginLimited: `
      BEGIN ISOLATION LEVEL READ COMMITTED;
      SET LOCAL statement_timeout = ${statementTimeoutMs};
      SET LOCAL idle_in_transaction_session_timeout = ${statementTimeoutMs};
      SET LOCAL synchronous_commit = on`,
  };
  sessions.set(client, session);
  const lose = () => {
    session.lost = true;
  };
  client.on('error', lose).on('end', lose);
}

/**
 * Errors with which a server or a pooler ends a session: connection exceptions, an operator's command, a crash, a limit
 * of idle time (PostgreSQL, appendix A).
 */
const SESSION_ENDED = /^(?:08...|57P0[1245]|25P03)$/;

/** Whether the connection went down with that error. What became of the statement is not known then. */
export function isConnectionLost(client: ClientBase, error: unknown): boolean {
  const ended = error instanceof DatabaseError && SESSION_ENDED.test(error.code ?? '');
  return ended || sessions.get(client)?.lost === true;
}

/**
 * One statement, a transaction of its own that reads what is committed and that the server ends in time. A pooler that
 * drops `options` (PgBouncer's `ignore_startup_parameters`) loses the settings and says nothing. So each connection is
 * asked once, and where they were lost the transaction sets them itself, at the price of two round trips. Within
 * {@link beginTransaction}, part of that transaction.
 */
export async function runStatement<R extends QueryResultRow>(
  client: ClientBase,
  sql: string,
  values: unknown[],
): Promise<QueryResult<R>> {
  const session = sessionOf(client);
  if (isInTransaction(client)) return client.query<R>(sql, values);
  session.hasSettings ??= await hasSettings(client);
  if (session.hasSettings) return client.query<R>(sql, values);
  await beginTransaction(client);
  try {
    const result = await client.query<R>(sql, values);
    await endTransaction(client, 'COMMIT');
    return result;
  } catch (error) {
    // Refused by the server, which waits for the end of the transaction. After any other error nothing is known.
    if (error instanceof DatabaseError) await endTransaction(client, 'ROLLBACK');
    throw error;
  }
}

/** Whether {@link beginTransaction} was called, and its end not yet. */
export const isInTransaction = (client: ClientBase): boolean => sessionOf(client).inTransaction === true;

/** Begins a transaction with the settings of {@link limitedConnection} in it, durable when it commits. */
export async function beginTransaction(client: ClientBase): Promise<void> {
  const session = sessionOf(client);
  await client.query(session.beginLimited);
  session.inTransaction = true;
}

/** Its last statements. Where they fail it is rolled back, or the connection given up. */
export async function endTransaction(client: ClientBase, sql: string): Promise<void> {
  await client.query(sql);
  sessionOf(client).inTransaction = false;
}

function sessionOf(client: ClientBase): Session {
  const session = sessions.get(client);
  if (!session) throw new Error('beginSession was not called');
  return session;
}

async function hasSettings(client: ClientBase): Promise<boolean> {
  const { rows } = await client.query(`SELECT current_setting('${MARK}', true) = 'given' AS given`);
  return rows[0].given === true;
}

/** A connection outside of a pool. @throws what keeps it from being opened */
export async function openClient(
  login: DatabaseLogin,
  config: ClientConfig,
  statementTimeoutMs: number,
): Promise<Client> {
  return login.connect(async () => {
    const client = new login.Client({ ...limitedConnection(login.url, statementTimeoutMs), ...config });
    beginSession(client, statementTimeoutMs);
    try {
      return await client.connect();
    } catch (error) {
      await client.end();
      throw error;
    }
  });
}

/** The one connection of a tool. @throws what keeps it from being opened */
export async function connectTool(
  url: string,
  { name, statementTimeoutMs = STATEMENT_TIMEOUT_MS }: { name: string; statementTimeoutMs?: number },
): Promise<Client> {
  const login = new DatabaseLogin(url);
  try {
    const config = { application_name: name, connectionTimeoutMillis: CONNECT_TIMEOUT_MS };
    return await openClient(login, config, statementTimeoutMs);
  } finally {
    login.close();
  }
}
