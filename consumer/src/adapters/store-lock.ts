import { realpathSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import type { Client } from 'pg';
import { connectTool } from './postgres-connection.ts';

const BUSY_TIMEOUT_MS = 10_000;
/** Result code: somebody else has the lock (sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;
const ANOTHER_RUN = 'another run of retention or of assign-client is at work there';
/** Any number that nothing else in the database uses as an advisory lock. */
const ADVISORY_LOCK = 7_203_615_005;

/**
 * A store for a tool that walks its orders, one tool at a time, without creating the file (sqlite.org/uri.html). The system
 * keeps the lock for as long as the process lives; the empty file stays.
 * @throws when another one has it, or there is no such store
 */
export function openSqliteAlone(path: string): { db: DatabaseSync; close: () => Promise<void> } {
  const url = pathToFileURL(path);
  url.searchParams.set('mode', 'rw');
  const db = new DatabaseSync(url, { timeout: BUSY_TIMEOUT_MS });
  try {
    // By its real name: a link would have a lock of its own.
    const lock = lockSqlite(`${realpathSync(path)}-retention`);
    const close = async () => {
      db.close();
      lock.close();
    };
    return { db, close };
  } catch (error) {
    db.close();
    throw error;
  }
}

function lockSqlite(path: string): DatabaseSync {
  const lock = new DatabaseSync(path, { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (cause) {
    lock.close();
    throw (cause as { errcode?: number }).errcode === SQLITE_BUSY ? new Error(ANOTHER_RUN, { cause }) : cause;
  }
}

/** The same in PostgreSQL; the lock ends with its connection. @throws when another one has it, or nobody answers */
export async function connectAlone(
  url: string,
  options: Parameters<typeof connectTool>[1],
): Promise<{ client: Client; close: () => Promise<void> }> {
  const lock = await lockPostgres(url);
  try {
    const client = await connectTool(url, options);
    const close = async () => {
      await client.end();
      await lock.end();
    };
    return { client, close };
  } catch (error) {
    await lock.end();
    throw error;
  }
}

/**
 * A lock of a transaction, since a pooler may give the sessions of a client away between them. It reads nothing, so it
 * keeps no snapshot (PostgreSQL, 13.3.5).
 */
async function lockPostgres(url: string): Promise<Client> {
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
