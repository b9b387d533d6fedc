import type { SQSClientConfig } from '@aws-sdk/client-sqs';
import { type Dispatcher, Pool } from 'undici';
import { MIN_TLS_VERSION } from '../../runtime/tls.ts';

type Handler = Extract<SQSClientConfig['requestHandler'], { handle: unknown }>;
type Request = Parameters<Handler['handle']>[0];
type Options = NonNullable<Parameters<Handler['handle']>[1]>;
type Answer = Awaited<ReturnType<Handler['handle']>>;

/** `requestTimeoutMs` counts from the call to the last byte of the answer, the wait for a connection included. */
export type HttpLimits = { connectTimeoutMs: number; requestTimeoutMs: number; maxSockets: number };

const USER_AGENT = 'order-pipeline aws-sdk-js/3 undici/7';
/** Ten messages of 1 MiB in JSON, each character escaped (`\u0001`), with some room. Only a broken endpoint sends more. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** Idle connections end before SQS ends them while a request is on its way. */
const KEEP_ALIVE_MS = 30_000;

/**
 * HTTP/1.1 through undici's pools, one per origin. Answers hold the whole body as bytes. Errors have the names of the SDK's
 * own handler, because the SDK decides on retries by name and code. As there, proxies of the environment are not used.
 */
export class UndiciHandler {
  readonly metadata = { handlerProtocol: 'http/1.1' };
  readonly #limits: HttpLimits;
  readonly #pools = new Map<string, Pool>();

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  handle(request: Request, { abortSignal, requestTimeout }: Options = {}): Promise<Answer> {
    const signal = abortSignal as AbortSignal | undefined;
    if (signal?.aborted) return Promise.reject(abortError(signal));
    return new Promise((resolve, reject) => {
      const timeoutMs = requestTimeout ?? this.#limits.requestTimeoutMs;
      const onTimeout = () => exchange.fail(transient(`no answer within ${timeoutMs} ms`, 'ETIMEDOUT'));
      const onAbort = () => exchange.fail(abortError(signal as AbortSignal));
      const timer = setTimeout(onTimeout, timeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      const exchange = new Exchange(resolve, reject, () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      });
      const { method, path, headers, query, body } = request;
      headers['user-agent'] ??= USER_AGENT;
      this.#poolOf(request).dispatch({ method, path, headers, query, body }, exchange);
    });
  }

  /** Fails the requests under way. */
  destroy(): void {
    for (const pool of this.#pools.values()) void pool.destroy();
    this.#pools.clear();
  }

  updateHttpClientConfig(): void {}
  httpHandlerConfigs() {
    return {};
  }

  #poolOf({ protocol, hostname, port }: Request): Pool {
    const origin = port ? `${protocol}//${hostname}:${port}` : `${protocol}//${hostname}`;
    let pool = this.#pools.get(origin);
    if (!pool) {
      pool = new Pool(origin, {
        connections: this.#limits.maxSockets,
        connect: { timeout: this.#limits.connectTimeoutMs, minVersion: MIN_TLS_VERSION },
        keepAliveTimeout: KEEP_ALIVE_MS,
        // The time-out of the whole request is enough and exact.
        headersTimeout: 0,
        bodyTimeout: 0,
        maxResponseSize: MAX_ANSWER_BYTES,
      });
      this.#pools.set(origin, pool);
    }
    return pool;
  }
}

class Exchange implements Dispatcher.DispatchHandler {
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: Error) => void;
  readonly #done: () => void;
  #controller: Dispatcher.DispatchController | undefined;
  #failure: Error | undefined;
  #chunks: Buffer[] = [];
  #status = 0;
  #reason: string | undefined;
  #headers: Record<string, string> = {};

  constructor(resolve: (answer: Answer) => void, reject: (error: Error) => void, done: () => void) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#done = done;
  }

  fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#done();
    this.#reject(error);
    this.#controller?.abort(error);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#failure) controller.abort(this.#failure); // failed while it waited for a connection
  }

  onResponseStart(_: unknown, status: number, headers: object, reason?: string): void {
    this.#status = status;
    this.#headers = headers as Record<string, string>;
    this.#reason = reason;
  }

  onResponseData(_: unknown, chunk: Buffer): void {
    this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    if (this.#failure) return;
    this.#done();
    const [first, ...more] = this.#chunks;
    const body = first && more.length === 0 ? first : Buffer.concat(this.#chunks);
    const response = { statusCode: this.#status, reason: this.#reason, headers: this.#headers, body };
    this.#resolve({ response } as Answer);
  }

  onResponseError(_: unknown, error: Error & { code?: string }): void {
    this.fail(asNodeError(error));
  }
}

const NODE_CODES: Record<string, string> = {
  UND_ERR_CONNECT_TIMEOUT: 'ETIMEDOUT',
  UND_ERR_SOCKET: 'ECONNRESET',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'ECONNRESET',
};

function asNodeError(error: Error & { code?: string }): Error {
  const { code = '' } = error;
  if (NODE_CODES[code]) return transient(error.message, NODE_CODES[code], error);
  return /^(ECONNRESET|EPIPE|ETIMEDOUT)$/.test(code) ? transient(error.message, code, error) : error;
}

const transient = (message: string, code: string, cause?: Error) =>
  Object.assign(new Error(message, { cause }), { name: 'TimeoutError', code });

/** The same error as the SDK's own handler. */
export const abortError = ({ reason }: AbortSignal) =>
  Object.assign(new Error('Request aborted', { cause: reason }), { name: 'AbortError' });
