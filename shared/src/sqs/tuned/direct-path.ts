import { randomUUID } from 'node:crypto';
import {
  ChangeMessageVisibilityBatchCommand,
  DeleteMessageBatchCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  type SQSClient,
  type SQSClientResolvedConfig,
} from '@aws-sdk/client-sqs';
import type { CachingSigner } from './caching-signer.ts';
import { parseAnswer, toJson } from './json-body.ts';

/** The operations that carry the load. */
const HOT = [
  SendMessageBatchCommand,
  ReceiveMessageCommand,
  DeleteMessageBatchCommand,
  ChangeMessageVisibilityBatchCommand,
] as const;

type Handler = SQSClientResolvedConfig['requestHandler'];
type Request = Parameters<Handler['handle']>[0];
type Options = Parameters<Handler['handle']>[1];
type Response = Awaited<ReturnType<Handler['handle']>>['response'];
type HotCommand = InstanceType<(typeof HOT)[number]>;

/** What the SDK makes of an operation on a queue, but for what differs from request to request. */
type Mould = { request: Request; signingRegion: string; retries: RetryStrategy; followsClock: boolean };
type RetryStrategy = Exclude<
  Awaited<ReturnType<SQSClientResolvedConfig['retryStrategy']>>,
  { retry: unknown }
> & { mode?: string };
type SdkCommand = Parameters<SQSClient['send']>[0];

/** What came of the first attempt, when that was not an answer of 200 in JSON. */
type Setback = { error: unknown } | { response: Response };

const ATTEMPT_HEADER = 'amz-sdk-request';
const INVOCATION_HEADER = 'amz-sdk-invocation-id';
/** `Date` counts whole seconds, and an answer takes its time. */
const CLOCK_TOLERANCE_MS = 2_000;
/** What the SDK takes for a wrong clock. */
const WRONG_CLOCK_MS = 240_000;

const isHot = (command: object): command is HotCommand => HOT.some((Command) => command instanceof Command);

/**
 * The way of a request that succeeds at once, past the SDK's middleware: its fixed part is what the SDK made of the
 * first such request, its body is `JSON.stringify`, and its signature is new. Everything else than an answer of 200 is
 * handed to the SDK as the outcome of its own first attempt: retries, back-off, typed errors and the correction of a
 * wrong clock are the SDK's. Middleware of others is asked for a mould and after a setback, not on the direct path.
 */
export class DirectPath {
  readonly #client: SQSClient;
  readonly #signer: CachingSigner;
  readonly #sendBySdk: SQSClient['send'];
  readonly #moulds = new Map<string, Promise<Mould>>();

  constructor(client: SQSClient, signer: CachingSigner) {
    this.#client = client;
    this.#signer = signer;
    this.#sendBySdk = client.send.bind(client);
  }

  /** Sends any command: one that is not hot by the SDK alone, and so all where its retries are not the usual ones. */
  async send(command: SdkCommand, options: Options = {}): Promise<object> {
    if (!isHot(command)) return this.#sendBySdk(command, options);
    const mould = await this.#mouldOf(command);
    return mould.retries.mode === 'standard'
      ? this.#sendDirectly(command, mould, options)
      : this.#sendBySdk(command as SdkCommand, options);
  }

  async #sendDirectly(command: HotCommand, mould: Mould, options: Options): Promise<object> {
    const { config } = this.#client;
    await config.credentials(); // without them nothing is tried, as by the SDK
    const invocationId = randomUUID();
    const clockOffsetMs = config.systemClockOffset;
    let setback: Setback;
    try {
      const token = await mould.retries.acquireInitialRetryToken('');
      const headers = { ...mould.request.headers, [INVOCATION_HEADER]: invocationId };
      const body = Buffer.from(toJson(command.input));
      const request = { ...mould.request, headers, body } as unknown as Request;
      const signed = await this.#signer.sign(request, {
        signingDate: new Date(Date.now() + clockOffsetMs),
        signingRegion: mould.signingRegion,
      });
      const { response } = await config.requestHandler.handle(signed as Request, options);
      const output = response.statusCode === 200 ? parseAnswer(response.body) : undefined;
      if (output) {
        mould.retries.recordSuccess(token);
        if (mould.followsClock) this.#followClock(response.headers);
        const requestId = response.headers['x-amzn-requestid'];
        const metadata = { httpStatusCode: 200, requestId, attempts: 1, totalRetryDelay: 0 };
        config.logger.info({ commandName: command.constructor.name, metadata });
        output['$metadata'] = metadata;
        return output;
      }
      setback = { response };
    } catch (error) {
      setback = { error };
    }
    // A failure from before a wrong clock was set right says nothing: the SDK would not find it wrong any more.
    const setRight = Math.abs(config.systemClockOffset - clockOffsetMs) >= WRONG_CLOCK_MS;
    if (!setRight) replay(command, setback, invocationId);
    return this.#sendBySdk(command as SdkCommand, options);
  }

  #mouldOf(command: HotCommand): Promise<Mould> {
    const key = `${command.constructor.name} ${command.input.QueueUrl}`;
    let mould = this.#moulds.get(key);
    if (!mould) {
      mould = this.#makeMould(command);
      mould.catch(() => this.#moulds.delete(key));
      this.#moulds.set(key, mould);
    }
    return mould;
  }

  /** Has the SDK prepare a request that is not sent. */
  async #makeMould(first: HotCommand): Promise<Mould> {
    const { config } = this.#client;
    const Command = first.constructor as typeof ReceiveMessageCommand;
    const command = new Command({ QueueUrl: first.input.QueueUrl });
    let request: Request | undefined;
    command.middlewareStack.add(
      () => async (args) => {
        request = args.request as Request;
        return { response: {}, output: { $metadata: {} } };
      },
      { step: 'build', priority: 'low', name: 'takeMould' },
    );
    await this.#sendBySdk(command);
    if (!request) throw new Error('the SDK prepared no request');
    // The length is of another body, and the agent of browsers, which may not set their own, is the same as the other.
    const { 'content-length': _, 'x-amz-user-agent': __, ...headers } = request.headers;
    headers[ATTEMPT_HEADER] = `attempt=1; max=${await config.maxAttempts()}`;
    return {
      request: { ...request, headers } as Request,
      signingRegion: await config.region(),
      retries: (await config.retryStrategy()) as RetryStrategy,
      followsClock: (await config.disableClockSkewCorrection()) !== true,
    };
  }

  /** As the SDK does after each answer, but for the little that is no drift. */
  #followClock({ date, age }: Record<string, string | undefined>): void {
    if (date === undefined || age !== undefined) return;
    const { config } = this.#client;
    const offsetMs = Date.parse(date) - Date.now();
    if (Math.abs(offsetMs - config.systemClockOffset) > CLOCK_TOLERANCE_MS)
      config.systemClockOffset = offsetMs;
  }
}

/** Has the SDK's first attempt end as ours did, without another request. */
function replay(command: HotCommand, setback: Setback, invocationId: string): void {
  const { middlewareStack } = command as ReceiveMessageCommand;
  let pending: Setback | undefined = setback;
  middlewareStack.add(
    (next) => async (args) => {
      if (!pending) {
        (args.request as Request).headers[INVOCATION_HEADER] = invocationId;
        return next(args);
      }
      const first = pending;
      pending = undefined;
      if ('error' in first) throw first.error;
      return { response: first.response } as never;
    },
    { step: 'deserialize', priority: 'low', name: 'replayFirstAttempt', override: true },
  );
}
