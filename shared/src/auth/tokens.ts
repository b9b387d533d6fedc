import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  errors,
  type JSONWebKeySet,
  type JWTHeaderParameters,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose';
import { LRUCache } from 'lru-cache';
import type { TokenAlgorithm } from '../runtime/config.ts';
import type { Logger } from '../runtime/logger.ts';
import { CLIENT_ID, type Client, isScope } from './client.ts';

export type TokenOptions = {
  issuer: string;
  audience: string;
  algorithms: readonly TokenAlgorithm[];
  /** Where the issuer publishes its keys (RFC 7517): an http(s) URL, or a file. */
  jwks: string;
  clockToleranceSeconds: number;
  /** Required of each token where given (RFC 9068, 2.1). */
  type?: 'at+jwt' | undefined;
  logger: Pick<Logger, 'warn'>;
};

/** The issuer's keys cannot be had: whether a token is good is not known. */
export class IssuerUnavailableError extends Error {
  override readonly name = 'IssuerUnavailableError';
  readonly code = 'ISSUER_UNAVAILABLE';
}

const MAX_TOKEN_LENGTH = 8_192;
const MAX_REMEMBERED = 10_000;
const REFRESH_MS = 5 * 60_000;
/** Keys are good for so long after the issuer was last reached. */
const KEYS_LAST_MS = 65 * 60_000;
const FETCH_TIMEOUT_MS = 3_000;
/** A token of an unknown key makes us ask the issuer again, but not more often than that: anyone can send such a token. */
const ASK_AGAIN_MS = 30_000;
const ASK_AGAIN_AFTER_FAILURE_MS = 5_000;
const MAX_JWKS_BYTES = 256 * 1_024;

/** Checks bearer tokens of one issuer (RFC 9068, RFC 8725). */
export class TokenVerifier {
  readonly #options: TokenOptions;
  readonly #keys: JWTVerifyGetKey;
  readonly #refresh: (() => Promise<void>) | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Verified tokens by their hash: to verify one costs more than an order. */
  readonly #remembered = new LRUCache<string, { client: Client; goodUntilMs: number }>({
    max: MAX_REMEMBERED,
  });

  /** @throws when the file of keys cannot be read */
  constructor(options: TokenOptions) {
    this.#options = options;
    if (/^https?:/.test(options.jwks)) {
      const remote = createRemoteJWKSet(new URL(options.jwks), {
        timeoutDuration: FETCH_TIMEOUT_MS,
        cooldownDuration: ASK_AGAIN_MS,
        cacheMaxAge: KEYS_LAST_MS,
        [customFetch]: limitedFetch(),
      });
      this.#keys = remote;
      this.#refresh = () => remote.reload();
    } else {
      this.#keys = createLocalJWKSet(parseKeys(readFileSync(options.jwks, 'utf8')));
    }
  }

  /** Fetches the issuer's keys, now and every 5 minutes. An issuer that is away is a warning. */
  async start(): Promise<void> {
    const refresh = this.#refresh;
    if (!refresh || this.#timer) return;
    const attempt = () =>
      refresh().catch((err: unknown) => this.#options.logger.warn({ err }, "issuer's keys not refreshed"));
    this.#timer = setInterval(() => void attempt(), REFRESH_MS);
    await attempt();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Whose token that is, where it was verified before and is still good. */
  remembered(token: string): Client | undefined {
    const entry = this.#remembered.get(hash('sha256', token));
    return entry && entry.goodUntilMs > Date.now() ? entry.client : undefined;
  }

  /**
   * Whose token that is; undefined where it is not good, for whatever reason.
   * @throws {IssuerUnavailableError}
   */
  async verify(token: string): Promise<Client | undefined> {
    if (token.length > MAX_TOKEN_LENGTH) return undefined;
    const { issuer, audience, algorithms, clockToleranceSeconds, type } = this.#options;
    try {
      const { payload, protectedHeader } = await jwtVerify(token, this.#keys, {
        issuer,
        audience,
        algorithms: [...algorithms],
        clockTolerance: clockToleranceSeconds,
        requiredClaims: ['exp'],
        ...(type ? { typ: type } : {}),
      });
      if (!isAccessToken(protectedHeader, payload)) return undefined;
      const client = clientOf(payload);
      const goodUntilMs = ((payload.exp ?? 0) + clockToleranceSeconds) * 1_000;
      if (client) this.#remembered.set(hash('sha256', token), { client, goodUntilMs });
      return client;
    } catch (error) {
      if (error instanceof errors.JWKSTimeout || !(error instanceof errors.JOSEError))
        throw new IssuerUnavailableError("the issuer's keys cannot be had", { cause: error });
      return undefined;
    }
  }
}

/** V8's message would quote the text, which may be a secret that was put there by mistake. */
function parseKeys(text: string): JSONWebKeySet {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('the file is not JSON');
  }
}

/**
 * By its type (RFC 9068, 2.1). Many issuers write `JWT` or nothing, in ID tokens as well: those are told by what no
 * access token has (OpenID Connect Core, 3.1.3.6 and 3.3.2.11; Cognito's `token_use`; Keycloak's `typ`).
 */
function isAccessToken({ typ = 'JWT' }: JWTHeaderParameters, payload: JWTPayload): boolean {
  const type = String(typ)
    .toLowerCase()
    .replace(/^application\//, '');
  if (type === 'at+jwt') return true;
  const isIdToken =
    payload['token_use'] === 'id' || payload['typ'] === 'ID' || 'at_hash' in payload || 'c_hash' in payload;
  return type === 'jwt' && !isIdToken;
}

/** The client is who asked for the token: `client_id` (RFC 9068), `azp` (OpenID Connect), else its subject. */
function clientOf({ client_id, azp, sub, scope, scp }: JWTPayload): Client | undefined {
  const id = client_id ?? azp ?? sub;
  if (typeof id !== 'string' || !CLIENT_ID.test(id)) return undefined;
  const given = [scope, scp].flatMap((claim) =>
    typeof claim === 'string' ? claim.split(' ') : (claim ?? []),
  );
  return { id, scopes: new Set(given.filter((each) => typeof each === 'string').filter(isScope)) };
}

/** Asks at most once in a while when it fails, and reads no more than a set of keys can have. */
function limitedFetch(): typeof fetch {
  let failedAt = Number.NEGATIVE_INFINITY;
  return async (url, init) => {
    if (performance.now() - failedAt < ASK_AGAIN_AFTER_FAILURE_MS)
      throw new Error('the issuer did not answer a moment ago');
    try {
      const response = await fetch(url, init);
      if (!response.ok) throw new Error(`the issuer answered ${response.status}`);
      let bytes = 0;
      const limit = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          bytes += chunk.byteLength;
          if (bytes > MAX_JWKS_BYTES)
            controller.error(new Error('the issuer answered more than a set of keys'));
          else controller.enqueue(chunk);
        },
      });
      const text = await new Response(response.body?.pipeThrough(limit)).text();
      return new Response(text, { status: response.status, headers: { 'content-type': 'application/json' } });
    } catch (error) {
      failedAt = performance.now();
      throw error;
    }
  };
}
