import { type AuthMethod, authMethods, type CommonConfig } from '../runtime/config.ts';
import { auditLogger, type Logger } from '../runtime/logger.ts';
import type { CommonMetrics } from '../runtime/metrics.ts';
import { SecretFile } from '../runtime/secret-file.ts';
import { StartupError } from '../runtime/startup-error.ts';
import { ApiKeys } from './api-keys.ts';
import { ANYONE, type Client } from './client.ts';
import { TokenVerifier } from './tokens.ts';

export type AuthenticatorOptions = {
  config: AuthConfig;
  logger: Logger;
  metrics: Pick<CommonMetrics, 'authentications' | 'apiKeyFileErrors' | 'observeSecretAge'>;
};

export type AuthConfig = Pick<
  CommonConfig,
  | 'APP_ENV'
  | 'AUTH'
  | 'API_KEYS_FILE'
  | 'JWT_ISSUER'
  | 'JWT_AUDIENCE'
  | 'JWT_JWKS'
  | 'JWT_ALGORITHMS'
  | 'JWT_TYPE'
  | 'JWT_CLOCK_TOLERANCE_SECONDS'
>;

export type Credentials = { apiKey: string | undefined; authorization: string | undefined };

/** Finds out who sends a request. */
export type Authenticator = {
  /** What a 401 asks for, per method (RFC 9110 §11.6.1). */
  readonly challenge: string;
  readonly methods: readonly AuthMethod[];
  /** For lines on who was refused, and who used a right that reaches beyond their own orders. */
  readonly audit: Logger;
  /**
   * Who that is; undefined where they are not who they say, or say nothing and are asked. An answer that is known
   * at once is no promise.
   * @throws {IssuerUnavailableError}
   */
  authenticate(credentials: Credentials): Client | undefined | Promise<Client | undefined>;
  start(): Promise<void>;
  close(): void;
};

const BEARER = /^Bearer +([\w.~+/-]+=*) *$/i;

/**
 * Reads the file of keys, and again when it changes.
 * @throws {StartupError} when it, or the file of an issuer's keys, cannot be used at first
 */
export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { config, logger, metrics } = options;
  const methods = authMethods(config);
  const count = (method: AuthMethod, client: Client | undefined) => {
    metrics.authentications.inc({ method, result: client ? 'accepted' : 'refused' });
    return client;
  };
  const keys = methods.includes('api-key')
    ? new SecretFile({
        secret: 'api-keys',
        variable: 'API_KEYS_FILE',
        file: config.API_KEYS_FILE ?? '',
        parse: ApiKeys.parse,
        logger,
        errors: metrics.apiKeyFileErrors,
        observeAge: metrics.observeSecretAge,
      })
    : undefined;
  const verifier = methods.includes('jwt') ? openVerifier() : undefined;
  const anonymous = methods.includes('none') ? ANYONE : undefined;

  return {
    methods,
    audit: auditLogger(logger),
    challenge: [keys && 'ApiKey realm="orders"', verifier && 'Bearer realm="orders"']
      .filter(Boolean)
      .join(', '),
    authenticate: ({ apiKey, authorization }) => {
      if (keys && apiKey !== undefined) return count('api-key', keys.value.find(apiKey));
      if (verifier && authorization !== undefined) {
        const token = BEARER.exec(authorization)?.[1];
        if (token === undefined) return count('jwt', undefined);
        const known = verifier.remembered(token);
        return known ? count('jwt', known) : verifier.verify(token).then((client) => count('jwt', client));
      }
      return count('none', anonymous);
    },
    start: async () => verifier?.start(),
    close: () => {
      verifier?.stop();
      keys?.close();
    },
  };

  function openVerifier(): TokenVerifier {
    try {
      return new TokenVerifier({
        issuer: config.JWT_ISSUER ?? '',
        audience: config.JWT_AUDIENCE ?? '',
        jwks: config.JWT_JWKS ?? '',
        algorithms: config.JWT_ALGORITHMS,
        type: config.JWT_TYPE,
        clockToleranceSeconds: config.JWT_CLOCK_TOLERANCE_SECONDS,
        logger,
      });
    } catch (cause) {
      throw new StartupError(`JWT_JWKS: ${(cause as Error).message}`, { cause });
    }
  }
}
