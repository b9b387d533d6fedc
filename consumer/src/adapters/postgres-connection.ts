import { Client, type ClientBase } from 'pg';

const CONNECT_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 60_000;

/** Of a server that was told to end a statement, the answer is worth waiting for so long. */
const ANSWER_MS = 1_000;

/** Limits of one statement: the server keeps the first; behind it the client gives up. */
export function statementLimits(timeoutMs: number) {
  return { statement_timeout: timeoutMs, query_timeout: timeoutMs + ANSWER_MS };
}

/** A database URL whose sessions have these settings, whatever the server's, the database's or the role's defaults are. */
export function withSessionSettings(url: string, settings: string): string {
  const parsed = new URL(url);
  parsed.searchParams.set('options', `${parsed.searchParams.get('options') ?? ''} ${settings}`.trim());
  return parsed.href;
}

/** A lost connection rejects the query as well; an event that nobody listens to would end the process. */
export function outliveLoss(client: ClientBase): void {
  client.on('error', () => {});
}

/** The one connection of a tool. @throws what keeps it from being opened */
export async function connectTool(
  url: string,
  { name, statementTimeoutMs = STATEMENT_TIMEOUT_MS }: { name: string; statementTimeoutMs?: number },
): Promise<Client> {
  const client = new Client({
    connectionString: url,
    application_name: name,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    ...statementLimits(statementTimeoutMs),
  });
  outliveLoss(client);
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.end();
    throw error;
  }
}
