import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

export const KMS_KEY = 'arn:aws:kms:ap-northeast-2:000000000000:key/1';

type Call = { operation: string; KeyId: string; CiphertextBlob?: string; EncryptionContext: object };

/** The two calls of KMS that encryption needs; a data key is "encrypted" by remembering it. */
export class FakeKms {
  readonly calls: Call[] = [];
  /** Asked first: the name of the error with which KMS answers, or `hang`. */
  answer: (call: Call) => string | undefined = () => undefined;
  readonly #dataKeys = new Map<string, { KeyId: string; Plaintext: string; context: string }>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  static async start(): Promise<FakeKms> {
    const kms = new FakeKms();
    await new Promise<void>((resolve) => kms.#server.listen(0, '127.0.0.1', resolve));
    return kms;
  }

  /** What a service is told to encrypt with it. */
  get env() {
    const { port } = this.#server.address() as AddressInfo;
    return {
      MESSAGE_ENCRYPTION: 'kms' as const,
      MESSAGE_ENCRYPTION_KMS_KEYS: KMS_KEY,
      AWS_ENDPOINT_URL_KMS: `http://127.0.0.1:${port}`,
    };
  }

  [Symbol.dispose](): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const operation = String(request.headers['x-amz-target']).split('.')[1] ?? '';
    const call = { operation, ...((await json(request)) as Omit<Call, 'operation'>) };
    this.calls.push(call);
    const failure = this.answer(call);
    if (failure === 'hang') return;
    const result = failure ? { __type: failure, message: failure } : this.#work(call);
    response.writeHead('__type' in result ? 400 : 200, { 'content-type': 'application/x-amz-json-1.1' });
    response.end(JSON.stringify(result));
  }

  #work({ operation, KeyId, CiphertextBlob = '', EncryptionContext }: Call) {
    const context = JSON.stringify(EncryptionContext);
    if (operation === 'GenerateDataKey') {
      const Plaintext = randomBytes(32).toString('base64');
      const blob = randomBytes(100).toString('base64');
      this.#dataKeys.set(blob, { KeyId, Plaintext, context });
      return { KeyId, Plaintext, CiphertextBlob: blob };
    }
    const known = this.#dataKeys.get(CiphertextBlob);
    if (!known || known.context !== context) return { __type: 'InvalidCiphertextException' };
    return { KeyId: known.KeyId, Plaintext: known.Plaintext };
  }
}
