import { config } from 'dotenv';

/**
 * Prepares `env` for what reads it: in development `.env` of the working directory is added, and what is set already
 * wins. Where AWS is asked for by `AWS_ENDPOINT_URL=aws`, the SDK is kept from taking that for an address:
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
 */
export function loadDotenv(env: NodeJS.ProcessEnv, appEnv = env['APP_ENV'] || 'dev'): void {
  if (appEnv === 'dev') config({ quiet: true, processEnv: env as Record<string, string> });
  if ((env['AWS_ENDPOINT_URL_SQS'] || env['AWS_ENDPOINT_URL']) === 'aws')
    env['AWS_IGNORE_CONFIGURED_ENDPOINT_URLS'] = 'true';
}
