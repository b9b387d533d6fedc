import { config } from 'dotenv';

/** Reads `.env` of the working directory into `env`, in development only; what is set already wins. */
export function loadDotenv(env: NodeJS.ProcessEnv): void {
  if ((env['APP_ENV'] || 'dev') === 'dev') config({ quiet: true, processEnv: env as Record<string, string> });
}
