import { isDeepStrictEqual } from 'node:util';
import type { KeyringNode, NodeAlgorithmSuite, NodeMaterialsManager } from '@aws-crypto/client-node';
import type { CommonConfig } from '../runtime/config.ts';
import type { Logger } from '../runtime/logger.ts';
import { SecretFile, type SecretObserver } from '../runtime/secret-file.ts';
import { KeyUnavailableError, NoKeyError, UndecryptableError } from './errors.ts';
import { type LocalKey, parseKeyFile } from './key-file.ts';
import { KmsClients, type KmsConfig } from './kms.ts';

/** Encrypts and decrypts what is in messages, in the format of the AWS Encryption SDK. */
export type MessageCipher = {
  /** @throws {KeyUnavailableError} */
  encrypt(plaintext: Uint8Array): Promise<Buffer>;
  /**
   * @throws {UndecryptableError} nobody can ever decrypt it
   * @throws {NoKeyError} this process was not given its key
   * @throws {KeyUnavailableError} an outage
   */
  decrypt(ciphertext: Uint8Array): Promise<Buffer>;
  close(): void;
};

/** Lets a call to the keeper of keys through, or, in an outage, throws without making it. */
export type Guard = <T>(call: () => Promise<T>) => Promise<T>;

export type CipherConfig = KmsConfig &
  Pick<
    CommonConfig,
    | 'MESSAGE_ENCRYPTION'
    | 'MESSAGE_ENCRYPTION_KEY_FILE'
    | 'MESSAGE_ENCRYPTION_KMS_KEYS'
    | 'MESSAGE_ENCRYPTION_LOST_KEYS'
  >;

export type CipherOptions = {
  config: CipherConfig;
  logger: Logger;
  /** Who hears of the key file, besides `logger`. */
  keyFile?: Pick<SecretObserver, 'errors' | 'observeAge'>;
  guard?: Guard;
  /** Largest content that is decrypted. */
  maxBytes: number;
};

/** How long a data key is used, and for how much: the less, the more calls of KMS, on both sides. */
const DATA_KEY = { maxAge: 300_000, maxMessagesEncrypted: 1_000_000, maxBytesEncrypted: 10_000_000_000 };
/** Each producer process has a data key per {@link DATA_KEY.maxAge}; a queue may hold those of days. */
const CACHED_DATA_KEYS = 1_000;
const KEY_NAMESPACE = 'order-pipeline';
/** Bytes of a raw AES keyring's own after the id of its key: two lengths and the nonce. */
const AFTER_KEY_ID = 20;
const SCHEMA = '3';

/** Authenticated with each message, and readable: so nothing personal. */
const contextOf = ({ APP_ENV }: CipherConfig) => ({ environment: APP_ENV, schema: SCHEMA });

/** Whether messages are encrypted, or may be decrypted by a key that is left from when they were. */
export const hasCipher = (config: CipherConfig): boolean =>
  config.MESSAGE_ENCRYPTION !== 'off' ||
  config.MESSAGE_ENCRYPTION_KEY_FILE !== undefined ||
  config.MESSAGE_ENCRYPTION_KMS_KEYS.length > 0;

/**
 * Loads the AWS Encryption SDK (38 MB), and the keys. The suite commits to its key and is not signed: who may decrypt
 * may encrypt too. https://docs.aws.amazon.com/encryption-sdk/latest/developer-guide/supported-algorithms.html
 * @throws {StartupError} the key file cannot be used
 */
export async function openMessageCipher(options: CipherOptions): Promise<MessageCipher> {
  const { config, guard = (call) => call(), maxBytes } = options;
  const sdk = await import('@aws-crypto/client-node');
  const { encrypt, decrypt } = sdk.buildClient({
    commitmentPolicy: sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT,
    maxEncryptedDataKeys: 1,
  });
  const suiteId = sdk.AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY;
  const wrappingSuite = sdk.RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING;
  const encryptionContext = contextOf(config);
  const lost = new Set(config.MESSAGE_ENCRYPTION_LOST_KEYS);
  const cache = sdk.getLocalCryptographicMaterialsCache<NodeAlgorithmSuite>(CACHED_DATA_KEYS);
  const kms = new KmsClients(sdk.KMS, config);

  /** Asks the keyring, which may ask KMS, only now and then. */
  const managerOf = (keyring: KeyringNode): NodeMaterialsManager => {
    const backing = new sdk.NodeDefaultCryptographicMaterialsManager(keyring);
    const ask = <T>(call: () => Promise<T>) => guard(() => kms.withOutages(call));
    return shareFirst(
      new sdk.NodeCachingMaterialsManager({
        ...DATA_KEY,
        cache,
        backingMaterials: {
          getEncryptionMaterials: (request) => ask(() => backing.getEncryptionMaterials(request)),
          decryptMaterials: (request) => ask(() => backing.decryptMaterials(request)),
        },
      }),
    );
  };
  const kmsKeys: Keys = new Map(
    config.MESSAGE_ENCRYPTION_KMS_KEYS.map((arn) => [
      arn,
      managerOf(new sdk.KmsKeyringNode({ generatorKeyId: arn, clientProvider: kms.ofRegion })),
    ]),
  );
  const localManager = ({ id, key }: LocalKey) =>
    managerOf(
      new sdk.RawAesKeyringNode({
        keyNamespace: KEY_NAMESPACE,
        keyName: id,
        unencryptedMasterKey: Uint8Array.from(key),
        wrappingSuite,
      }),
    );
  const file = watchKeys(
    options,
    (text) => new Map(parseKeyFile(text).map((each) => [each.id, localManager(each)])),
  );
  const current = (): NodeMaterialsManager => {
    const isLocal = config.MESSAGE_ENCRYPTION === 'local' || kmsKeys.size === 0;
    const [manager] = (isLocal ? file?.value : kmsKeys)?.values() ?? [];
    if (!manager) throw new NoKeyError('no key to encrypt with');
    return manager;
  };
  /** Judges a message by its header before anybody is asked for its key. */
  const judge: NodeMaterialsManager = {
    getEncryptionMaterials: (request) => current().getEncryptionMaterials(request),
    decryptMaterials: (request) => {
      const {
        encryptionContext: found,
        encryptedDataKeys: [dataKey],
      } = request;
      if (!isDeepStrictEqual({ ...found }, encryptionContext))
        throw new UndecryptableError('encrypted for another environment or schema');
      if (!dataKey) throw new UndecryptableError('it names no key');
      const { providerId, providerInfo, rawInfo = Buffer.alloc(0) } = dataKey;
      const isLocal = providerId === KEY_NAMESPACE;
      const id = isLocal ? Buffer.from(rawInfo).subarray(0, -AFTER_KEY_ID).toString() : providerInfo;
      if (lost.has(id)) throw new UndecryptableError(`key ${id} is declared lost`);
      const manager = (isLocal ? file?.value : kmsKeys)?.get(id);
      if (!manager) throw new NoKeyError('encrypted with a key that this process does not have');
      return manager.decryptMaterials(request);
    },
  };

  return {
    encrypt: async (plaintext) => (await encrypt(judge, plaintext, { suiteId, encryptionContext })).result,
    decrypt: async (ciphertext) => {
      try {
        return (await decrypt(judge, ciphertext, { maxBodySize: maxBytes })).plaintext;
      } catch (cause) {
        const isJudged = [UndecryptableError, NoKeyError, KeyUnavailableError].some(
          (kind) => cause instanceof kind,
        );
        throw isJudged ? cause : new UndecryptableError('the content fails its authentication', { cause });
      }
    },
    close: () => {
      file?.close();
      kms.close();
    },
  };
}

/** By id; the first one encrypts. */
type Keys = ReadonlyMap<string, NodeMaterialsManager>;

function watchKeys(
  { config, logger, keyFile }: CipherOptions,
  parse: (text: string) => Keys,
): SecretFile<Keys> | undefined {
  const { MESSAGE_ENCRYPTION_KEY_FILE: file } = config;
  if (file === undefined) return undefined;
  const variable = 'MESSAGE_ENCRYPTION_KEY_FILE';
  return new SecretFile({ secret: 'encryption-keys', variable, file, parse, logger, ...keyFile });
}

/**
 * A manager of which those who need a new data key at the same time wait for one, and share its failure; each would
 * ask for its own.
 */
function shareFirst(manager: NodeMaterialsManager): NodeMaterialsManager {
  let first: Promise<unknown> | undefined;
  return {
    getEncryptionMaterials: async (request) => {
      if (first) await first;
      const materials = manager.getEncryptionMaterials(request);
      first ??= materials;
      try {
        return await materials;
      } finally {
        if (first === materials) first = undefined;
      }
    },
    decryptMaterials: (request) => manager.decryptMaterials(request),
  };
}
