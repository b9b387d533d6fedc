import { readFileSync } from 'node:fs';

/**
 * How our own tools say who they are: by the key in the file that `ORDER_API_KEY_FILE` names, and not at all without one.
 * @throws when the file cannot be read
 */
export function apiKeyHeader(
  env: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, string> {
  const file = env['ORDER_API_KEY_FILE'];
  return file ? { 'x-api-key': readFileSync(file, 'utf8').trim() } : {};
}
