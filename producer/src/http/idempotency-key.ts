import { ProblemError } from '@orders/shared/http/problem.ts';

const MAX_LENGTH = 255;

/** What {@link parseIdempotencyKey} accepts, for the API's description. */
export const IDEMPOTENCY_KEY_PATTERN = `^(?:[!#-~][!-~]{0,${MAX_LENGTH - 1}}|"(?:[!#-\\[\\]-~]|\\\\["\\\\]){1,${MAX_LENGTH}}")$`;

/**
 * Reads the `Idempotency-Key` header: 1 to 255 visible ASCII characters, bare or as a quoted string
 * (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/, RFC 9651 §3.3.3). Quoted or bare,
 * it is the same key.
 * @throws {ProblemError} 400
 */
export function parseIdempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  const given = String(header);
  const key = given.startsWith('"') ? unquote(given) : given;
  if (key !== undefined && key.length <= MAX_LENGTH && /^[!-~]+$/.test(key)) return key;
  const detail = `Idempotency-Key must be 1 to ${MAX_LENGTH} visible ASCII characters, quoted or bare`;
  throw new ProblemError('idempotency-key-malformed', detail);
}

function unquote(text: string): string | undefined {
  const inner = /^"((?:[^"\\]|\\["\\])*)"$/.exec(text)?.[1];
  return inner?.replace(/\\(["\\])/g, '$1');
}
