import { config } from 'dotenv';

/**
 * Prepares `env`: in development it adds the `.env` file of the working directory; variables that are set already win.
 * With `AWS_ENDPOINT_URL=aws`, which stands for AWS itself, the SDK is kept from reading that as an address:
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
 */
export function loadDotenv(env: NodeJS.ProcessEnv, appEnv = env['APP_ENV'] || 'dev'): void {
  if (appEnv === 'dev') config({ quiet: true, processEnv: env as Record<string, string> });
  if ((env['AWS_ENDPOINT_URL_SQS'] || env['AWS_ENDPOINT_URL']) === 'aws')
    env['AWS_IGNORE_CONFIGURED_ENDPOINT_URLS'] = 'true';
}
