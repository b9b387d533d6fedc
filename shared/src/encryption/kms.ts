import { AsyncLocalStorage } from 'node:async_hooks';
import type { KMS, KmsKeyringNode } from '@aws-crypto/client-node';
import { type CommonConfig, emulatorCredentials, kmsEndpoint } from '../runtime/config.ts';
import { within } from '../runtime/time-limit.ts';
import { MIN_TLS_VERSION } from '../runtime/tls.ts';
import { KeyUnavailableError } from './errors.ts';

export type KmsConfig = Pick<CommonConfig, 'APP_ENV' | 'AWS_ENDPOINT_URL' | 'AWS_ENDPOINT_URL_KMS'>;

/** KMS answers within milliseconds, and requests of clients wait for it. */
const REQUEST_TIMEOUT_MS = 1_500;
const ATTEMPTS = 2;
/** With the wait for credentials, which the SDK does not limit. */
const CALL_TIMEOUT_MS = 4_000;

/**
 * What KMS says of a data key that it did not encrypt, or not for this context, or that is none. All else is an outage:
 * https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html#API_Decrypt_Errors
 */
const FAULTS_OF_MESSAGE = new Set([
  'InvalidCiphertextException',
  'IncorrectKeyException',
  'ValidationException',
]);

/** What a keyring needs of KMS. Its type is made for SDK 2 as well, and no client of SDK 3 fits it exactly. */
type ClientProvider = NonNullable<
  NonNullable<ConstructorParameters<typeof KmsKeyringNode>[0]>['clientProvider']
>;

/** KMS by region. A keyring keeps only the text of its errors, so those of an outage are noted on their way. */
export class KmsClients {
  readonly #open: (region: string) => KMS;
  readonly #byRegion = new Map<string, KMS>();
  readonly #outages = new AsyncLocalStorage<{ error?: Error }>();

  constructor(Client: typeof KMS, config: KmsConfig) {
    const endpoint = kmsEndpoint(config);
    this.#open = (region) =>
      new Client({
        region,
        maxAttempts: ATTEMPTS,
        requestHandler: {
          connectionTimeout: REQUEST_TIMEOUT_MS,
          requestTimeout: REQUEST_TIMEOUT_MS,
          throwOnRequestTimeout: true,
          httpsAgent: { minVersion: MIN_TLS_VERSION },
        },
        ...(endpoint ? { endpoint } : {}),
        ...(endpoint && config.APP_ENV === 'dev' ? { credentials: emulatorCredentials } : {}),
      });
  }

  /** For a keyring. */
  readonly ofRegion = ((region: string) => {
    const kms = this.#byRegion.get(region) ?? this.#open(region);
    this.#byRegion.set(region, kms);
    return {
      config: kms.config,
      generateDataKey: (input: Parameters<KMS['generateDataKey']>[0]) =>
        this.#note(kms.generateDataKey(input)),
      decrypt: (input: Parameters<KMS['decrypt']>[0]) => this.#note(kms.decrypt(input)),
    };
  }) as unknown as ClientProvider;

  /** @throws {KeyUnavailableError} KMS could not work, whatever the keyring makes of it */
  async withOutages<T>(call: () => Promise<T>): Promise<T> {
    const outage: { error?: Error } = {};
    try {
      return await this.#outages.run(outage, call);
    } catch (error) {
      if (!outage.error) throw error;
      const { name, message } = outage.error;
      throw new KeyUnavailableError(`${name}: ${message}`, { cause: outage.error });
    }
  }

  close(): void {
    for (const kms of this.#byRegion.values()) kms.destroy();
  }

  async #note<T>(request: Promise<T>): Promise<T> {
    try {
      return await within(CALL_TIMEOUT_MS, request, `no answer within ${CALL_TIMEOUT_MS} ms`);
    } catch (error) {
      const outage = this.#outages.getStore();
      if (outage && error instanceof Error && !FAULTS_OF_MESSAGE.has(error.name)) outage.error = error;
      throw error;
    }
  }
}
