import { withoutCredentials } from './without-credentials.ts';

/**
 * The service cannot start, and whoever starts it can change that: the message names the variable or the thing that
 * is missing. It is printed without a stack trace, and the exit status is 1. The
 * credentials in URLs that it quotes are left out.
 */
export class StartupError extends Error {
  override readonly name = 'StartupError';
  readonly code = 'STARTUP';

  constructor(message: string, options?: ErrorOptions) {
    super(withoutCredentials(message), options);
  }
}
