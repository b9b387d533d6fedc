import { withoutCredentials } from './without-credentials.ts';

/**
 * The service cannot start, and whoever starts it can fix that: the message names the variable or what is missing. It is
 * printed without a stack trace and without the credentials of URLs, and the exit status is 1.
 */
export class StartupError extends Error {
  override readonly name = 'StartupError';
  readonly code = 'STARTUP';

  constructor(message: string, options?: ErrorOptions) {
    super(withoutCredentials(message), options);
  }
}
