import { DatabaseSync } from 'node:sqlite';
import type { Client } from 'pg';
import { connectTool } from './postgres-connection.ts';

/** Result code: somebody else has the lock (sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;
const ANOTHER_RUN = 'another run of retention or of assign-client is at work there';
/** Any number that nothing else in the database uses as an advisory lock. */
const ADVISORY_LOCK = 7_203_615_005;

/**
 * Lets one tool at a time walk the orders of a store. The system keeps the lock for as long as the process lives; the empty
 * file stays.
 * @param path of the store by its real name: a link would have a lock of its own
 * @throws when another one has it
 */
export function lockSqlite(path: string): DatabaseSync {
  const lock = new DatabaseSync(`${path}-retention`, { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (cause) {
    lock.close();
    throw (cause as { errcode?: number }).errcode === SQLITE_BUSY ? new Error(ANOTHER_RUN, { cause }) : cause;
  }
}

/**
 * The same, until the connection ends. A lock of a transaction, since a pooler may give the sessions of a client away
 * between them. It reads nothing, so it keeps no snapshot (PostgreSQL, 13.3.5).
 * @throws when another one has it
 */
export async function lockPostgres(url: string): Promise<Client> {
  const client = await connectTool(url, { name: 'order-retention-lock' });
  try {
    await client.query('BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0');
    const { rows } = await client.query('SELECT pg_try_advisory_xact_lock($1) AS locked', [ADVISORY_LOCK]);
    if (!rows[0]?.locked) throw new Error(ANOTHER_RUN);
    return client;
  } catch (error) {
    await client.end();
    throw error;
  }
}
