import { createHmac, createSecretKey, hash, type KeyObject } from 'node:crypto';
import type { SQSClientConfig, SQSClientResolvedConfig } from '@aws-sdk/client-sqs';

type Signer = Extract<SQSClientConfig['signer'], { sign: unknown }>;
type Sign = Parameters<Signer['sign']>;

/**
 * Signature Version 4 of a POST without a query (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
 * Signs what must be signed (host, content type and headers that begin with x-amz-) and caches the key, which is valid for
 * a day. Every attempt asks for the credentials and uses the SDK's date, so refreshed credentials and a corrected clock
 * apply at once.
 */
export class CachingSigner implements Signer {
  readonly #config: () => Pick<SQSClientResolvedConfig, 'credentials' | 'region'>;
  #day: { secret: string; scope: string; key: KeyObject } | undefined;

  constructor(config: () => Pick<SQSClientResolvedConfig, 'credentials' | 'region'>) {
    this.#config = config;
  }

  async sign(request: Sign[0], { signingDate = new Date(), signingRegion }: Sign[1] = {}): Promise<Sign[0]> {
    const { credentials, region } = this.#config();
    const { accessKeyId, secretAccessKey, sessionToken } = await credentials();
    const date = new Date(signingDate).toISOString().replace(/[-:]|\.\d+/g, '');
    const scope = `${date.slice(0, 8)}/${signingRegion ?? (await region())}/sqs/aws4_request`;

    const headers: Record<string, string> = { ...request.headers, 'x-amz-date': date };
    if (sessionToken) headers['x-amz-security-token'] = sessionToken;
    const signed = Object.keys(headers).filter(mustBeSigned).sort();
    const signedNames = signed.join(';');
    let canonical = `POST\n${canonicalPath(request.path)}\n\n`;
    for (const name of signed) canonical += `${name}:${headers[name]}\n`;
    canonical += `\n${signedNames}\n${hash('sha256', request.body ?? '')}`;
    const toSign = `AWS4-HMAC-SHA256\n${date}\n${scope}\n${hash('sha256', canonical)}`;
    const signature = createHmac('sha256', this.#keyOf(secretAccessKey, scope)).update(toSign).digest('hex');
    headers['authorization'] =
      `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signedNames}, Signature=${signature}`;
    return { ...request, headers };
  }

  /** A key object: from bytes Node would make one at every use, at five times the cost of the signature. */
  #keyOf(secret: string, scope: string): KeyObject {
    if (this.#day?.secret !== secret || this.#day.scope !== scope) {
      let bytes = Buffer.from(`AWS4${secret}`);
      for (const part of scope.split('/')) bytes = createHmac('sha256', bytes).update(part).digest();
      this.#day = { secret, scope, key: createSecretKey(bytes) };
    }
    return this.#day.key;
  }
}

const mustBeSigned = (name: string) =>
  name === 'host' || name === 'content-type' || name.startsWith('x-amz-');

/** Escaped once more than in the request itself. */
const canonicalPath = (path: string) =>
  path === '/'
    ? path
    : encodeURIComponent(path.replace(/\/+/g, '/'))
        .replace(/%2F/g, '/')
        .replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
