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

/** The operations of the hot path. */
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

/** The parts of the SDK's request that are the same for every request of an operation on a queue. */
type Template = { request: Request; signingRegion: string; retries: RetryStrategy; followsClock: boolean };
type RetryStrategy = Exclude<
  Awaited<ReturnType<SQSClientResolvedConfig['retryStrategy']>>,
  { retry: unknown }
> & { mode?: string };
type SdkCommand = Parameters<SQSClient['send']>[0];

/** The outcome of the first attempt, if it was not a 200 answer in JSON. */
type Failure = { error: unknown } | { response: Response };

const ATTEMPT_HEADER = 'amz-sdk-request';
const INVOCATION_HEADER = 'amz-sdk-invocation-id';
/** `Date` has whole seconds, and an answer takes time. */
const CLOCK_TOLERANCE_MS = 2_000;
/** The difference that the SDK treats as a wrong clock. */
const WRONG_CLOCK_MS = 240_000;

const isHot = (command: object): command is HotCommand => HOT.some((Command) => command instanceof Command);

/**
 * Sends a request that succeeds at once, past the SDK's middleware: the fixed part comes from the SDK's first such request,
 * the body from `JSON.stringify`, and the signature is new. Any outcome other than a 200 answer is handed to the SDK as its
 * own first attempt: retries, back-off, typed errors and clock correction are the SDK's. Other middleware runs when a
 * template is made and after a failure, not on the direct path.
 */
export class DirectPath {
  readonly #client: SQSClient;
  readonly #signer: CachingSigner;
  readonly #sendBySdk: SQSClient['send'];
  readonly #templates = new Map<string, Promise<Template>>();

  constructor(client: SQSClient, signer: CachingSigner) {
    this.#client = client;
    this.#signer = signer;
    this.#sendBySdk = client.send.bind(client);
  }

  /** Sends any command. Those off the hot path go through the SDK alone, and so do all if its retries are customised. */
  async send(command: SdkCommand, options: Options = {}): Promise<object> {
    if (!isHot(command)) return this.#sendBySdk(command, options);
    const template = await this.#templateOf(command);
    return template.retries.mode === 'standard'
      ? this.#sendDirectly(command, template, options)
      : this.#sendBySdk(command as SdkCommand, options);
  }

  async #sendDirectly(command: HotCommand, template: Template, options: Options): Promise<object> {
    const { config } = this.#client;
    await config.credentials(); // without them nothing is tried, as by the SDK
    const invocationId = randomUUID();
    const clockOffsetMs = config.systemClockOffset;
    let failure: Failure;
    try {
      const token = await template.retries.acquireInitialRetryToken('');
      const headers = { ...template.request.headers, [INVOCATION_HEADER]: invocationId };
      const body = Buffer.from(toJson(command.input));
      const request = { ...template.request, headers, body } as unknown as Request;
      const signed = await this.#signer.sign(request, {
        signingDate: new Date(Date.now() + clockOffsetMs),
        signingRegion: template.signingRegion,
      });
      const { response } = await config.requestHandler.handle(signed as Request, options);
      const output = response.statusCode === 200 ? parseAnswer(response.body) : undefined;
      if (output) {
        template.retries.recordSuccess(token);
        if (template.followsClock) this.#followClock(response.headers);
        const requestId = response.headers['x-amzn-requestid'];
        const metadata = { httpStatusCode: 200, requestId, attempts: 1, totalRetryDelay: 0 };
        config.logger.info({ commandName: command.constructor.name, metadata });
        output['$metadata'] = metadata;
        return output;
      }
      failure = { response };
    } catch (error) {
      failure = { error };
    }
    // A failure from before the clock was corrected is useless to the SDK: it would not find the clock wrong any more.
    const setRight = Math.abs(config.systemClockOffset - clockOffsetMs) >= WRONG_CLOCK_MS;
    if (!setRight) replay(command, failure, invocationId);
    return this.#sendBySdk(command as SdkCommand, options);
  }

  #templateOf(command: HotCommand): Promise<Template> {
    const key = `${command.constructor.name} ${command.input.QueueUrl}`;
    let template = this.#templates.get(key);
    if (!template) {
      template = this.#makeTemplate(command);
      template.catch(() => this.#templates.delete(key));
      this.#templates.set(key, template);
    }
    return template;
  }

  /** Makes the SDK prepare a request without sending it. */
  async #makeTemplate(first: HotCommand): Promise<Template> {
    const { config } = this.#client;
    const Command = first.constructor as typeof ReceiveMessageCommand;
    const command = new Command({ QueueUrl: first.input.QueueUrl });
    let request: Request | undefined;
    command.middlewareStack.add(
      () => async (args) => {
        request = args.request as Request;
        return { response: {}, output: { $metadata: {} } };
      },
      { step: 'build', priority: 'low', name: 'takeTemplate' },
    );
    await this.#sendBySdk(command);
    if (!request) throw new Error('the SDK prepared no request');
    // The length belongs to another body. The agent header for browsers, which cannot set user-agent, only repeats it.
    const { 'content-length': _, 'x-amz-user-agent': __, ...headers } = request.headers;
    headers[ATTEMPT_HEADER] = `attempt=1; max=${await config.maxAttempts()}`;
    return {
      request: { ...request, headers } as Request,
      signingRegion: await config.region(),
      retries: (await config.retryStrategy()) as RetryStrategy,
      followsClock: (await config.disableClockSkewCorrection()) !== true,
    };
  }

  /** As the SDK does after each answer, but ignores differences too small to be drift. */
  #followClock({ date, age }: Record<string, string | undefined>): void {
    if (date === undefined || age !== undefined) return;
    const { config } = this.#client;
    const offsetMs = Date.parse(date) - Date.now();
    if (Math.abs(offsetMs - config.systemClockOffset) > CLOCK_TOLERANCE_MS)
      config.systemClockOffset = offsetMs;
  }
}

/** Makes the SDK's first attempt end as ours did, without another request. */
function replay(command: HotCommand, failure: Failure, invocationId: string): void {
  const { middlewareStack } = command as ReceiveMessageCommand;
  let pending: Failure | undefined = failure;
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
